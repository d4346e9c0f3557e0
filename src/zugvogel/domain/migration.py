"""Live migration: plan, progress, report, and the record that survives a crash of either agent."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field, StrictBool, StrictInt

from zugvogel.domain.base import HostName, Model, Name, StrictModel
from zugvogel.domain.vm import VmDefinition


class FindingLevel(StrEnum):
    OK = "ok"
    WARNING = "warning"
    REFUSED = "refused"


class Finding(Model):
    """One pre-check's result. `code` names the mission line ("L4") or the matter ("vm-state")."""

    code: str
    level: FindingLevel
    cause: str
    next_step: str = ""


class Candidate(Model):
    """A host weighed as target: `score` higher is better, `why` in a sentence."""

    host: HostName
    is_fit: bool
    score: float
    why: str


class Forecast(Model):
    """What saving a vm's memory will take. `write_bps` (bytes/s) was measured on the datastore just now; the
    outage is a first estimate of the time that nobody can use the vm. `is_streamed`: the memory is written while
    the vm runs; `how` says why, or why not. `dirty_bps`: what the guest changes, measured just now, if it was."""

    size_bytes: int
    free_bytes: int
    write_bps: float
    outage_s: float
    dirty_bps: float | None = None
    is_streamed: bool = False
    how: str = ""


class MigrationPlan(Model):
    """Answer of `--dry-run`. `reason` tells why this target."""

    vm: Name
    mode: Literal["live", "quick"] = "live"
    source: HostName
    target: HostName | None
    reason: str
    findings: tuple[Finding, ...]
    candidates: tuple[Candidate, ...] = ()
    forecast: Forecast | None = None
    """Of a quick migration."""

    @property
    def is_refused(self) -> bool:
        return self.target is None or any(f.level is FindingLevel.REFUSED for f in self.findings)


class Round(Model):
    """One pre-copy round, figures at its end. `dirty_rate_bps` is bytes/s dirtied by the guest,
    `throughput_bps` bytes/s on the wire, `duration_s` of this round."""

    number: int
    transferred_bytes: int
    remaining_bytes: int
    dirty_rate_bps: float
    throughput_bps: float
    expected_downtime_ms: float
    duration_s: float


class MigrationProgress(Model):
    """While it runs. `rounds` are the finished ones; the other figures are of this moment."""

    phase: str
    rounds: tuple[Round, ...] = ()
    transferred_bytes: int = 0
    remaining_bytes: int = 0
    total_bytes: int = 0
    throughput_bps: float = 0.0
    dirty_rate_bps: float = 0.0
    expected_downtime_ms: float = 0.0
    downtime_limit_ms: float = 0.0
    elapsed_s: float = 0.0


class Phase(Model):
    """`start_s` counts from the request."""

    name: str
    start_s: float
    duration_s: float


class NetworkCheck(Model):
    """What was seen of the vm's network after the move, from the source host, that is through the
    physical switch. `rarp_seen`: the announcement came out of the switch at the source, `rarp_at_s` after the
    request. `answered_at_s`: when, after the request, the first answer of the vm on its target was had.
    `answered_before` / `answers_after`: ARP probes of `addresses`. None: could not be looked at."""

    mac: str
    rarp_seen: bool | None = None
    rarp_at_s: float | None = None
    answered_at_s: float | None = None
    addresses: tuple[str, ...] = ()
    answered_before: tuple[str, ...] = ()
    answers_after: tuple[str, ...] = ()
    is_verified: bool | None = None
    why: str = ""


class MigrationReport(Model):
    """Kept with the task for ever. `downtime_ms` is STOP on the source to RESUME on the target, both
    as seen by the source's clock (the target's answer to the word); `qemu_downtime_ms` is what QEMU says."""

    vm: Name
    mode: Literal["live"] = "live"
    source: HostName
    target: HostName
    result: Literal["moved", "stayed", "died"]
    why: str = ""
    total_s: float = 0.0
    downtime_ms: float = 0.0
    qemu_downtime_ms: float = 0.0
    transferred_bytes: int = 0
    request_to_first_byte_s: float = 0.0
    memory_bytes: int = 0
    channels: int = 1
    is_encrypted: bool = False
    rounds: tuple[Round, ...] = ()
    phases: tuple[Phase, ...] = ()
    network: tuple[NetworkCheck, ...] = ()


class MigrationOptions(StrictModel):
    """What the user asked for; zero or None: the cluster's setting. Bounds as those of the settings."""

    max_downtime_ms: StrictInt = Field(default=0, ge=0, le=10_000)
    bandwidth_mib: StrictInt = Field(default=0, ge=0, le=100_000)
    is_encrypted: StrictBool | None = None
    channels: StrictInt = Field(default=0, ge=0, le=16)
    timeout_s: StrictInt = Field(default=0, ge=0, le=86_400)


class SourcePhase(StrEnum):
    """States of the source's record; see `zugvogel.core.source_machine` for the table.

    Up to `PRECOPY` the way back is a cancel. From `SWITCHED` (QEMU reached postmigrate) the way is
    forward: the word is given, or refused by a target that proves that it never ran.
    """

    PREPARING = "preparing"
    PRECOPY = "precopy"
    SWITCHED = "switched"
    HANDED_OVER = "handed-over"
    CANCELLING = "cancelling"
    DONE = "done"
    STAYED = "stayed"
    DIED = "died"


class TargetPhase(StrEnum):
    """States of the target's session. `LOADED`: QEMU took everything in and waits for the word.
    `RUNNING`: `cont` was issued, the claim of the next epoch follows or is done (`CLAIMED`).
    `GONE`: its QEMU is gone; `IncomingStatus.has_run` tells whether the vm may have run in it."""

    PREPARED = "prepared"
    RUNNING = "running"
    CLAIMED = "claimed"
    GONE = "gone"


class SourceRecord(Model):
    """Lies as ``migration.<id>.json`` in the vm's folder while the migration runs; written before the
    action it names, except inside the blackout, where nothing is written."""

    id: str
    task: str
    vm: Name
    source: HostName
    target: HostName
    phase: SourcePhase
    epoch: int
    """Epoch of the lease that names the heir (0 before it was linked)."""


class IncomingRequest(Model):
    """Source to target: rebuild this vm and wait for its memory. `epoch` is the source's lease epoch
    before the heir was named."""

    migration_id: str
    vm: VmDefinition
    datastore: Name
    source: HostName
    epoch: int
    capabilities: tuple[str, ...]
    channels: int
    is_encrypted: bool
    addresses: dict[str, tuple[str, ...]] = {}
    """MAC -> IPv4 addresses the source learned, so that the target can tell them at once."""


class IncomingReady(Model):
    """Target to source: where to send it. `capabilities` are those both QEMUs have, switched on."""

    address: str
    port: int
    capabilities: tuple[str, ...]
    qemu_version: str
    spawn_s: float


class IncomingStatus(Model):
    """Target's session as asked by the source. `is_loaded`: QEMU took in everything and is stopped.
    `has_run`: `cont` was issued and not refused, so the vm's disks may have been written by the target."""

    migration_id: str
    phase: TargetPhase
    is_loaded: bool
    has_run: bool = False
    epoch: int = 0
    why: str = ""


class MigrationSample(Model):
    """One `query-migrate`, plain. Bytes; `mbps` as QEMU gives it converted to bytes/s."""

    status: str
    transferred_bytes: int = 0
    remaining_bytes: int = 0
    total_bytes: int = 0
    normal_bytes: int = 0
    dirty_rate_bps: float = 0.0
    throughput_bps: float = 0.0
    rounds: int = 0
    expected_downtime_ms: float = 0.0
    downtime_ms: float = 0.0
    total_ms: float = 0.0
    error: str = ""
