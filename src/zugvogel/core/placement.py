"""Which host takes a vm. Pure: host statuses in, weighed candidates out, with a reason people can check."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from zugvogel.core.checks import GIB, MEMORY_OVERHEAD_BYTES, free_cpus, free_memory_bytes
from zugvogel.domain.host import HostReport, HostStatus, Verdict
from zugvogel.domain.migration import Candidate
from zugvogel.domain.network import Network
from zugvogel.domain.vm import VmDefinition


@dataclass(slots=True)
class Promises:
    """What hosts are to run beyond what they report: memory (with overhead) and cpus of vms that are on their
    way, and where each vm of an anti-affinity group is. `take` counts one more vm in."""

    memory_bytes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    cpus: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    groups: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    """group -> vm -> host"""

    def take(self, vm: VmDefinition, host: str) -> None:
        self.memory_bytes[host] += vm.memory_bytes + MEMORY_OVERHEAD_BYTES
        self.cpus[host] += vm.cpus
        if vm.ha.anti_affinity:
            self.groups[vm.ha.anti_affinity][vm.name] = host

    def neighbour(self, vm: VmDefinition, host: str) -> str | None:
        """Another vm of its group on `host`."""
        members = self.groups.get(vm.ha.anti_affinity, {}) if vm.ha.anti_affinity else {}
        return next((other for other, at in members.items() if at == host and other != vm.name), None)


def promises_of(groups: Mapping[str, str], hosts: Iterable[HostStatus]) -> Promises:
    """Nothing promised yet. `groups`: vm -> its anti-affinity group, of those that have one."""
    found = Promises()
    for status in hosts if groups else ():
        for vm in status.report.vms if status.report else ():
            if vm.name in groups:
                found.groups[groups[vm.name]][vm.name] = status.host.name
    return found


def weigh(
    vm: VmDefinition,
    datastore: str,
    networks: Sequence[Network],
    hosts: Sequence[HostStatus],
    *,
    promises: Promises | None = None,
    home: str = "",
) -> tuple[Candidate, ...]:
    """All hosts, best first: `home`, then the vm's preferred hosts in their order, then by score: share of memory
    free after placing, plus a tenth of the share of cores; ties by name, so that the same state gives the same
    answer. Vms of an anti-affinity group never share a host."""
    weighed = [_weigh_one(vm, datastore, networks, h, promises or Promises()) for h in hosts]
    rank = {name: number for number, name in enumerate((home, *vm.ha.preferred_hosts)) if name}
    last = len(vm.ha.preferred_hosts) + 1
    return tuple(sorted(weighed, key=lambda c: (not c.is_fit, rank.get(c.host, last), -c.score, c.host)))


def _weigh_one(
    vm: VmDefinition, datastore: str, networks: Sequence[Network], status: HostStatus, promises: Promises
) -> Candidate:
    name, report = status.host.name, status.report
    if why := _unfit(vm, datastore, networks, status) or _unfit_beside(vm, name, promises):
        return Candidate(host=name, is_fit=False, score=0.0, why=why)
    assert report is not None
    free = _free_after(vm, report, promises)
    if free < 0:
        return Candidate(host=name, is_fit=False, score=0.0, why=f"lacks {-free / GIB:.2f} GiB of memory")
    cpus = free_cpus(report) - promises.cpus.get(name, 0) - vm.cpus
    score = free / max(1, report.facts.memory_total_bytes) + 0.1 * cpus / max(1, report.facts.cores)
    return Candidate(
        host=name,
        is_fit=True,
        score=round(score, 4),
        why=f"{free / GIB:.2f} GiB of memory and {cpus:g} of {report.facts.cores} cores stay free",
    )


def _free_after(vm: VmDefinition, report: HostReport, promises: Promises) -> int:
    promised = promises.memory_bytes.get(report.host, 0) + vm.memory_bytes + MEMORY_OVERHEAD_BYTES
    return free_memory_bytes(report) - promised


def _unfit(vm: VmDefinition, datastore: str, networks: Sequence[Network], status: HostStatus) -> str:
    """Why the host takes no such vm, however much room it has."""
    name, report = status.host.name, status.report
    if status.host.is_in_maintenance:
        return "is in maintenance"
    if status.verdict is not Verdict.LIVE:
        return f"is {status.verdict}"
    if report is None:
        return "has not reported yet (an agent has just started)"
    if not any(d.name == datastore and d.is_usable for d in report.datastores):
        return f"does not reach datastore {datastore}"
    present = {b.name for b in report.facts.bridges}
    for network in networks:
        if network.bridge_on(name) not in present:
            return f"has no bridge for network {network.name}"
    if vm.cpus > report.facts.cores:
        return f"has only {report.facts.cores} cores"
    return ""


def _unfit_beside(vm: VmDefinition, host: str, promises: Promises) -> str:
    neighbour = promises.neighbour(vm, host)
    return f"has {neighbour} of the same anti-affinity group {vm.ha.anti_affinity}" if neighbour else ""


def explain_none(candidates: Sequence[Candidate]) -> str:
    """Why no host fits, in one sentence."""
    told = "; ".join(f"{c.host} {c.why}" for c in candidates)
    return f"no host can take it: {told}" if told else "the cluster has no other host"
