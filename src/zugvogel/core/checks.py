"""Pre-checks of a live migration: L1 to L6 of the mission, each its own finding, all shown.

Pure: the facts come in as `MigrationFacts`, gathered by the service before anything is touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from zugvogel.domain.datastore import Datastore
from zugvogel.domain.host import CpuFacts, HostReport, HostStatus, Verdict
from zugvogel.domain.migration import Finding, FindingLevel, Forecast
from zugvogel.domain.network import Network
from zugvogel.domain.vm import VmDefinition, VmState

MINIMUM_LINK_MBIT = 1000
GIB = 1024**3
MEMORY_OVERHEAD_BYTES = 64 * 1024**2
"""What a QEMU process takes beside the guest's RAM, counted for admission. Measured: 25 MiB of its own (what it
shares with other QEMUs is there once), 31 with a display, to which come at most 16 that the guest draws in."""


@dataclass(frozen=True, slots=True)
class MigrationFacts:
    """`missing_flags`: what the target's CPU lacks of the model the vm was started with (empty for
    "host", which compares CPUs instead). `qemu_versions`: (source, target)."""

    vm: VmDefinition
    state: VmState
    is_migrating: bool
    datastore: Datastore
    source: HostStatus
    target: HostStatus
    networks: tuple[Network, ...]
    missing_flags: tuple[str, ...]
    cpu_model: str


def check_migration(facts: MigrationFacts) -> tuple[Finding, ...]:
    return tuple(
        finding
        for check in (
            _vm_state,
            _hosts,
            _storage_reached,
            _storage_shared,
            _link,
            _cpu,
            _networks,
            _resources,
            _qemu,
        )
        for finding in check(facts)
    )


def check_quick_migration(facts: MigrationFacts) -> tuple[Finding, ...]:
    """As for a live migration, without the link: nothing goes over it (Q5)."""
    checks = (_vm_state, _hosts, _storage_reached, _storage_shared, _cpu, _networks, _resources, _qemu)
    return tuple(finding for check in checks for finding in check(facts))


def check_space(vm: str, datastore: str, forecast: Forecast) -> Finding:
    """Room for the memory file."""
    free, need = forecast.free_bytes / GIB, forecast.size_bytes / GIB
    if forecast.size_bytes > forecast.free_bytes:
        return _refused(
            "space",
            f"datastore {datastore} has {free:.2f} GiB free, saving {vm} needs {need:.2f} GiB",
            "make room there",
        )
    return _ok("space", f"datastore {datastore} has {free:.2f} GiB free for {need:.2f} GiB")


def _ok(code: str, cause: str) -> Finding:
    return Finding(code=code, level=FindingLevel.OK, cause=cause)


def _refused(code: str, cause: str, next_step: str) -> Finding:
    return Finding(code=code, level=FindingLevel.REFUSED, cause=cause, next_step=next_step)


def _warning(code: str, cause: str, next_step: str) -> Finding:
    return Finding(code=code, level=FindingLevel.WARNING, cause=cause, next_step=next_step)


def _vm_state(f: MigrationFacts) -> Iterator[Finding]:
    name = f.vm.name
    if f.is_migrating:
        yield _refused("vm", f"{name} is being migrated already", f"watch it with: zv task list --subject {name}")
    elif f.state is not VmState.RUNNING:
        yield _refused(
            "vm", f"{name} is {f.state}, not running", f"start it where you want it: zv vm start {name}"
        )
    else:
        yield _ok("vm", f"{name} is running on {f.source.host.name}")


def _hosts(f: MigrationFacts) -> Iterator[Finding]:
    target = f.target
    if target.host.name == f.source.host.name:
        yield _refused("hosts", f"{f.vm.name} is on {target.host.name} already", "name another host with --to")
    elif target.verdict is Verdict.LIVE and target.report is None:
        yield _refused("hosts", f"{target.host.name} has not reported yet: an agent has just started", "try again")
    elif target.verdict is not Verdict.LIVE:
        yield _refused("hosts", f"{target.host.name} is {target.verdict}: {target.why}", "choose a live host")
    else:
        yield _ok("hosts", f"{target.host.name} is live")


def _storage_reached(f: MigrationFacts) -> Iterator[Finding]:
    """L1."""
    store = f.datastore.name
    for status in (f.source, f.target):
        seen = {d.name: d for d in status.report.datastores} if status.report else {}
        report = seen.get(store)
        if report is None or not report.is_usable:
            why = report.why if report and report.why else "it writes no beat there"
            yield _refused(
                "L1",
                f"{status.host.name} does not reach datastore {store}, where {f.vm.name} lies: {why}",
                f"mount {f.datastore.path} on {status.host.name}, or choose another host",
            )
            return
    yield _ok("L1", f"both hosts reach datastore {store}")


def _storage_shared(f: MigrationFacts) -> Iterator[Finding]:
    """L2."""
    store = f.datastore
    if not store.is_shared:
        yield _refused(
            "L2",
            f"datastore {store.name} is {store.kind}, which two hosts cannot use at once",
            "move the vm's folder to a shared datastore (NFS, OCFS2, GFS2, CephFS ...)",
        )
    else:
        yield _ok("L2", f"datastore {store.name} ({store.kind}) allows access from several hosts")


def _link(f: MigrationFacts) -> Iterator[Finding]:
    """L3."""
    for status in (f.source, f.target):
        mbit = status.report.facts.link_mbit if status.report else 0
        if mbit and mbit < MINIMUM_LINK_MBIT:
            yield _refused(
                "L3",
                f"the link of {status.host.name} runs at {mbit} Mbit/s, live migration needs {MINIMUM_LINK_MBIT}",
                "check cable, switch port and autonegotiation, or choose another host",
            )
            return
    speeds = [s.report.facts.link_mbit for s in (f.source, f.target) if s.report and s.report.facts.link_mbit]
    if not speeds:
        yield _warning("L3", "the drivers do not tell the speed of the link", "make sure it is 1 Gbit/s or more")
    else:
        yield _ok("L3", f"the link runs at {min(speeds)} Mbit/s")


def _cpu(f: MigrationFacts) -> Iterator[Finding]:
    """L4."""
    if f.source.report is None or f.target.report is None:
        return
    here, there = f.source.report.facts.cpu, f.target.report.facts.cpu
    source, target, vm = f.source.host.name, f.target.host.name, f.vm.name
    if here.vendor != there.vendor:
        yield _refused(
            "L4",
            f"{source} has a CPU of {here.vendor}, {target} one of {there.vendor}; vendors never mix",
            "choose a host of the same vendor, or stop the vm and start it there",
        )
        return
    accelerators = {f.source.report.facts.accelerator, f.target.report.facts.accelerator}
    if len(accelerators) > 1:
        yield _refused(
            "L4",
            f"{source} runs vms with {f.source.report.facts.accelerator}, {target} with "
            f"{f.target.report.facts.accelerator}",
            "enable virtualisation on both hosts",
        )
        return
    yield from _cpu_model(f, here, there, vm, target)


def _cpu_model(f: MigrationFacts, here: CpuFacts, there: CpuFacts, vm: str, target: str) -> Iterator[Finding]:
    if f.cpu_model == "host":
        if (here.family, here.model, here.stepping) != (there.family, there.model, there.stepping):
            yield _refused(
                "L4",
                f"{vm} was started with its host's own CPU model, and {target} has another one "
                f"(family/model/stepping {there.family}/{there.model}/{there.stepping} instead of "
                f"{here.family}/{here.model}/{here.stepping})",
                f"start it with the cluster baseline: zv vm set {vm} --cpu-model baseline, then stop and start it",
            )
        elif missing := sorted(here.flags - there.flags):
            yield _refused(
                "L4", f"{vm} needs cpu flags {', '.join(missing)} that {target} lacks", "update its microcode"
            )
        else:
            yield _ok("L4", "both hosts have the same CPU")
    elif f.missing_flags:
        yield _refused(
            "L4",
            f"{vm} needs cpu flags {', '.join(f.missing_flags)} of {f.cpu_model} that {target} lacks",
            "start it with the cluster baseline (zv cluster baseline) or choose another host",
        )
    else:
        yield _ok("L4", f"{target} can run {f.cpu_model}, the model {vm} was started with")


def _networks(f: MigrationFacts) -> Iterator[Finding]:
    """L5: name, VLAN and MTU are the same on both hosts."""
    bad = False
    for network in f.networks:
        for problem in _network_problems(f, network):
            bad = True
            yield problem
    if not bad:
        names = ", ".join(n.name for n in f.networks) or "none"
        yield _ok("L5", f"the vm's networks ({names}) are identical on both hosts")


def _network_problems(f: MigrationFacts, network: Network) -> Iterator[Finding]:
    mtus: dict[str, int] = {}
    for status in (f.source, f.target):
        host, report = status.host.name, status.report
        bridge = network.bridge_on(host)
        bridges = {b.name: b for b in report.facts.bridges} if report else {}
        if bridge is None or bridge not in bridges:
            wanted = f"bridge {bridge}" if bridge else "a bridge"
            yield _refused(
                "L5",
                f"{host} has no {wanted} for network {network.name}",
                f"create it there, or name its bridge: zv network add {network.name} --bridge BR --host {host}",
            )
            return
        if status is f.target and network.vlan and not bridges[bridge].is_vlan_aware:
            yield _refused(
                "L5",
                f"network {network.name} is VLAN {network.vlan}, and {bridge} of {host} does not filter VLANs",
                f"on {host}: ip link set {bridge} type bridge vlan_filtering 1",
            )
            return
        mtus[host] = bridges[bridge].mtu
        vlan = report.facts.vlan_overrides.get(network.name, network.vlan) if report else network.vlan
        if vlan != network.vlan:
            yield _refused(
                "L5",
                f"network {network.name} is VLAN {vlan} on {host} but VLAN {network.vlan} in the cluster",
                f"put the bridge {bridge} of {host} on VLAN {network.vlan}",
            )
            return
    if len(set(mtus.values())) > 1:
        told = ", ".join(f"{mtu} on {host}" for host, mtu in mtus.items())
        yield _refused(
            "L5", f"the MTU of network {network.name} differs: {told}", "set the same MTU on both bridges"
        )


def _resources(f: MigrationFacts) -> Iterator[Finding]:
    """L6."""
    if f.target.report is None:
        return
    target = f.target.host.name
    need = f.vm.memory_bytes + MEMORY_OVERHEAD_BYTES
    free = free_memory_bytes(f.target.report)
    if need > free:
        yield _refused(
            "L6",
            f"{f.vm.name} needs {need / GIB:.2f} GiB of memory, {target} has {max(0, free) / GIB:.2f} GiB left",
            "choose another host or move a vm away from it",
        )
        return
    if f.vm.cpus > f.target.report.facts.cores:
        yield _refused(
            "L6",
            f"{f.vm.name} has {f.vm.cpus} cpus, {target} only {f.target.report.facts.cores} cores",
            "choose a larger host",
        )
        return
    yield _ok("L6", f"{target} has {free / GIB:.2f} GiB of memory left for {need / GIB:.2f} GiB")


def free_memory_bytes(report: HostReport) -> int:
    """Memory not promised to vms or reserved for incoming ones. Counts what vms may use, not what they use now."""
    promised = sum(vm.memory_bytes + MEMORY_OVERHEAD_BYTES for vm in report.vms)
    return report.facts.memory_total_bytes - promised - report.reserved_bytes


def free_cpus(report: HostReport) -> float:
    """Cores not promised; negative when overcommitted, which is allowed."""
    return report.facts.cores - sum(vm.cpus for vm in report.vms) - report.reserved_cpus


def _qemu(f: MigrationFacts) -> Iterator[Finding]:
    if f.source.report is None or f.target.report is None:
        return
    here, there = f.source.report.facts.qemu_version, f.target.report.facts.qemu_version
    if _major_minor(there) < _major_minor(here):
        yield _refused(
            "qemu",
            f"{f.target.host.name} has QEMU {there}, older than the {here} that runs {f.vm.name}",
            f"update QEMU on {f.target.host.name}",
        )
    else:
        yield _ok("qemu", f"QEMU {there} on {f.target.host.name} takes vms of {here}")


def _major_minor(version: str) -> tuple[int, int]:
    parts = [int(p) if p.isdigit() else 0 for p in version.split(".")[:2]]
    return (parts[0] if parts else 0, parts[1] if len(parts) > 1 else 0)
