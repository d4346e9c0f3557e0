"""Which host takes a vm. Pure: host statuses in, weighed candidates out, with a reason people can check."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

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
        if not vm.ha.anti_affinity:
            return None
        members = self.groups.get(vm.ha.anti_affinity, {})
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
    place = _Place.of(report)
    free, cpus = place.left(vm, promises)
    if free < 0:
        return Candidate(host=name, is_fit=False, score=0.0, why=f"lacks {-free / GIB:.2f} GiB of memory")
    return place.candidate(free, cpus)


class _Place(NamedTuple):
    """What a host's report says of its room, summed up."""

    host: str
    free_bytes: int
    free_cpus: float
    total_bytes: int
    cores: int

    @classmethod
    def of(cls, report: HostReport) -> _Place:
        facts = report.facts
        free, cpus = free_memory_bytes(report), free_cpus(report)
        return cls(report.host, free, cpus, max(1, facts.memory_total_bytes), facts.cores)

    def left(self, vm: VmDefinition, promises: Promises) -> tuple[int, float]:
        """Memory (bytes) and cpus that stay free with it; negative: it lacks so much."""
        promised = promises.memory_bytes.get(self.host, 0) + vm.memory_bytes + MEMORY_OVERHEAD_BYTES
        return self.free_bytes - promised, self.free_cpus - promises.cpus.get(self.host, 0) - vm.cpus

    def score(self, free: int, cpus: float) -> float:
        return round(free / self.total_bytes + 0.1 * cpus / max(1, self.cores), 4)

    def candidate(self, free: int, cpus: float) -> Candidate:
        why = f"{free / GIB:.2f} GiB of memory and {cpus:g} of {self.cores} cores stay free"
        return Candidate(host=self.host, is_fit=True, score=self.score(free, cpus), why=why)


class Places:
    """The same hosts for many vms: what does not depend on where the vms before went is found once."""

    def __init__(self, hosts: Sequence[HostStatus]) -> None:
        self._hosts = hosts
        self._fit: dict[tuple[str, tuple[str, ...], int], list[_Place]] = {}
        """(datastore, networks, cpus) -> hosts that take such a vm if they have room."""

    def best(
        self,
        vm: VmDefinition,
        datastore: str,
        networks: Sequence[Network],
        *,
        but: Container[str],
        promises: Promises,
    ) -> Candidate | None:
        """The first of `weigh` over all hosts `but` these, where it is fit; None: none is."""
        rank = {name: number for number, name in enumerate(vm.ha.preferred_hosts)}
        found: tuple[int, float, str, _Place] | None = None
        taken, memory, cpus = vm.memory_bytes + MEMORY_OVERHEAD_BYTES, promises.memory_bytes, promises.cpus
        for place in self._fitting(vm, datastore, networks):
            host = place.host
            free = place.free_bytes - taken - memory.get(host, 0)
            if free < 0 or host in but or (vm.ha.anti_affinity and promises.neighbour(vm, host)):
                continue
            score = place.score(free, place.free_cpus - vm.cpus - cpus.get(host, 0))
            order = rank.get(host, len(rank)), -score, host, place
            if found is None or order < found:  # no two are of the same name, so places are never compared
                found = order
        return found[3].candidate(*found[3].left(vm, promises)) if found is not None else None

    def _fitting(self, vm: VmDefinition, datastore: str, networks: Sequence[Network]) -> list[_Place]:
        shape = datastore, tuple(n.name for n in networks), vm.cpus
        places = self._fit.get(shape)
        if places is None:
            reports = [h.report for h in self._hosts if not _unfit(vm, datastore, networks, h)]
            places = self._fit[shape] = [_Place.of(report) for report in reports if report is not None]
        return places


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
