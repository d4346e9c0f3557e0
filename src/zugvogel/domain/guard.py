"""What the guard of a host is told, and what it tells (architecture, "Host beats on the datastore and the
guard")."""

from __future__ import annotations

from zugvogel.domain.base import Model, Name


class GuardedVm(Model):
    """A QEMU process of this host: `start` is its start time in clock ticks, so that a pid used again is not taken
    for it."""

    vm: Name
    pid: int
    start: int
    datastore: Name


class GuardOrders(Model):
    """Told anew with each good beat. Instants are CLOCK_BOOTTIME in seconds. `good_at`: datastore -> start of this
    host's last good beat there. `heard_at`: when this host last heard another agent."""

    is_armed: bool
    freeze_after_s: float
    good_at: dict[str, float] = {}
    heard_at: float | None = None
    vms: tuple[GuardedVm, ...] = ()


class GuardReport(Model):
    """`ticked_at`: CLOCK_BOOTTIME of the guard's last round. `frozen`: vm -> since when it keeps it stopped.
    `has_watchdog`: it feeds one that resets the host in time. `is_realtime`, `is_memory_locked`: granted by the
    kernel. `trouble`: what it cannot do, in a sentence."""

    ticked_at: float
    frozen: dict[str, float] = {}
    has_watchdog: bool = False
    is_realtime: bool = False
    is_memory_locked: bool = False
    trouble: str = ""
