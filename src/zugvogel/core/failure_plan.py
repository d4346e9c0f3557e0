"""Who would be restarted where if hosts failed, and which such failure could not be borne.

Not by sums alone: vms are put on the surviving hosts one by one, in the same order and by the same rules as by a
failover (`core.failover`, `core.placement`). What a plan says fits, fits.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from zugvogel.core import placement
from zugvogel.core.checks import GIB, MEMORY_OVERHEAD_BYTES, free_memory_bytes
from zugvogel.core.failover import urgency
from zugvogel.core.placement import Places, Promises
from zugvogel.core.starts import Begun, as_begun
from zugvogel.domain.ha import FailoverPlan, Placed, RestartPriority
from zugvogel.domain.host import HostStatus, Verdict, VmReport
from zugvogel.domain.network import Network
from zugvogel.domain.vm import VmDefinition, VmRecord
from zugvogel.errors import NotFound

TRIED = 128
"""Sets of failed hosts that are tried one by one; of more only the two that weigh most."""


@dataclass(frozen=True, slots=True)
class Load:
    """The cluster as it stands. `records`: all vms by name."""

    statuses: Sequence[HostStatus]
    records: Mapping[str, VmRecord]
    networks: Mapping[str, Network] = field(default_factory=dict)
    places: Places = field(init=False, repr=False, compare=False)
    """Of the hosts that can take vms."""
    groups: Mapping[str, str] = field(init=False, repr=False, compare=False)
    """vm -> its anti-affinity group, of those that have one."""

    def __post_init__(self) -> None:
        groups = {n: r.definition.ha.anti_affinity for n, r in self.records.items()}
        object.__setattr__(self, "groups", {name: group for name, group in groups.items() if group})
        object.__setattr__(self, "places", Places(self.targets()))

    def targets(self) -> list[HostStatus]:
        """Hosts that can take vms."""
        return [
            status
            for status in self.statuses
            if status.verdict is Verdict.LIVE and status.report is not None and not status.host.is_in_maintenance
        ]

    def on(self, host: str) -> list[VmRecord]:
        """Vms that the host runs, as it reports, with the definitions they were started with as far as known."""
        status = next((s for s in self.statuses if s.host.name == host), None)
        reports = status.report.vms if status is not None and status.report is not None else ()
        return [_as_run(self.records[vm.name], vm) for vm in reports if vm.name in self.records]


def need_bytes(definition: VmDefinition) -> int:
    return definition.memory_bytes + MEMORY_OVERHEAD_BYTES


def plan_failure(load: Load, hosts: Sequence[str]) -> FailoverPlan:
    """Who would be restarted where if `hosts` failed at once. Raises NotFound."""
    known = {status.host.name for status in load.statuses}
    for host in hosts:
        if host not in known:
            raise NotFound(f"there is no host {host}", f"hosts are: {', '.join(sorted(known))}")
    placed = _place_all(load, frozenset(hosts))
    return FailoverPlan(hosts=tuple(hosts), placed=placed, is_complete=not _left(placed))


# what would fit --------------------------------------------------------------------------------------------


def _place_all(load: Load, failed: frozenset[str]) -> tuple[Placed, ...]:
    promises = placement.promises_of(load.groups, [s for s in load.statuses if s.host.name not in failed])
    vms = [(record, host) for host in sorted(failed) for record in load.on(host)]
    vms.sort(key=lambda pair: urgency(pair[0].definition))
    return tuple(_place(load, record, host, failed, promises) for record, host in vms)


def _left(placed: Sequence[Placed]) -> list[Placed]:
    """Those that are to be restarted and fit nowhere."""
    return [p for p in placed if p.host is None and p.priority is not RestartPriority.DISABLED]


def _place(load: Load, record: VmRecord, source: str, failed: frozenset[str], promises: Promises) -> Placed:
    definition = record.definition
    host, why = None, "stays down (restart priority disabled)"
    if definition.ha.restart_priority is not RestartPriority.DISABLED:
        host, why = _best(load, record, failed, promises)
        if host is not None:
            promises.take(definition, host)
    return Placed(
        vm=definition.name,
        priority=definition.ha.restart_priority,
        memory_bytes=need_bytes(definition),
        source=source,
        host=host,
        why=why,
    )


def _best(load: Load, record: VmRecord, failed: frozenset[str], promises: Promises) -> tuple[str | None, str]:
    definition = record.definition
    unknown = [n.network for n in definition.nics if n.network not in load.networks]
    if unknown:
        return None, f"its network {unknown[0]} does not exist any more"
    networks = [load.networks[n.network] for n in definition.nics]
    best = load.places.best(definition, record.datastore, networks, but=failed, promises=promises)
    if best is not None:
        return best.host, best.why
    survivors = [s for s in load.targets() if s.host.name not in failed]
    found = placement.weigh(definition, record.datastore, networks, survivors, promises=promises)
    return None, placement.explain_none(found)


def unmet_steps(load: Load, targets: Sequence[HostStatus], level: int) -> Generator[None, None, str]:
    """Which failure could not be borne, and what of it; empty: all can."""
    if level >= len(targets):
        return (
            f"the failure of {hosts_told(level)} would leave no other: {hosts_told(len(targets))} can take vms now"
        )
    for failed in _failures(load, targets, level):
        yield
        left = _left(_place_all(load, failed))
        if left:
            need = sum(p.memory_bytes for p in left) / GIB
            told = ", ".join(p.vm for p in left[:3]) + (f" and {len(left) - 3} more" if len(left) > 3 else "")
            return (
                f"{told} ({need:.2f} GiB) would not fit on the others if {' and '.join(sorted(failed))} failed: "
                f"{left[0].why}"
            )
    return ""


def _failures(load: Load, targets: Sequence[HostStatus], level: int) -> Iterator[frozenset[str]]:
    names = sorted(s.host.name for s in targets)
    if _choices(len(names), level) <= TRIED:
        yield from (frozenset(some) for some in combinations(names, level))
        return
    by_vms = sorted(targets, key=lambda s: (-protected_bytes(load, s), s.host.name))
    by_weight = sorted(targets, key=lambda s: (-protected_bytes(load, s) - free_bytes(s), s.host.name))
    yield from (frozenset(s.host.name for s in some[:level]) for some in (by_vms, by_weight))


def _choices(of: int, some: int) -> int:
    found = 1
    for i in range(some):
        found = found * (of - i) // (i + 1)
    return found


def protected_bytes(load: Load, status: HostStatus) -> int:
    return sum(
        need_bytes(r.definition)
        for r in load.on(status.host.name)
        if r.definition.ha.restart_priority is not RestartPriority.DISABLED
    )


def with_vm(load: Load, vm: VmRecord, host: str) -> Load:
    """As if `vm` ran on `host`."""
    statuses = as_begun(load.statuses, load.records, [Begun(vm, host)])
    return replace(load, statuses=statuses, records={**load.records, vm.definition.name: vm})


def _as_run(record: VmRecord, seen: VmReport) -> VmRecord:
    """It may have been changed since it was started: what is larger counts."""
    definition = record.definition
    most = max(definition.memory_bytes, seen.memory_bytes)
    if most == definition.memory_bytes:
        return record
    return record.model_copy(update={"definition": definition.model_copy(update={"memory_bytes": most})})


def total_bytes(status: HostStatus) -> int:
    return status.report.facts.memory_total_bytes if status.report is not None else 0


def free_bytes(status: HostStatus) -> int:
    return max(0, free_memory_bytes(status.report)) if status.report is not None else 0


def hosts_told(level: int) -> str:
    return "1 host" if level == 1 else f"{level} hosts"
