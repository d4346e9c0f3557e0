"""The judge's acceptance of an isolated host's vms, as files: without one the host leaves them running."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from pydantic import ValidationError

from zugvogel.core.failover_facts import AcceptIsolated, Ordered
from zugvogel.domain.ha import IsolationOrder
from zugvogel.domain.host import HostStatus, Verdict
from zugvogel.domain.task import Severity
from zugvogel.errors import NotFound, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.events import EventLog
from zugvogel.services.ha.given_orders import given_to
from zugvogel.services.inventory import Inventory

log = logging.getLogger(__name__)


class IsolationOrders:
    def __init__(self, host: str, clock: Clock, inventory: Inventory, events: EventLog) -> None:
        self._host = host
        self._clock = clock
        self._inventory = inventory
        self._events = events
        self._given: dict[str, tuple[str, IsolationOrder]] = {}
        """vm -> (isolated host, order)."""
        self._number = 0

    def is_any_of(self, datastore: str) -> bool:
        return datastore in [order.datastore for _, order in self._given.values()]

    def accepted_epoch(self, vm: str) -> int | None:
        return self._given[vm][1].epoch if vm in self._given else None

    def ordered(self, but: AbstractSet[str]) -> list[Ordered]:
        """Room on the hosts that are to go on with them. `but`: vms that are placed anew."""
        found = []
        for vm, (_, order) in self._given.items():
            if vm in but:
                continue
            try:
                definition = self._inventory.vm(vm).definition
            except NotFound:
                continue
            if order.target is not None:
                found.append(Ordered(definition, order.target))
        return found

    def forget(self, datastore: str) -> None:
        for vm in [vm for vm, (_, order) in self._given.items() if order.datastore == datastore]:
            del self._given[vm]

    async def adopt(self, store: MountedDatastore, hosts: Iterable[str]) -> None:
        """Orders of the judge before this one."""
        for host, given in await given_to(store.isolation_orders, hosts):
            for vm, raw in given.items():
                try:
                    self._given.setdefault(vm, (host, IsolationOrder.model_validate_json(raw)))
                except ValidationError as error:
                    log.warning("an isolation order for %s is not understood: %s", vm, error)

    async def look(
        self,
        store: MountedDatastore,
        statuses: Sequence[HostStatus],
        missing: AbstractSet[str],
        being_given: AbstractSet[str] = frozenset(),
    ) -> None:
        """Take back what is over: the host is not isolated any more, the vm runs elsewhere, or nothing is missing
        since high availability is off. One that is `being_given` comes next time: taken back now it would be
        written after that."""
        isolated = {s.host.name for s in statuses if s.verdict is Verdict.ISOLATED}
        for vm, (host, order) in list(self._given.items()):
            if (
                order.datastore != store.datastore.name
                or vm in being_given
                or (host in isolated and vm in missing)
            ):
                continue
            try:
                await store.isolation_orders.take_back(host, vm)
            except ZugvogelError as error:
                log.warning("%s: isolation order to %s not taken back: %s", vm, host, error)
                continue
            self._given.pop(vm, None)

    def begin(self, decision: AcceptIsolated, datastore: str) -> None:
        """From here on its target's room is promised; `give` gives it. Each has an id of its own: of a host that
        is isolated once more, the same judge may accept the same epoch of the vm again."""
        self._number += 1
        order = IsolationOrder(
            id=f"{self._host}-{int(self._clock.monotonic() * 1000)}-{self._number}",
            vm=decision.vm,
            datastore=datastore,
            epoch=decision.epoch,
            judge=self._host,
            response=decision.response,
            target=decision.target,
        )
        self._given[decision.vm] = (decision.host, order)

    async def give(self, store: MountedDatastore, decision: AcceptIsolated) -> None:
        host, order = self._given[decision.vm]
        try:
            await store.isolation_orders.give(host, order.vm, order.model_dump_json().encode())
        except ZugvogelError:
            self._given.pop(order.vm, None)
            raise
        self._events.emit(
            "vm.isolation-accepted",
            order.vm,
            f"{host} is isolated: it may {order.response} {order.vm}, which {order.target} then takes",
            severity=Severity.WARNING,
            evidence={"why": decision.why, "epoch": order.epoch, "host": host, "target": order.target},
        )
