"""Admission control: what `core.admission` says about the cluster as this host knows it."""

from __future__ import annotations

from collections.abc import Sequence

from zugvogel.core import admission
from zugvogel.core.admission import Load
from zugvogel.domain.ha import Capacity, FailoverPlan
from zugvogel.domain.host import HostStatus
from zugvogel.domain.vm import VmRecord
from zugvogel.services.inventory import Inventory


class Admission:
    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def capacity(self, statuses: Sequence[HostStatus]) -> Capacity:
        return admission.capacity(self._load(statuses), self._level())

    def plan(self, hosts: Sequence[str], statuses: Sequence[HostStatus]) -> FailoverPlan:
        """Who would be restarted where if `hosts` failed at once. Raises NotFound."""
        return admission.plan_failure(self._load(statuses), hosts)

    def refuse_start(self, vm: VmRecord, host: str, statuses: Sequence[HostStatus]) -> None:
        """Raises Refused, with the figures, when starting it there takes room kept for failures; never while
        high availability is off."""
        admission.refuse_start(self._load(statuses), vm, host, self._level())

    def _level(self) -> int:
        return self._inventory.number("das.failoverlevel") if self._inventory.setting("das.enabled") else 0

    def _load(self, statuses: Sequence[HostStatus]) -> Load:
        records = {r.definition.name: r for r in self._inventory.vms()}
        return Load(statuses, records, {n.name: n for n in self._inventory.networks()})
