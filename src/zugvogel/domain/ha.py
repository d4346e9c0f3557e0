"""High availability: what a vm wants, what the active primary orders, what is told of it (mission, H1 to H7)."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import AwareDatetime

from zugvogel.domain.base import HostName, Model, Name, NameOrNone, StrictModel


class RestartPriority(StrEnum):
    """`DISABLED`: stays down, registered, when its host fails."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    DISABLED = "disabled"


class IsolationResponse(StrEnum):
    """What an isolated host does with a vm (H3, H7)."""

    LEAVE = "leave"
    SHUTDOWN = "shutdown"
    POWEROFF = "poweroff"
    SUSPEND = "suspend"


class Monitoring(StrEnum):
    """What of the vm itself is watched, each including the one before: nothing; that its QEMU lives and its
    guest has not panicked; that its watchdog is fed and its guest agent, once heard, goes on answering."""

    OFF = "off"
    CRASH = "crash"
    GUEST = "guest"


class VmPolicy(StrictModel):
    """`[ha]` in vm.toml. `isolation_response` "default": the setting das.isolationresponse. Vms of the same
    `anti_affinity` group (a name) are kept on different hosts; `preferred_hosts` are tried first, in this
    order."""

    restart_priority: RestartPriority = RestartPriority.MEDIUM
    isolation_response: Literal["default", "leave", "shutdown", "poweroff", "suspend"] = "default"
    anti_affinity: NameOrNone = ""
    preferred_hosts: tuple[HostName, ...] = ()
    monitoring: Monitoring = Monitoring.CRASH


class StartOrder(Model):
    """The active primary to a host: run `vm`, whose lease it judged at `epoch`. The host links `epoch + 1` and
    nothing else, so an order that is late, or was given twice, starts nothing. `is_resume`: with its saved
    memory. `down_s`: for how long it had been down when the order was given, as far as the judge knows;
    `addresses`: those it had, as its last host told."""

    id: str
    vm: Name
    datastore: Name
    epoch: int
    judge: HostName
    attempt: int = 1
    is_resume: bool = False
    why: str = ""
    down_s: float | None = None
    addresses: tuple[str, ...] = ()


class AwaitedAnswer(Model):
    """Kept with the QEMU of a vm that high availability started: whether its guest answers is looked at.
    `runs_since`: an instant of the host's clock, of this boot. `down_s`: for how long the vm had been down then;
    None: not known. `addresses`: those it had before. `outcome`: what came of it, in a sentence; empty: nothing
    yet."""

    runs_since: float
    down_s: float | None = None
    is_resume: bool = False
    addresses: tuple[str, ...] = ()
    outcome: str = ""


class StartAnswer(Model):
    """`why` empty: it runs at `epoch`. `is_lock_held`: QEMU did not get an image's lock: the vm's former host
    hangs rather than being dead, or its storage has not dropped the lock yet; no QEMU was spawned, so no
    attempt is used up."""

    id: str
    epoch: int = 0
    why: str = ""
    is_lock_held: bool = False


class IsolationOrder(Model):
    """The active primary to an isolated host, as a file: `vm` (lease at `epoch`) is accepted, do with it what
    `response` says. `target`: where its memory is to be resumed."""

    id: str
    vm: Name
    datastore: Name
    epoch: int
    judge: HostName
    response: IsolationResponse
    target: HostName | None = None


class Proof(StrEnum):
    """What must have happened before a failed host's vms are started elsewhere, by datastore (architecture,
    "Proof of death"). LOCK: QEMU's image lock there goes with a dead holder, and is asked for at the start.
    GUARD: the failed host's guard froze its vms; nothing sees a host that hangs as a whole. FENCE: its power
    was cut by a fence device. CONFIRM: somebody said so (`zv host confirm-dead`)."""

    LOCK = "lock"
    GUARD = "guard"
    FENCE = "fence"
    CONFIRM = "confirm"


class RestartRecord(Model):
    """``restart.json`` in the vm's folder: what outlives an active primary. `failed_epoch`: the epoch the last
    order was judged from; the run it began, if any, is `failed_epoch + 1`. `attempts`: orders since the vm failed
    that spawned a QEMU or may have. `is_ordered`: the last of these was about to be given. `is_verified`: that run
    was seen; the next failure begins the count anew.
    `own_failed_at`: restarts, lately, of a vm that failed by itself while its host lived, by wall clock: they only
    limit how often it is tried. `own_failures`: how many these are, all that earlier versions know."""

    vm: Name
    failed_epoch: int
    attempts: int = 0
    is_ordered: bool = False
    is_verified: bool = False
    own_failures: int = 0
    own_failed_at: tuple[AwareDatetime, ...] = ()
    why: str = ""


class Placed(Model):
    """One vm of a failover plan: `host` None: it does not fit, or stays down; `why` in a sentence. `waits_for`: it
    would not be restarted there by itself, and this is what is missing; empty: it would."""

    vm: Name
    priority: RestartPriority
    memory_bytes: int
    source: HostName
    host: HostName | None
    why: str
    waits_for: str = ""


class Capacity(Model):
    """Memory of the hosts that can take vms, in bytes. `used`: by running vms. `reserved`: kept free so that
    the vms of the `failover_level` largest hosts can be restarted. `free`: what vms may still be started with, in
    sum. used + reserved + free is the whole, unless free is 0 and the reserve does not fit any more (`is_met`
    False). `largest`: memory, as its definition has it, of the largest single vm that may still be started: `free`
    may lie on several hosts."""

    used_bytes: int = 0
    reserved_bytes: int = 0
    free_bytes: int = 0
    largest_bytes: int = 0
    is_met: bool = True
    why: str = ""


class Protection(Model):
    """One of the things that keep a vm from running twice, and whether it is present on a host or datastore."""

    name: str
    subject: str
    is_present: bool
    why: str


class HaStatus(Model):
    """`zv ha status --json`. `active_primaries`: datastore -> host; `active_primary`: the one of the first
    datastore."""

    enabled: bool
    active_primary: HostName | None
    active_primaries: dict[str, HostName | None] = {}
    failover_level: int
    admission: Capacity
    detection_time_ms: int
    protections: tuple[Protection, ...] = ()
    restarting: tuple[str, ...] = ()
    """Vms that wait for their restart, each with the reason in a sentence."""


class FailoverPlan(Model):
    """`zv ha plan --fail HOST`. `is_complete`: all but those whose priority is disabled would be restarted, by
    themselves."""

    hosts: tuple[HostName, ...]
    placed: tuple[Placed, ...]
    is_complete: bool


class Explanation(Model):
    """`zv ha explain HOST|VM`: `judgement` in a sentence, the evidence line by line, and what follows."""

    subject: str
    kind: Literal["host", "vm"]
    judge: HostName
    judgement: str
    evidence: tuple[str, ...] = ()
    follows: str = ""
