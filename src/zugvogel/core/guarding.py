"""What the guard decides in each round: which vms it freezes, and whether the watchdog may be fed.

The guard is a process of its own with locked memory, so this module imports nothing that is large; the shapes
below are those of `zugvogel.domain.guard`. Instants are seconds on one clock of one host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

ORDERS_FILE = "orders.json"
REPORT_FILE = "report.json"
LOCK_FILE = "lock"
"""In the directory of the guard: what it is told, what it tells, and what only one guard can lock."""

_WATCHDOG_PART = 1 / 2
_IN_TIME_PART = 2 / 3
"""Freezing comes after 0.6 T, so these parts of it are 0.3 T and 0.4 T."""


class Vm(Protocol):
    @property
    def datastore(self) -> str: ...


V_co = TypeVar("V_co", bound=Vm, covariant=True)


class Orders(Protocol[V_co]):
    @property
    def is_armed(self) -> bool: ...
    @property
    def freeze_after_s(self) -> float: ...
    @property
    def good_at(self) -> Mapping[str, float]: ...
    @property
    def heard_at(self) -> float | None: ...
    @property
    def vms(self) -> Sequence[V_co]: ...


def is_stale(orders: Orders[Vm], datastore: str, now: float) -> bool:
    """Others may soon count this host as dead there: it has begun no beat that succeeded for `freeze_after_s`.
    So it is where no beat is known, or one of the future is: what cannot be is no proof of life."""
    return not _is_fresh(orders.good_at.get(datastore), orders, now)


def vms_to_freeze(orders: Orders[V_co], now: float) -> list[V_co]:
    """The vms that must stand still now, whether they do already or not."""
    if not orders.is_armed:
        return []
    return [vm for vm in orders.vms if is_stale(orders, vm.datastore, now)]


def may_feed_watchdog(orders: Orders[Vm], now: float) -> bool:
    """Not when the beat on a datastore with vms *and* all heartbeats are lost: then others may count this host as
    dead, and only a reset ends the I/O that its kernel has already taken. One sign of life on either path is
    enough to feed on: nobody takes over then."""
    if not orders.is_armed or _is_fresh(orders.heard_at, orders, now):
        return True
    return not any(is_stale(orders, vm.datastore, now) for vm in orders.vms)


def watchdog_timeout_s(freeze_after_s: float) -> int:
    """What the watchdog is set to; watchdogs know whole seconds."""
    return max(1, int(freeze_after_s * _WATCHDOG_PART))


def is_watchdog_in_time(timeout_s: int, freeze_after_s: float) -> bool:
    """It resets the host before T, counted like the freezing from the last good beat, is over."""
    return 0 < timeout_s <= freeze_after_s * _IN_TIME_PART


def _is_fresh(instant: float | None, orders: Orders[Vm], now: float) -> bool:
    return instant is not None and 0.0 <= now - instant < orders.freeze_after_s
