"""Admission control: what `core.admission` says about the cluster as this host knows it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Set
from typing import NamedTuple

from zugvogel.core import admission, restart_terms
from zugvogel.core.admission import Load
from zugvogel.core.restart_terms import RestartTerms
from zugvogel.domain.ha import Capacity, FailoverPlan
from zugvogel.domain.host import HostStatus
from zugvogel.domain.settings import ENABLED
from zugvogel.domain.vm import VmRecord
from zugvogel.ports.clock import Clock
from zugvogel.services.inventory import Inventory

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
            load, level = self._load(statuses), self._level()
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
        steps = admission.capacity_steps(load, level)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                capacity: Capacity = end.value
                return capacity
            await asyncio.sleep(0)

    def plan(self, hosts: Sequence[str], statuses: Sequence[HostStatus], fenced: Set[str]) -> FailoverPlan:
        """Who would be restarted where if `hosts` failed at once. `fenced`: hosts whose power a device can cut.
        Raises NotFound."""
        load = self._load(statuses)
        datastores = {d.name: d for d in self._inventory.datastores()}
        terms = RestartTerms(bool(self._inventory.setting(ENABLED)), datastores, fenced)
        return restart_terms.under(admission.plan_failure(load, hosts), load.records, terms)

    def refuse_start(self, vm: VmRecord, host: str, statuses: Sequence[HostStatus]) -> None:
        """Raises Refused, with the figures, when starting it there takes room kept for failures; never while
        high availability is off."""
        admission.refuse_start(self._load(statuses), vm, host, self._level())

    def _level(self) -> int:
        return self._inventory.number("das.failoverlevel") if self._inventory.setting(ENABLED) else 0

    def _load(self, statuses: Sequence[HostStatus]) -> Load:
        records = {r.definition.name: r for r in self._inventory.vms()}
        return Load(statuses, records, {n.name: n for n in self._inventory.networks()})
