"""The judge's rounds: vms that are to run and are not seen to are started again (H3, H4).

Runs on every primary and acts on the datastores whose active primary this host is. It works from its own replica
of the inventory, its own judgement of the hosts, and the datastore; never from etcd, which may have no majority.
In steady state it compares names and reads nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from zugvogel.core import failover
from zugvogel.core.death_proof import proof_of
from zugvogel.core.failover_facts import (
    AcceptIsolated,
    AskToGiveUp,
    Decision,
    FailoverSettings,
    FenceHost,
    GiveResumeOrder,
    GiveStartOrder,
    ReleaseLease,
    Situation,
    Snapshot,
    Wait,
    WaitFor,
)
from zugvogel.core.missing import missing, stranded
from zugvogel.domain.ha import IsolationResponse
from zugvogel.domain.host import HostStatus, Verdict
from zugvogel.domain.lease import LeaseState
from zugvogel.domain.task import Severity
from zugvogel.domain.vm import VmRecord
from zugvogel.errors import DeadlineExceeded, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.fence import Fences
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.events import EventLog
from zugvogel.services.ha.failover_steps import FailoverSteps
from zugvogel.services.ha.isolation_orders import IsolationOrders
from zugvogel.services.ha.judged import Judged
from zugvogel.services.ha.restart_orders import Caller, RestartOrders
from zugvogel.services.ha.verdict_events import VerdictEvents
from zugvogel.services.inventory import Inventory

log = logging.getLogger(__name__)

WORKERS = 64


class JudgeRole(Protocol):
    """`services.ha.active_primary.ActivePrimary`."""

    def judges(self, datastore: str) -> bool: ...
    def finish_round(self, datastore: str) -> None: ...


class Failover:
    """`statuses` is this host's own judgement of all hosts; `is_silent(datastore, host)`: that host's beat there
    was seen to stand still for the detection time; `call` an RPC command of any host, this one too."""

    def __init__(
        self,
        *,
        host: str,
        clock: Clock,
        inventory: Inventory,
        stores: Callable[[], Sequence[MountedDatastore]],
        statuses: Callable[[], list[HostStatus]],
        is_silent: Callable[[str, str], bool],
        role: JudgeRole,
        call: Caller,
        events: EventLog,
        fences: Fences | None = None,
    ) -> None:
        self._clock = clock
        self._inventory = inventory
        self._stores = stores
        self._statuses = statuses
        self._is_silent = is_silent
        self._role = role
        self._events = events
        self._verdicts = VerdictEvents(host, events)
        self._orders = RestartOrders(host, clock, inventory, events, call)
        self._isolated = IsolationOrders(host, inventory, events)
        self._steps = FailoverSteps(
            clock, inventory, events, call, fences, is_dead=self._is_dead, judges=role.judges
        )
        self._judged: dict[str, Judged] = {}
        self._seen: dict[str, Verdict] = {}
        self._work: dict[str, tuple[str, asyncio.Task[None]]] = {}
        """vm, or host to fence -> what is being done about it."""
        self._turns = asyncio.Semaphore(WORKERS)

    def waiting(self) -> tuple[str, ...]:
        """Vms that wait for their restart, each with the reason in a sentence; of the datastores this host
        judges."""
        quiet = {Wait.STOPPED, Wait.HOLDER, Wait.RESPONSE}
        waits = [wait for judged in self._judged.values() for wait in judged.waits.values()]
        return tuple(sorted(f"{wait.vm}: {wait.why}" for wait in waits if wait.wait not in quiet))

    def why_waiting(self, vm: str) -> str:
        """Why it is not started, in a sentence; empty: it is not missing, or this host does not judge it."""
        return next((j.waits[vm].why for j in self._judged.values() if vm in j.waits), "")

    async def stop(self) -> None:
        """Nothing more begins; what is under way is cut off. The next judge finds all on the datastore."""
        tasks = [t for _, t in self._work.values()] + [j.task for j in self._judged.values() if j.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # rounds ------------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Begin a round on every datastore this host judges that has none under way; one where nothing is missing
        is over at once."""
        stores = [s for s in self._stores() if self._role.judges(s.datastore.name)]
        self._forget_lost({s.datastore.name for s in stores})
        if not stores:
            return
        statuses = self._statuses()
        self._note_verdicts(statuses, {s.datastore.name for s in stores})
        for store in stores:
            judged = self._judged.setdefault(store.datastore.name, Judged(store))
            judged.store = store
        self._find_missing(statuses)
        for judged in list(self._judged.values()):
            self._begin(judged)

    def _forget_lost(self, names: set[str]) -> None:
        for name in self._judged.keys() - names:
            task = self._judged.pop(name).task
            if task is not None:
                task.cancel()
            self._orders.forget(name)
            self._isolated.forget(name)
        if not names:
            self._verdicts.forget()

    def _note_verdicts(self, statuses: list[HostStatus], names: set[str]) -> None:
        verdicts = {s.host.name: s.verdict for s in statuses}
        if verdicts != self._seen:
            self._seen = verdicts
            for judged in self._judged.values():
                judged.look_again()
        first = next(iter(self._inventory.datastores()), None)
        if first is not None and first.name in names:
            self._verdicts.tell(statuses, self._inventory.number("das.failuredetectiontime") / 1000)
        else:
            self._verdicts.forget()

    def _find_missing(self, statuses: Sequence[HostStatus]) -> None:
        for judged in self._judged.values():
            judged.missing, judged.stranded = [], []
        if not self._inventory.setting("das.enabled"):
            return
        records = self._inventory.vms()
        for record in missing(records, statuses):
            if record.datastore in self._judged:
                self._judged[record.datastore].missing.append(record)
        if any(s.verdict is Verdict.STORAGE_LOST for s in statuses):
            by_name = {r.definition.name: r for r in records}
            for found in stranded(by_name, statuses, {vm: self._worker(vm) for vm in by_name}):
                of = self._judged.get(found.record.datastore)
                if of is not None and not of.was_asked(found.name, self._clock.monotonic()):
                    of.stranded.append(found)

    def _begin(self, judged: Judged) -> None:
        if judged.task is not None and not judged.task.done():
            return
        if not self._has_work(judged):
            judged.keep(())
            self._role.finish_round(judged.name)
            return
        judged.task = asyncio.create_task(self._rounds(judged), name=f"failover on {judged.name}")

    def _has_work(self, judged: Judged) -> bool:
        if not self._inventory.setting("das.enabled"):
            return False
        return bool(
            not judged.is_adopted
            or judged.missing
            or judged.stranded
            or self._orders.is_any_of(judged.name)
            or self._isolated.is_any_of(judged.name)
        )

    async def _rounds(self, judged: Judged) -> None:
        """One round, and another at once when work has ended meanwhile."""
        while True:
            judged.is_due = False
            try:
                await self._round(judged)
            except ZugvogelError as error:
                log.warning("failover on %s: this round ended early: %s", judged.name, error)
            except Exception:
                log.exception("failover on %s", judged.name)
            if not judged.is_due or not self._role.judges(judged.name):
                return
            self._find_missing(self._statuses())

    async def _round(self, judged: Judged) -> None:
        statuses = self._statuses()
        if not judged.is_adopted:
            hosts = [h.name for h in self._inventory.hosts()]
            await self._orders.adopt(judged.store, hosts)
            await self._isolated.adopt(judged.store, hosts)
            judged.is_adopted = True
        await self._orders.look(judged.store, statuses)
        names = {r.definition.name for r in judged.missing}
        await self._isolated.look(judged.store, statuses, names)
        situations, is_complete = await self._situations(judged)
        snapshot = self._snapshot(judged, statuses, situations)
        for decision in failover.decide(snapshot):
            self._carry_out(judged, decision)
        judged.keep(names)
        if is_complete:
            self._role.finish_round(judged.name)

    # the snapshot --------------------------------------------------------------------------------------

    async def _situations(self, judged: Judged) -> tuple[list[Situation], bool]:
        """Of the vms whose lease is due to be read. False: the datastore did not answer in time."""
        due = judged.due(self._clock.monotonic())
        found = await asyncio.gather(*(self._situation(judged, r) for r in due), return_exceptions=True)
        situations, is_complete = [], True
        for record, each in zip(due, found, strict=True):
            if isinstance(each, Situation):
                situations.append(each)
            elif isinstance(each, ZugvogelError):
                log.warning("%s: not looked at: %s", record.definition.name, each)
                is_complete = is_complete and not isinstance(each, DeadlineExceeded)
            else:
                raise each
        return situations, is_complete or not due

    async def _situation(self, judged: Judged, record: VmRecord) -> Situation:
        name, worker = record.definition.name, self._worker(record.definition.name)
        if worker:
            return Situation(record, judged.last_lease(name), worker=worker)
        lease = await judged.store.leases.read(name)
        restart = None
        if lease is not None and (lease.state is not LeaseState.RUNNING):
            restart = await self._orders.record_of(judged.store, name)
        return Situation(
            record=record,
            lease=lease,
            lease_age_s=judged.saw(name, lease, self._clock.monotonic()),
            restart=restart,
            since_order_s=self._orders.since_order_s(name),
            lock_tries=self._orders.lock_tries(name),
            own_failures=self._orders.own_failures(name, self._inventory.number("das.vmmonitoring.window")),
            refusals=self._orders.refusals(name),
            worker=self._worker(name),
            accepted_epoch=self._isolated.accepted_epoch(name),
        )

    def _worker(self, vm: str) -> str:
        if vm in self._work:
            return self._work[vm][0]
        known = self._orders.under_way.get(vm)
        return known.host if known is not None else ""

    def _snapshot(self, judged: Judged, statuses: list[HostStatus], situations: list[Situation]) -> Snapshot:
        inventory, datastore = self._inventory, judged.store.datastore
        proof = proof_of(datastore)
        groups = {r.definition.name: r.definition.ha.anti_affinity for r in inventory.vms()}
        return Snapshot(
            datastore=datastore,
            proof=proof,
            statuses=statuses,
            silent={s.host.name for s in statuses if self._is_dead(judged.name, s)},
            vms=situations,
            settings=self._settings(),
            networks={n.name: n for n in inventory.networks()},
            groups={vm: group for vm, group in groups.items() if group},
            ordered=[*self._orders.ordered(), *self._isolated.ordered({s.name for s in situations})],
            stranded=judged.stranded,
            fences=self._steps.fences(proof, statuses),
        )

    def _settings(self) -> FailoverSettings:
        number = self._inventory.number
        return FailoverSettings(
            max_attempts=number("das.maxvmrestartcount"),
            per_host=number("das.perhostconcurrentfailoverslimit"),
            apd_timeout_s=number("das.apdtimeout"),
            response=IsolationResponse(str(self._inventory.setting("das.isolationresponse"))),
            max_own_failures=number("das.vmmonitoring.maxfailures"),
        )

    def _is_dead(self, datastore: str, status: HostStatus) -> bool:
        return status.verdict is Verdict.FAILED and self._is_silent(datastore, status.host.name)

    # carrying out --------------------------------------------------------------------------------------

    def _carry_out(self, judged: Judged, decision: Decision) -> None:
        if isinstance(decision, WaitFor):
            self._wait(judged, decision)
            return
        if isinstance(decision, FenceHost):
            subject, worker = f"host {decision.host}", f"the fence device of {decision.host}"
            self._do(judged, subject, worker, self._steps.fence(decision.host))
            return
        judged.waits.pop(decision.vm, None)
        store = judged.store
        work: Coroutine[Any, Any, None]
        if isinstance(decision, ReleaseLease):
            work = self._steps.release(store, decision, self._statuses)
        elif isinstance(decision, AskToGiveUp):
            judged.asked(decision.vm, self._clock.monotonic())
            work = self._steps.ask_to_give_up(store, decision)
        elif isinstance(decision, AcceptIsolated):
            self._isolated.begin(decision, judged.name)
            work = self._isolated.give(store, decision)
        else:
            work = self._order(judged, decision)
        self._do(judged, decision.vm, "the judge", work)

    def _order(self, judged: Judged, decision: GiveStartOrder | GiveResumeOrder) -> Coroutine[Any, Any, None]:
        definition = self._inventory.vm(decision.vm).definition
        known = self._orders.begin(decision, judged.name, definition)
        return self._orders.give(judged.store, known, decision.reason)

    def _wait(self, judged: Judged, wait: WaitFor) -> None:
        if not judged.wait(wait, self._clock.monotonic()):
            return
        is_over = wait.wait is Wait.ATTEMPTS
        self._events.emit(
            "vm.restart-failed" if is_over else "vm.restart-waits",
            wait.vm,
            f"{wait.vm} is not restarted: {wait.why}"
            if is_over
            else f"the restart of {wait.vm} waits: {wait.why}",
            severity=Severity.ERROR if is_over else Severity.WARNING,
            evidence={"waits_for": wait.wait.value, "datastore": judged.name},
        )

    def _do(self, judged: Judged, subject: str, worker: str, work: Coroutine[Any, Any, None]) -> None:
        """In a task of its own; another round follows at once when it has ended."""
        if subject in self._work:
            work.close()
            return

        async def do() -> None:
            try:
                async with self._turns:
                    await work
            except ZugvogelError as error:
                log.warning("%s: %s", subject, error)
            except Exception:
                log.exception("failover: %s", subject)
            finally:
                del self._work[subject]
            judged.is_due = True
            if self._judged.get(judged.name) is judged and self._role.judges(judged.name):
                self._find_missing(self._statuses())
                self._begin(judged)

        self._work[subject] = (worker, asyncio.create_task(do(), name=f"failover of {subject}"))
