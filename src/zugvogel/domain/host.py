"""Hosts: what the registry keeps of them, what they report, how they are judged."""

from __future__ import annotations

from enum import StrEnum

from pydantic import ConfigDict, Field

from zugvogel.domain.base import FenceAgent, HostName, Mac, Model, Name
from zugvogel.domain.vm import VmState


class Role(StrEnum):
    PRIMARY = "primary"
    SECONDARY = "secondary"


class Verdict(StrEnum):
    """Architecture, "Verdicts and what follows"."""

    LIVE = "live"
    PARTITIONED = "partitioned"
    ISOLATED = "isolated"
    STORAGE_LOST = "storage-lost"
    FAILED = "failed"
    MAINTENANCE = "maintenance"


class Ports(Model):
    """TCP ports of an agent; `heartbeat` is UDP. `console` 0: no web console. `migration_first` starts a range of
    64."""

    api: int = 7440
    rpc: int = 7441
    heartbeat: int = 7442
    etcd_client: int = 7443
    etcd_peer: int = 7444
    console: int = 7445
    migration_first: int = 7450


class FenceConfig(Model):
    """The device that can cut a host's power: a fence agent of the distribution (``fence_ipmilan``) and what it is
    given. `secrets` (passwords) are given to it in the same way; they are never shown, logged or put on a command
    line."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)
    agent: FenceAgent
    parameters: dict[str, str] = {}
    secrets: dict[str, str] = Field(default={}, repr=False)


class Host(Model):
    """A member of the cluster as the registry keeps it. `ordinal` counts additions from 1."""

    name: HostName
    address: str
    role: Role
    ordinal: int
    joined_at: str
    ports: Ports = Ports()
    is_in_maintenance: bool = False
    """Vms move away and none is placed there; it still judges nothing and holds no primary's role."""
    failure_domain: str = ""
    """A label (rack, room): primaries are spread over them."""
    fence: FenceConfig | None = None


class CpuFacts(Model):
    """From /proc/cpuinfo. `flags` in the kernel's spelling (sse4_2, avx2 ...)."""

    vendor: str
    family: int
    model: int
    stepping: int
    name: str
    flags: frozenset[str]


class BridgeFacts(Model):
    name: str
    mtu: int
    is_vlan_aware: bool = False


class HostFacts(Model):
    """What changes rarely. `cores` are logical CPUs, `link_mbit` the speed of the link that carries
    `address` (0: the driver does not tell)."""

    cpu: CpuFacts
    cores: int
    memory_total_bytes: int
    link_mbit: int = 0
    bridges: tuple[BridgeFacts, ...] = ()
    vlan_overrides: dict[str, int] = {}
    """Lab only: network name -> VLAN this host claims to have, so that refusals can be tried."""
    qemu_version: str = ""
    accelerator: str = "tcg"
    agent_version: str = ""


class VmReport(Model):
    """A vm whose QEMU process exists on the reporting host. An incoming migration is not reported as a
    vm until it runs; its memory is in `HostReport.reserved_bytes`."""

    name: Name
    state: VmState
    epoch: int
    memory_bytes: int
    cpus: int
    macs: tuple[Mac, ...] = ()
    addresses: tuple[str, ...] = ()
    is_migrating: bool = False
    awaits_heir: bool = False
    """It stands still for good: the target of its live migration is to run it, and does not answer."""
    cpu_model: str = ""
    uuid: str = ""
    """Of the vm: one that was deleted a moment ago and made anew under its name is another."""
    why: str = ""
    """Why it is in a state other than running."""


class DatastoreReport(Model):
    """`is_usable`: the last beat on it was written in time. Free and total are rounded to 64 MiB so
    that the report does not change every second."""

    name: Name
    is_usable: bool
    fs_type: str = ""
    free_bytes: int = 0
    total_bytes: int = 0
    why: str = ""


class HostReport(Model):
    """What a host tells the primaries. Sent in full when it changed, else only its digest."""

    host: HostName
    boot_id: str
    facts: HostFacts
    vms: tuple[VmReport, ...] = ()
    datastores: tuple[DatastoreReport, ...] = ()
    reserved_bytes: int = 0
    reserved_cpus: int = 0
    starting: tuple[Name, ...] = ()
    """Vms that are being started here and are not in `vms` yet; their room is part of what is reserved."""


class Heartbeat(Model):
    """One UDP datagram, every second, host to primary (P3). `beats`: datastore -> beat counter.
    `hears`: hosts from which this one got a heartbeat within the last 3 intervals."""

    host: HostName
    boot_id: str
    sequence: int
    digest: str
    load1: float = 0.0
    memory_available_bytes: int = 0
    beats: dict[str, int] = {}
    hears: tuple[HostName, ...] = ()
    report: HostReport | None = None


class HostStatus(Model):
    """How the primaries see a host now; `why` is the evidence in a sentence.
    Ages are seconds on the judge's own monotonic clock; None: never seen. `is_report_stale`: its heartbeats have
    told of another report for a while, and that one does not come through. `frozen_on`, `dead_on`: datastores, as
    in `core.verdicts.Judgement`; a judge of an earlier version tells none."""

    host: Host
    verdict: Verdict
    why: str
    heartbeat_age_s: float | None = None
    beat_ages_s: dict[str, float] = {}
    load1: float = 0.0
    memory_available_bytes: int = 0
    report: HostReport | None = None
    is_report_stale: bool = False
    is_active_primary: bool = False
    frozen_on: tuple[str, ...] = ()
    dead_on: tuple[str, ...] = ()
