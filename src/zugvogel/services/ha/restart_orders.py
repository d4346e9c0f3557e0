"""The judge's orders to start vms, from the note that one is given to its end, and what it remembers of earlier
ones.

Orders lie on the datastore, so the next judge finds those that are under way. How often a vm was tried outlives
the judge in ``restart.json``. When that was does not: the next one counts on its own clock, from its first look.
Only failures of the vm's own are noted with their time, so that old ones are not taken for new.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from pydantic import ValidationError

from zugvogel.core.failover import SPEAKS
from zugvogel.core.failover_facts import GiveResumeOrder, GiveStartOrder, Ordered
from zugvogel.domain.ha import RestartRecord, StartAnswer, StartOrder
from zugvogel.domain.host import HostStatus, Verdict
from zugvogel.domain.task import Severity
from zugvogel.domain.vm import VmDefinition, VmState
from zugvogel.errors import DeadlineExceeded, NotFound, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.events import EventLog
from zugvogel.services.ha.given_orders import given_to
from zugvogel.services.inventory import Inventory

log = logging.getLogger(__name__)

NOTE = "restart.json"
REFUSED_S = 60.0
"""A host that refused a vm is not asked again for so long; one that did not answer for longer each time, so that
all get their turn."""
ANSWER_S = 60.0
"""Without an answer for so long another host is ordered; whichever links the next epoch runs the vm."""
RESUME_ANSWER_S = 900.0
"""The same for memory, which may be much, or wait for a lock; a load that fails is answered sooner."""
CALL_S = 5.0
FAILED_LOOKS = 3
"""An order that could not be looked after so often in a row is let go of: the vm's lease tells what became of
it."""
LOST = "it booted from its disks: what it had not saved is lost"


class Caller(Protocol):
    """An RPC command of a host, here or there."""

    async def __call__(
        self, host: str, command: str, payload: dict[str, Any], *, timeout_s: float = 15.0
    ) -> dict[str, Any]: ...


@dataclass(slots=True)
class UnderWay:
    """An order that was given. Instants are this host's clock. `is_own`: for a vm that failed by itself.
    `failed_looks`: in a row."""

    order: StartOrder
    host: str
    definition: VmDefinition
    since: float
    is_own: bool = False
    failed_looks: int = 0


@dataclass(slots=True)
class _History:
    """Of one vm, `uuid` empty while it is not known. `refusals`: host -> (why, until). `unanswered`: orders
    in a row that no host answered. `own`: restarts after failures of its own."""

    uuid: str = ""
    record: RestartRecord | None = None
    is_read: bool = False
    ordered_at: float | None = None
    lock_tries: int = 0
    unanswered: int = 0
    refusals: dict[str, tuple[str, float]] = field(default_factory=dict)
    own: list[float] = field(default_factory=list)


class RestartOrders:
    def __init__(self, host: str, clock: Clock, inventory: Inventory, events: EventLog, call: Caller) -> None:
        self._host = host
        self._clock = clock
        self._inventory = inventory
        self._events = events
        self._call = call
        self.under_way: dict[str, UnderWay] = {}
        self._histories: dict[str, _History] = {}
        self._number = 0

    # what is known -----------------------------------------------------------------------------------

    def ordered(self) -> list[Ordered]:
        return [Ordered(known.definition, known.host) for known in self.under_way.values()]

    def is_any_of(self, datastore: str) -> bool:
        return datastore in [known.order.datastore for known in self.under_way.values()]

    def forget(self, datastore: str) -> None:
        """This host does not judge it any more; the orders stay for the next judge."""
        for vm in [vm for vm, known in self.under_way.items() if known.order.datastore == datastore]:
            del self.under_way[vm]
        for history in self._histories.values():
            history.record, history.is_read, history.ordered_at = None, False, None

    async def record_of(self, store: MountedDatastore, vm: str) -> RestartRecord | None:
        history = self._history(vm)
        if not history.is_read:
            raw = await store.folders.read_note(vm, NOTE)
            try:
                history.record = RestartRecord.model_validate_json(raw) if raw else None
            except ValidationError as error:
                log.warning("%s: %s is not a record: %s", vm, NOTE, error)
            history.is_read = True
            if history.record is not None:
                history.own = self._own_of(history.record)
        return history.record

    def _own_of(self, record: RestartRecord) -> list[float]:
        """Their instants on this host's clock; of what the wall clock puts into the future, now."""
        now, now_wall = self._clock.monotonic(), self._now_wall()
        return [now - max(0.0, (now_wall - at).total_seconds()) for at in record.own_failed_at]

    def _now_wall(self) -> datetime:
        return datetime.fromisoformat(self._clock.now_iso())

    def since_order_s(self, vm: str) -> float | None:
        """Since the last attempt was ordered. None: never by this host; infinite: the next one follows at once,
        since that one spawned no QEMU, or its host is gone."""
        at = self._history(vm).ordered_at
        return None if at is None else self._clock.monotonic() - at

    def lock_tries(self, vm: str) -> int:
        return self._history(vm).lock_tries

    def own_failures(self, vm: str, window_s: float) -> int:
        """Restarts after failures of its own within the last `window_s`."""
        history, since = self._history(vm), self._clock.monotonic() - window_s
        history.own = [at for at in history.own if at > since]
        return len(history.own)

    def refusals(self, vm: str) -> dict[str, str]:
        now = self._clock.monotonic()
        return {host: why for host, (why, until) in self._history(vm).refusals.items() if until > now}

    def _history(self, vm: str) -> _History:
        """Of the vm that has this name now: one that was made anew under it has none yet."""
        try:
            uuid = self._inventory.vm(vm).definition.uuid
        except NotFound:
            return self._histories.setdefault(vm, _History())
        known = self._histories.get(vm)
        if known is None or known.uuid not in {"", uuid}:
            known = self._histories[vm] = _History()
        known.uuid = uuid
        return known

    # giving ------------------------------------------------------------------------------------------

    async def adopt(self, store: MountedDatastore, hosts: Iterable[str]) -> None:
        """Orders that the judge before this one gave and did not take back."""
        for host, given in await given_to(store.start_orders, hosts):
            for vm, raw in given.items():
                try:
                    order = StartOrder.model_validate_json(raw)
                    definition = self._inventory.vm(vm).definition
                except (ValidationError, NotFound) as error:
                    log.warning("an order for %s to %s is taken back: %s", vm, host, error)
                    await self._take_back(store, host, vm)
                    continue
                if vm in self.under_way:
                    await self._take_back(store, host, vm)
                    continue
                now = self._clock.monotonic()
                self.under_way[vm] = UnderWay(order, host, definition, now)
                self._history(vm).ordered_at = now

    def begin(
        self,
        decision: GiveStartOrder | GiveResumeOrder,
        datastore: str,
        definition: VmDefinition,
        *,
        down_s: float | None = None,
        addresses: tuple[str, ...] = (),
    ) -> UnderWay:
        """From here on its room is promised and its attempt counted; `give` gives it. `down_s`, `addresses`: as in
        `StartOrder`."""
        self._number += 1
        now, history = self._clock.monotonic(), self._history(decision.vm)
        order = StartOrder(
            id=f"{self._host}-{int(now * 1000)}-{self._number}",
            vm=decision.vm,
            datastore=datastore,
            epoch=decision.epoch,
            judge=self._host,
            attempt=decision.attempt,
            is_resume=isinstance(decision, GiveResumeOrder),
            why=decision.cause,
            down_s=down_s,
            addresses=addresses,
        )
        history.ordered_at = now
        is_own = isinstance(decision, GiveStartOrder) and decision.is_own_failure
        if is_own:
            history.own.append(now)
        known = self.under_way[decision.vm] = UnderWay(order, decision.host, definition, now, is_own)
        return known

    async def give(self, store: MountedDatastore, known: UnderWay, reason: str) -> None:
        """The note first: an attempt that is not counted would be made once too often."""
        order = known.order
        try:
            await self._note(store, order, attempts=order.attempt, is_ordered=True)
            await store.start_orders.give(known.host, order.vm, order.model_dump_json().encode())
        except ZugvogelError:
            self._drop(known)
            raise
        what = "resume" if order.is_resume else "start"
        self._events.emit(
            "vm.restart-ordered",
            order.vm,
            f"{known.host} is to {what} {order.vm} (attempt {order.attempt}): {order.why}",
            evidence={"host": known.host, "reason": reason, "epoch": order.epoch, "attempt": order.attempt},
        )
        payload = {"order": order.model_dump(mode="json")}
        try:
            await self._call(known.host, "ha.start", payload, timeout_s=CALL_S)
        except ZugvogelError as error:
            log.info("%s finds its order for %s on the datastore: %s", known.host, order.vm, error)

    # looking after -------------------------------------------------------------------------------------

    async def look(self, store: MountedDatastore, statuses: Sequence[HostStatus]) -> None:
        """One look at each order of this datastore: is it done, refused, or given to a host that is gone? What is
        wrong with one vm's folder holds up nobody else. Raises `DeadlineExceeded` where the datastore does not
        answer."""
        name = store.datastore.name
        orders = [(vm, known) for vm, known in self.under_way.items() if known.order.datastore == name]
        if not orders:
            return
        by_name = {status.host.name: status for status in statuses}
        running = {
            vm.name: (status.host.name, vm.epoch)
            for status in statuses
            if status.verdict in SPEAKS and status.report is not None
            for vm in status.report.vms
            if vm.state is VmState.RUNNING
        }
        looks = [self._look(store, known, by_name.get(known.host), running.get(vm)) for vm, known in orders]
        late: DeadlineExceeded | None = None
        for (_, known), failure in zip(orders, await asyncio.gather(*looks, return_exceptions=True), strict=True):
            if isinstance(failure, DeadlineExceeded):
                late = failure
            elif failure is None:
                known.failed_looks = 0
            elif isinstance(failure, Exception):
                await self._failed_look(store, known, failure)
            else:
                raise failure
        if late is not None:
            raise late

    async def _failed_look(self, store: MountedDatastore, known: UnderWay, why: Exception) -> None:
        known.failed_looks += 1
        is_defect = not isinstance(why, ZugvogelError)
        log.warning(
            "%s: its order is not looked after: %s", known.order.vm, why, exc_info=why if is_defect else None
        )
        if known.failed_looks >= FAILED_LOOKS:
            await self._end(store, known)

    async def call_off(self, store: MountedDatastore, being_given: AbstractSet[str]) -> None:
        """High availability is off: nobody is to find an order later. One that was taken up goes on. Those that
        are `being_given` come next time."""
        for vm, known in list(self.under_way.items()):
            if known.order.datastore == store.datastore.name and vm not in being_given:
                await store.start_orders.take_back(known.host, vm)
                self._drop(known)

    async def _look(
        self,
        store: MountedDatastore,
        known: UnderWay,
        status: HostStatus | None,
        running: tuple[str, int] | None,
    ) -> None:
        order = known.order
        if running is not None and running[1] > order.epoch:
            await self._verified(store, known, *running)
            return
        if status is None or status.verdict not in {Verdict.LIVE, Verdict.MAINTENANCE}:
            verdict = status.verdict if status is not None else "no host of the cluster any more"
            why = f"{known.host}, which was told to start it, is {verdict}"
            await self._failed(store, known, why)
            return
        answer = await self._answer(store, known)
        if answer is not None and answer.why:
            await self._refused(store, known, answer)
            return
        if answer is not None and answer.epoch > order.epoch and status.is_report_stale:
            await self._verified(store, known, known.host, answer.epoch)  # its report does not come through
            return
        patience_s = RESUME_ANSWER_S if order.is_resume and answer is None else ANSWER_S
        if self._clock.monotonic() - known.since > patience_s:
            what = "told that it runs but does not report it" if answer is not None else "did not answer"
            self._history(order.vm).unanswered += 1
            told = f"{what} within {patience_s:.0f} s"
            await self._failed(store, known, f"{known.host} {told}", refusal=told)

    async def _answer(self, store: MountedDatastore, known: UnderWay) -> StartAnswer | None:
        raw = await store.start_orders.answer_of(known.host, known.order.vm)
        try:
            answer = StartAnswer.model_validate_json(raw) if raw else None
        except ValidationError:
            return None
        return answer if answer is not None and answer.id == known.order.id else None

    async def _verified(self, store: MountedDatastore, known: UnderWay, host: str, epoch: int) -> None:
        order, history = known.order, self._history(known.order.vm)
        await self._note(store, order, attempts=order.attempt, is_verified=True)
        history.lock_tries = history.unanswered = 0
        history.refusals.clear()
        await self._end(store, known)
        took_s = self._clock.monotonic() - known.since
        evidence = {"host": host, "epoch": epoch, "attempt": order.attempt, "took_s": round(took_s, 1)}
        if not order.is_resume:
            told = f"{order.vm} was restarted on {host} ({order.why}); {LOST}"
            self._events.emit("vm.restarted", order.vm, told, severity=Severity.WARNING, evidence=evidence)

    async def _refused(self, store: MountedDatastore, known: UnderWay, answer: StartAnswer) -> None:
        """Only an attempt that may have spawned a QEMU is used up: not one that met a held lock, nor one that was
        refused before the lease was claimed."""
        order, history = known.order, self._history(known.order.vm)
        history.unanswered = 0
        if answer.is_lock_held:
            history.lock_tries += 1
            await self._note(store, order, attempts=order.attempt - 1, why=answer.why)
            await self._end(store, known)
            return
        history.lock_tries = 0
        await self._failed(store, known, f"{known.host}: {answer.why}", refusal=answer.why)

    def _uncount(self, known: UnderWay) -> None:
        history = self._history(known.order.vm)
        history.ordered_at = float("-inf")
        if known.is_own and known.since in history.own:
            history.own.remove(known.since)

    def _refuse(self, known: UnderWay, why: str) -> None:
        history = self._history(known.order.vm)
        history.refusals[known.host] = (why, self._clock.monotonic() + REFUSED_S * max(1, history.unanswered))

    async def _failed(self, store: MountedDatastore, known: UnderWay, why: str, *, refusal: str = "") -> None:
        """`refusal`: why the host is passed over for a while; empty: it is gone. Where nobody claimed the lease no
        QEMU was spawned, so that no attempt is used up, and the next order is given at once; at once too where the
        host is gone, since a pause would mend nothing."""
        order = known.order
        lease = await store.leases.read(order.vm)
        if refusal:
            self._refuse(known, refusal)
        if lease is not None and lease.epoch == order.epoch:
            log.warning("%s: %s does not start it: %s", order.vm, known.host, why)
            self._uncount(known)
            await self._note(store, order, attempts=order.attempt - 1, why=why)
            await self._end(store, known)
            return
        if not refusal:
            self._history(order.vm).ordered_at = float("-inf")
        await self._note(store, order, attempts=order.attempt, why=why)
        await self._end(store, known)
        what = "resume" if order.is_resume else "start"
        self._events.emit(
            "vm.restart-failed",
            order.vm,
            f"attempt {order.attempt} to {what} {order.vm} failed: {why}",
            severity=Severity.WARNING,
            evidence={"host": known.host, "epoch": order.epoch, "attempt": order.attempt},
        )

    async def _end(self, store: MountedDatastore, known: UnderWay) -> None:
        self._drop(known)
        await self._take_back(store, known.host, known.order.vm)

    async def _take_back(self, store: MountedDatastore, host: str, vm: str) -> None:
        try:
            await store.start_orders.take_back(host, vm)
        except ZugvogelError as error:
            log.warning("%s: order to %s not taken back: %s", vm, host, error)

    def _drop(self, known: UnderWay) -> None:
        if self.under_way.get(known.order.vm) is known:
            del self.under_way[known.order.vm]

    async def _note(
        self,
        store: MountedDatastore,
        order: StartOrder,
        *,
        attempts: int,
        is_ordered: bool = False,
        is_verified: bool = False,
        why: str = "",
    ) -> None:
        history = self._history(order.vm)
        now, now_wall = self._clock.monotonic(), self._now_wall()
        record = RestartRecord(
            vm=order.vm,
            failed_epoch=order.epoch,
            attempts=attempts,
            is_ordered=is_ordered,
            is_verified=is_verified,
            own_failures=len(history.own),
            own_failed_at=tuple(now_wall - timedelta(seconds=now - at) for at in history.own),
            why=why,
        )
        await store.folders.write_note(order.vm, NOTE, record.model_dump_json().encode())
        history.record, history.is_read = record, True
