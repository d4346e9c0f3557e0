"""What a round of failover knows, and what it may decide (`core.failover` decides)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum

from zugvogel.core.death_proof import DeathProof
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.ha import IsolationResponse, RestartRecord
from zugvogel.domain.host import HostStatus
from zugvogel.domain.lease import Lease
from zugvogel.domain.network import Network
from zugvogel.domain.vm import VmDefinition, VmRecord


class Fencing(StrEnum):
    """How far the power fence of a failed host is. `ABSENT`: it has none."""

    ABSENT = "absent"
    UNTRIED = "untried"
    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Fenced:
    fencing: Fencing = Fencing.ABSENT
    told: str = ""


class Wait(StrEnum):
    """What a vm waits for. Those in `TOLD` are worth an event, once."""

    HOLDER = "its holder"
    STOPPED = "a user"
    FENCE = "the power fence"
    PROOF = "a proof of death"
    ROOM = "room"
    TURN = "its turn"
    TIME = "the next attempt"
    LOCK = "the lock of its disk"
    ATTEMPTS = "a person"
    ANSWER = "the ordered host"
    RESPONSE = "an isolation response"
    FOLDER = "its folder"
    STORAGE = "its host's storage"


TOLD = {Wait.PROOF, Wait.ROOM, Wait.LOCK, Wait.ATTEMPTS, Wait.FOLDER, Wait.STORAGE}
LOOK_AGAIN_S = {
    Wait.HOLDER: 3.0,
    Wait.STOPPED: 15.0,
    Wait.PROOF: 3.0,
    Wait.ATTEMPTS: 15.0,
    Wait.RESPONSE: 3.0,
    Wait.STORAGE: 3.0,
}
"""How long the lease need not be read again, unless a verdict changes; others: no time at all."""


# the snapshot ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Situation:
    """A protected vm that no host is seen to run. Times are the judge's own. `since_order_s`: since it ordered the
    last attempt; None: it never did. `lock_tries`: orders in a row that met a held lock. `own_failures`: restarts
    within the window after failures of its own. `refusals`: host -> why it refused lately. `worker`: the host, or
    the work, that is under way for it. `accepted_epoch`: an isolation order for it stands.
    `is_asked`: its holder was asked lately to settle it. `is_locked`: of a vm whose hosts are all dead
    (`core.failover.asks_lock`), a process still holds the lock of a disk of it."""

    record: VmRecord
    lease: Lease | None
    lease_age_s: float = 0.0
    restart: RestartRecord | None = None
    since_order_s: float | None = None
    lock_tries: int = 0
    own_failures: int = 0
    refusals: Mapping[str, str] = field(default_factory=dict)
    worker: str = ""
    accepted_epoch: int | None = None
    is_asked: bool = False
    is_locked: bool = False

    @property
    def name(self) -> str:
        return self.record.definition.name


@dataclass(frozen=True, slots=True)
class Stranded:
    """A protected vm on a host whose beat on the vm's datastore stands still for `silent_s` though it is heard."""

    record: VmRecord
    host: str
    epoch: int
    silent_s: float
    worker: str = ""

    @property
    def name(self) -> str:
        return self.record.definition.name


@dataclass(frozen=True, slots=True)
class Ordered:
    """A vm that a host was told to start and does not report yet."""

    definition: VmDefinition
    host: str


@dataclass(frozen=True, slots=True)
class FailoverSettings:
    max_attempts: int = 5
    per_host: int = 32
    apd_timeout_s: float = 140.0
    response: IsolationResponse = IsolationResponse.LEAVE
    max_own_failures: int = 3


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`dead`: hosts that are dead on this datastore (`core.verdicts.Judgement.dead_on`). `ordered`: orders under
    way, of all datastores. `groups`: vm -> anti-affinity group. `guarded`: of the failed and the dead hosts those
    whose last beat here promised a guard."""

    datastore: Datastore
    proof: DeathProof
    statuses: Sequence[HostStatus]
    dead: Set[str]
    vms: Sequence[Situation]
    guarded: Set[str] = frozenset()
    settings: FailoverSettings = FailoverSettings()
    networks: Mapping[str, Network] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    ordered: Sequence[Ordered] = ()
    stranded: Sequence[Stranded] = ()
    fences: Mapping[str, Fenced] = field(default_factory=dict)


# decisions -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReleaseLease:
    """Link the release of `lease`, whose sides are all in `dead`."""

    vm: str
    lease: Lease
    host: str
    dead: frozenset[str]
    why: str


@dataclass(frozen=True, slots=True)
class GiveStartOrder:
    """`is_own_failure`: it failed by itself while its host lives."""

    vm: str
    host: str
    epoch: int
    reason: str
    attempt: int
    cause: str
    is_own_failure: bool = False


@dataclass(frozen=True, slots=True)
class GiveResumeOrder:
    vm: str
    host: str
    epoch: int
    reason: str
    attempt: int
    cause: str


@dataclass(frozen=True, slots=True)
class AcceptIsolated:
    vm: str
    host: str
    epoch: int
    response: IsolationResponse
    target: str
    why: str


@dataclass(frozen=True, slots=True)
class AskToGiveUp:
    """End what is left of the vm on `host`, which lives and holds it. `dead_heir`: its live migration was to run
    it there, and that host is proven dead; empty: `host` has lost the vm's datastore."""

    vm: str
    host: str
    epoch: int
    why: str
    dead_heir: str = ""


@dataclass(frozen=True, slots=True)
class AskHeir:
    """`host` held the vm and is proven dead. Its heir `heir` lives: unless the word came it never runs it."""

    vm: str
    lease: Lease
    host: str
    heir: str
    why: str


@dataclass(frozen=True, slots=True)
class AskToSettle:
    """`host` lives, holds the vm for `held_s` at least, and does not report it."""

    vm: str
    host: str
    epoch: int
    held_s: float


@dataclass(frozen=True, slots=True)
class FenceHost:
    host: str


@dataclass(frozen=True, slots=True)
class WaitFor:
    """`why` in a sentence, with what to do where somebody must; `look_again_s`: until then nothing changes by
    itself."""

    vm: str
    wait: Wait
    why: str
    look_again_s: float = 0.0


Decision = (
    ReleaseLease
    | GiveStartOrder
    | GiveResumeOrder
    | AcceptIsolated
    | AskToGiveUp
    | AskHeir
    | AskToSettle
    | FenceHost
    | WaitFor
)
