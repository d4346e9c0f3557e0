"""The guard as services see it: a process of its own that freezes vms when this host may no longer run them."""

from __future__ import annotations

from typing import Protocol

from zugvogel.domain.guard import GuardOrders, GuardReport


class Guard(Protocol):
    """It only freezes; the agent thaws, after it has linked the next epoch of the vm's lease."""

    def tell(self, orders: GuardOrders) -> None:
        """Never blocks on a datastore, never raises."""

    def told(self) -> GuardOrders | None:
        """What it was told last, perhaps by an earlier agent of this boot. None: nothing yet."""

    def report(self) -> GuardReport | None:
        """Its last round; `ticked_at` says how long ago that was. None: none ran since the boot."""

    def ensure_running(self) -> None:
        """Start it where none runs, replace one that hangs. Returns at once, never raises: its next report tells
        whether it ticks."""
