"""Which host takes a vm. Pure: host statuses in, weighed candidates out, with a reason people can check."""

from __future__ import annotations

from collections.abc import Sequence

from zugvogel.core.checks import GIB, MEMORY_OVERHEAD_BYTES, free_cpus, free_memory_bytes
from zugvogel.domain.host import HostStatus, Verdict
from zugvogel.domain.migration import Candidate
from zugvogel.domain.network import Network
from zugvogel.domain.vm import VmDefinition


def weigh(
    vm: VmDefinition, datastore: str, networks: Sequence[Network], hosts: Sequence[HostStatus]
) -> tuple[Candidate, ...]:
    """All hosts, best first. Score: share of memory free after placing, plus a tenth of the share of cores;
    ties by name, so that the same state gives the same answer."""
    weighed = [_weigh_one(vm, datastore, networks, h) for h in hosts]
    return tuple(sorted(weighed, key=lambda c: (not c.is_fit, -c.score, c.host)))


def _weigh_one(vm: VmDefinition, datastore: str, networks: Sequence[Network], status: HostStatus) -> Candidate:
    name, report = status.host.name, status.report

    def unfit(why: str) -> Candidate:
        return Candidate(host=name, is_fit=False, score=0.0, why=why)

    if status.verdict is not Verdict.LIVE:
        return unfit(f"is {status.verdict}")
    if report is None:
        return unfit("has not reported yet (an agent has just started)")
    if not any(d.name == datastore and d.is_usable for d in report.datastores):
        return unfit(f"does not reach datastore {datastore}")
    present = {b.name for b in report.facts.bridges}
    for network in networks:
        if network.bridge_on(name) not in present:
            return unfit(f"has no bridge for network {network.name}")
    free = free_memory_bytes(report) - vm.memory_bytes - MEMORY_OVERHEAD_BYTES
    if free < 0:
        return unfit(f"lacks {-free / GIB:.2f} GiB of memory")
    if vm.cpus > report.facts.cores:
        return unfit(f"has only {report.facts.cores} cores")
    cpus = free_cpus(report) - vm.cpus
    score = free / max(1, report.facts.memory_total_bytes) + 0.1 * cpus / max(1, report.facts.cores)
    return Candidate(
        host=name,
        is_fit=True,
        score=round(score, 4),
        why=f"{free / GIB:.2f} GiB of memory and {cpus:g} of {report.facts.cores} cores stay free",
    )


def explain_none(candidates: Sequence[Candidate]) -> str:
    """Why no host fits, in one sentence."""
    told = "; ".join(f"{c.host} {c.why}" for c in candidates)
    return f"no host can take it: {told}" if told else "the cluster has no other host"
