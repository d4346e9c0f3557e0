"""The guard as services see it: a process of its own that freezes vms when this host may no longer run them."""

from __future__ import annotations

from typing import Protocol

from zugvogel.domain.guard import GuardOrders, GuardReport


class Guard(Protocol):
    """It only freezes; the agent thaws, after it has linked the next epoch of the vm's lease."""

    def tell(self, orders: GuardOrders) -> None:
        """Never blocks on a datastore, never raises."""

    def report(self) -> GuardReport | None:
        """Its last round. None: no guard runs."""
