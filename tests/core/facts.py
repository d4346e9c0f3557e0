"""Facts for tests of decisions: two hosts that fit each other, to be spoiled one fact at a time."""

from __future__ import annotations

from typing import Any

from zugvogel.core.checks import MigrationFacts
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.host import (
    BridgeFacts,
    CpuFacts,
    DatastoreReport,
    Host,
    HostFacts,
    HostReport,
    HostStatus,
    Role,
    Verdict,
    VmReport,
)
from zugvogel.domain.network import Network
from zugvogel.domain.vm import Nic, VmDefinition, VmState

GIB = 1024**3
MAC = "52:54:00:00:00:01"


def definition(**changes: Any) -> VmDefinition:
    fields: dict[str, Any] = {
        "name": "web1",
        "uuid": "4f6a7d6e-0000-4000-8000-000000000001",
        "memory_bytes": 2 * GIB,
        "cpus": 2,
        "machine": "pc-q35-7.2",
        "cpu_model": "x86-64-v2",
        "nics": (Nic(network="lan", mac=MAC),),
    }
    return VmDefinition.model_validate(fields | changes)


def cpu(**changes: Any) -> CpuFacts:
    fields: dict[str, Any] = {
        "vendor": "GenuineIntel",
        "family": 6,
        "model": 85,
        "stepping": 7,
        "name": "Xeon",
        "flags": frozenset({"sse4_2", "avx2"}),
    }
    return CpuFacts.model_validate(fields | changes)


def status(name: str, ordinal: int, vms: tuple[VmReport, ...] = (), **facts: Any) -> HostStatus:
    known: dict[str, Any] = {
        "cpu": cpu(),
        "cores": 8,
        "memory_total_bytes": 16 * GIB,
        "link_mbit": 10_000,
        "bridges": (BridgeFacts(name="br0", mtu=1500),),
        "qemu_version": "10.0.2",
    }
    report = HostReport(
        host=name,
        boot_id="b",
        facts=HostFacts.model_validate(known | facts),
        vms=vms,
        datastores=(DatastoreReport(name="nfs1", is_usable=True),),
    )
    host = Host(name=name, address=f"192.0.2.{10 + ordinal}", role=Role.PRIMARY, ordinal=ordinal, joined_at="")
    return HostStatus(host=host, verdict=Verdict.LIVE, why="heartbeat 0.4 s ago", report=report)


def facts(**changes: Any) -> MigrationFacts:
    fields: dict[str, Any] = {
        "vm": definition(),
        "state": VmState.RUNNING,
        "is_migrating": False,
        "datastore": Datastore(name="nfs1", id="d", path="/srv/nfs1", kind="NFS v4", is_shared=True),
        "source": status("host1", 1),
        "target": status("host2", 2),
        "networks": (Network(name="lan", bridges={"*": "br0"}),),
        "missing_flags": (),
        "cpu_model": "x86-64-v2",
    }
    return MigrationFacts(**(fields | changes))
