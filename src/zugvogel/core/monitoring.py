"""Whether a vm that failed by itself while its host lives is restarted (VM monitoring), and when a silent guest
counts as dead.

A guest's agent is missed only once it has answered, and only while it keeps its port open: an agent that was
ended, or a guest that boots, has closed it, and a kernel that closes a port lives. One that is missed for
`failure_interval_s` is dead if it has also neither used a disk nor sent a packet for `quiet_interval_s`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from zugvogel.domain.ha import Monitoring


class Trouble(StrEnum):
    """Why a vm cannot go on by itself."""

    PANICKED = "its guest panicked"
    CRASHED = "QEMU stopped it, since its vCPU came into a state that cannot go on (internal error)"
    WATCHDOG = "its guest's watchdog fired"
    SILENT = "its guest is silent"


@dataclass(frozen=True, slots=True)
class Policy:
    """What is asked for a vm now. `is_enabled`: high availability is. `is_protected`: it is wanted running and has
    a restart priority. At most `max_restarts` within `window_s`."""

    is_enabled: bool
    is_protected: bool
    level: Monitoring
    max_restarts: int
    window_s: float


@dataclass(frozen=True, slots=True)
class RestartVm:
    why: str


@dataclass(frozen=True, slots=True)
class LeaveVm:
    """It is told and nothing is done: the guest does what it does by itself."""

    why: str


def decide(trouble: Trouble, policy: Policy, restarted_at: Sequence[float], now: float) -> RestartVm | LeaveVm:
    """`restarted_at`: instants of earlier restarts of this vm by this host."""
    if not policy.is_enabled:
        return LeaveVm("high availability is not enabled")
    if not policy.is_protected:
        return LeaveVm("it has no restart priority, or is not wanted running")
    if not covers(policy.level, trouble):
        return LeaveVm(f"its monitoring is {policy.level}")
    lately = sum(1 for at in restarted_at if now - at < policy.window_s)
    if lately >= policy.max_restarts:
        return LeaveVm(
            f"it was restarted {lately} times within {policy.window_s:.0f} s (das.vmmonitoring.maxfailures)"
        )
    return RestartVm(str(trouble))


def covers(level: Monitoring, trouble: Trouble) -> bool:
    if trouble in {Trouble.WATCHDOG, Trouble.SILENT}:
        return level is Monitoring.GUEST
    return level is not Monitoring.OFF


def at_next_start(before: Monitoring, after: Monitoring) -> str:
    """What of a change waits for the next start of a vm, in a sentence; empty: nothing. A running vm keeps the
    devices it was started with, so that it can be moved."""
    waiting = [
        device
        for device, trouble in (("panic device", Trouble.PANICKED), ("watchdog", Trouble.WATCHDOG))
        if covers(after, trouble) and not covers(before, trouble)
    ]
    return f"it gets its {' and '.join(waiting)} at its next start" if waiting else ""


# the guest's agent -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limits:
    """`quiet_interval_s` 0: what the guest reads, writes and sends is not looked at."""

    failure_interval_s: float
    quiet_interval_s: float


@dataclass(frozen=True, slots=True)
class Pulse:
    """What is known of a guest, instants on its host's clock. `heard_at`: its agent's last answer; None: it is not
    missed. `quiet_since`: its counters were seen at `io_count` and not to grow since; None: not looked at."""

    heard_at: float | None = None
    io_count: int = 0
    quiet_since: float | None = None

    def answered(self, now: float) -> Pulse:
        return Pulse(heard_at=now)

    def closed(self) -> Pulse:
        """Its agent is not there: it is missed only after it has answered again."""
        return Pulse()

    def rested(self, now: float) -> Pulse:
        """It could not answer, or could not be asked, until now: no fault of its own."""
        return Pulse() if self.heard_at is None else Pulse(heard_at=now)

    def unanswered(self, io_count: int, now: float) -> Pulse:
        if self.quiet_since is None or io_count != self.io_count:
            return Pulse(self.heard_at, io_count, now)
        return self

    def is_dead(self, limits: Limits, now: float) -> bool:
        if self.heard_at is None or self.quiet_since is None:
            return False
        is_missed = now - self.heard_at >= limits.failure_interval_s
        return is_missed and now - self.quiet_since >= limits.quiet_interval_s
