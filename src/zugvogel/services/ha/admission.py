"""Admission control: what `core.admission` says about the cluster as this host knows it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Set
from typing import NamedTuple, TypeVar

from zugvogel.core import admission, failure_plan, restart_terms
from zugvogel.core.admission import Steps
from zugvogel.core.failure_plan import Load
from zugvogel.core.restart_terms import RestartTerms
from zugvogel.core.starts import as_begun
from zugvogel.domain.ha import Capacity, FailoverPlan
from zugvogel.domain.host import HostStatus
from zugvogel.domain.settings import ENABLED
from zugvogel.domain.vm import VmRecord
from zugvogel.ports.clock import Clock
from zugvogel.services.inventory import Inventory

T = TypeVar("T")

KEPT = 20.0
"""So many times what finding it took, a capacity holds although vms have changed meanwhile: of thousands some
always do, and this host has other things to do."""


class _Found(NamedTuple):
    """`hosts`: what makes it void at once. `load`: what it was found from."""

    hosts: tuple[object, ...]
    load: tuple[object, ...]
    capacity: Capacity
    holds_until: float


class Admission:
    def __init__(self, inventory: Inventory, clock: Clock) -> None:
        self._inventory = inventory
        self._clock = clock
        self._found: _Found | None = None
        self._finding = asyncio.Lock()

    async def capacity(self, statuses: Sequence[HostStatus]) -> Capacity:
        """In small steps, between which others get their turn. Found anew when a host, its verdict or a setting
        changes; for changes of vms only after a while where finding it takes long."""
        async with self._finding:
            load, level = self._load(statuses), self.level()
            hosts = (level, *((s.host, s.verdict, s.report is None) for s in statuses))
            vms = (*(s.report for s in statuses), *load.records.values(), *load.networks.values())
            found, started = self._found, self._clock.monotonic()
            if found is not None and found.hosts == hosts and (started < found.holds_until or found.load == vms):
                return found.capacity
            capacity = await self._find(load, level)
            now = self._clock.monotonic()
            self._found = _Found(hosts, vms, capacity, now + KEPT * (now - started))
            return capacity

    async def _find(self, load: Load, level: int) -> Capacity:
        return await _in_turns(admission.capacity_steps(load, level))

    def plan(self, hosts: Sequence[str], statuses: Sequence[HostStatus], fenced: Set[str]) -> FailoverPlan:
        """Who would be restarted where if `hosts` failed at once. `fenced`: hosts whose power a device can cut.
        Raises NotFound."""
        load = self._load(statuses)
        datastores = {d.name: d for d in self._inventory.datastores()}
        terms = RestartTerms(bool(self._inventory.setting(ENABLED)), datastores, fenced)
        return restart_terms.under(failure_plan.plan_failure(load, hosts), load.records, terms)

    async def admit(
        self, vm: VmRecord, hosts: Sequence[str], statuses: Sequence[HostStatus], otherwise: str
    ) -> str:
        """The first of `hosts` on which it may be started without taking room kept for failures; while high
        availability is off the first of all. Raises Refused, with the figures and how it is done `otherwise`."""
        load = self._load(statuses)
        return await _in_turns(admission.admit_steps(load, vm, hosts, self.level(), otherwise))

    def level(self) -> int:
        """Failures for which room is kept; 0 while high availability is off."""
        return self._inventory.number("das.failoverlevel") if self._inventory.setting(ENABLED) else 0

    def _load(self, statuses: Sequence[HostStatus]) -> Load:
        records = {r.definition.name: r for r in self._inventory.vms()}
        return Load(as_begun(statuses, records), records, {n.name: n for n in self._inventory.networks()})


async def _in_turns(steps: Steps[T]) -> T:
    """Others get their turn between the steps."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: T = end.value
            return found
        await asyncio.sleep(0)
