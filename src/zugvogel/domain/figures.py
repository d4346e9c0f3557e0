"""Figures of one host's agent, for monitoring: what is so now, and what was counted since the agent started."""

from __future__ import annotations

from zugvogel.domain.base import HostName, Model, Name
from zugvogel.domain.ha import Capacity
from zugvogel.domain.host import Verdict, VmReport
from zugvogel.domain.task import Severity, TaskState
from zugvogel.domain.vm import VmState


class Spread(Model):
    """How values spread: `counts[i]` were at most `bounds[i]` and above the bound before it, the last of `counts`
    above all bounds. `total` is the sum of the values."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float = 0.0


class BeatFigures(Model):
    """This host's own beat on a datastore. `age_s`: since the last good one began; None: there was none yet.
    `latency_s`: what the last one took, or what the one under way takes, if that is longer already."""

    datastore: Name
    is_usable: bool
    age_s: float | None
    latency_s: float


class GuardFigures(Model):
    """`frozen`: vms it keeps stopped. `is_watched`: a watchdog would reset the host without it."""

    is_armed: bool
    is_ticking: bool
    frozen: int = 0
    is_watched: bool = False


class RegistryFigures(Model):
    """`is_reachable`: it answered a read that a majority stands behind; `latency_s`: in that time. `is_member`:
    this host runs a member of etcd."""

    is_loaded: bool
    is_reachable: bool
    latency_s: float
    is_member: bool


class MoveCount(Model):
    """Moves that this host made as the source. `mode`: live, quick. `result`: moved, stayed, suspended, died;
    cancelled or failed where it ended before it had a report."""

    mode: str
    result: str
    count: int


class EventCount(Model):
    kind: str
    severity: Severity
    count: int


class TaskCount(Model):
    """Of tasks that ended."""

    kind: str
    state: TaskState
    count: int


class Counted(Model):
    """Since the agent started, on this host alone. `durations_s`, `blackouts_s`: mode -> of the moves that moved;
    the blackout of a quick migration is its outage."""

    events: tuple[EventCount, ...] = ()
    tasks: tuple[TaskCount, ...] = ()
    moves: tuple[MoveCount, ...] = ()
    durations_s: dict[str, Spread] = {}
    blackouts_s: dict[str, Spread] = {}


class Judged(Model):
    """What a primary knows of the whole cluster. `heartbeat_ages_s`: of hosts that were heard. `vms`: all, by
    state. `waiting`: restarts that this host owes as an active primary."""

    verdicts: dict[HostName, Verdict]
    heartbeat_ages_s: dict[HostName, float]
    capacity: Capacity
    vms: dict[VmState, int]
    waiting: int = 0


class Figures(Model):
    """`judged` None: a secondary, which judges nobody. `active_primaries`: datastore -> the host that judges
    there. `tasks`: of this host, under way, by state."""

    host: HostName
    is_primary: bool
    is_ha_enabled: bool
    failover_level: int
    active_primaries: dict[Name, HostName | None] = {}
    judged: Judged | None = None
    beats: tuple[BeatFigures, ...] = ()
    guard: GuardFigures
    registry: RegistryFigures
    vms: tuple[VmReport, ...] = ()
    tasks: dict[TaskState, int] = {}
    counted: Counted = Counted()


class Readiness(Model):
    """Whether an agent can do its part: it has read the registry, beats on every datastore, and hears a primary (a
    primary: any other host). `causes`: what is missing, in a sentence each."""

    host: HostName
    is_ready: bool
    causes: tuple[str, ...] = ()
