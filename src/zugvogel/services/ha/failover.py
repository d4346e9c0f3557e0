"""The judge's rounds: vms that are to run and are not seen to are started again (H3, H4).

Runs on every primary and acts on the datastores whose active primary this host is. It works from its own replica
of the inventory, its own judgement of the hosts, and the datastore; never from etcd, which may have no majority.
In steady state it compares names and reads nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence, Set
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any, Protocol

from zugvogel.core import failover
from zugvogel.core.death_proof import proof_of
from zugvogel.core.failover_facts import (
    AcceptIsolated,
    AskHeir,
    AskToGiveUp,
    AskToSettle,
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
from zugvogel.core.missing import last_addresses, missing, silent_s, stranded
from zugvogel.domain.ha import IsolationResponse
from zugvogel.domain.host import HostStatus, Verdict
from zugvogel.domain.lease import Lease, LeaseState
from zugvogel.domain.task import Severity
from zugvogel.domain.vm import VmRecord
from zugvogel.errors import DeadlineExceeded, StorageError, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.events import EventLog
from zugvogel.services.ha.failover_steps import FailoverSteps
from zugvogel.services.ha.fencing import Fencing
from zugvogel.services.ha.held_locks import is_any_held
from zugvogel.services.ha.isolation_orders import IsolationOrders
from zugvogel.services.ha.judged import Judged
from zugvogel.services.ha.restart_orders import Caller, RestartOrders
from zugvogel.services.ha.verdict_events import VerdictEvents
from zugvogel.services.inventory import Inventory

log = logging.getLogger(__name__)


class JudgeRole(Protocol):
    """`services.ha.active_primary.ActivePrimary`."""

    def judges(self, datastore: str) -> bool: ...
    def finish_round(self, datastore: str) -> None: ...


class Failover:
    """`statuses` is this host's own judgement of all hosts; `is_silent(datastore, host)`: that host's beat there
    was seen to stand still for the detection time; `is_silent_since(datastore, host, after)`: so it was read since
    `after`; `is_guarded(datastore, host)`: its last beat there promised a guard; `call` an RPC command of any
    host, this one too."""

    def __init__(
        self,
        *,
        host: str,
        clock: Clock,
        inventory: Inventory,
        stores: Callable[[], Sequence[MountedDatastore]],
        statuses: Callable[[], list[HostStatus]],
        is_silent: Callable[[str, str], bool],
        is_silent_since: Callable[[str, str, float], bool],
        is_guarded: Callable[[str, str], bool],
        role: JudgeRole,
        call: Caller,
        events: EventLog,
        fences: Fencing | None = None,
    ) -> None:
        self._clock = clock
        self._inventory = inventory
        self._stores = stores
        self._statuses = statuses
        self._is_silent = is_silent
        self._is_silent_since = is_silent_since
        self._is_guarded = is_guarded
        self._role = role
        self._events = events
        self._verdicts = VerdictEvents(host, events)
        self._orders = RestartOrders(host, clock, inventory, events, call)
        self._isolated = IsolationOrders(host, clock, inventory, events)
        self._steps = FailoverSteps(
            host, clock, inventory, events, call, fences, is_dead=self._is_dead, judges=role.judges
        )
        self._judged: dict[str, Judged] = {}
        self._seen: dict[str, tuple[Verdict, tuple[str, ...]]] = {}
        self._missing_of: tuple[list[VmRecord], list[object], list[VmRecord]] = ([], [], [])
        """Records, and what was told of the hosts; which of the records are missing by that."""
        self._work: dict[str, tuple[str, asyncio.Task[None]]] = {}
        """vm, or host to fence -> what is being done about it."""

    def waiting(self) -> tuple[str, ...]:
        """Vms that wait for their restart, each with the reason in a sentence; of the datastores this host
        judges."""
        quiet = {Wait.STOPPED, Wait.HOLDER, Wait.RESPONSE}
        waits = [wait for judged in self._judged.values() for wait in judged.waits.values()]
        kept = [f"{vm}: {why}" for judged in self._judged.values() for vm, why in judged.kept.items()]
        return tuple(sorted([*(f"{wait.vm}: {wait.why}" for wait in waits if wait.wait not in quiet), *kept]))

    def why_waiting(self, vm: str) -> str:
        """Why it is not started, in a sentence; empty: it is not missing, or this host does not judge it."""
        waits = (j.waits[vm].why for j in self._judged.values() if vm in j.waits)
        kept = (j.kept[vm] for j in self._judged.values() if vm in j.kept)
        return next(waits, next(kept, ""))

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
        stores = {name: s for s in self._stores() if self._role.judges(name := s.datastore.name)}
        if not stores and not self._judged:
            return
        self._forget_lost(stores.keys())
        if not stores:
            return
        if not self._judged:
            self._steps.forget()
            self._seen = {}
        statuses = self._statuses()
        self._note_verdicts(statuses, stores.keys())
        for name, store in stores.items():
            if name in self._judged:
                self._judged[name].store = store
            else:
                self._judged[name] = Judged(store)
        self._find_missing(statuses)
        for judged in list(self._judged.values()):
            self._begin(judged)

    def _forget_lost(self, names: Set[str]) -> None:
        for name in self._judged.keys() - names:
            task = self._judged.pop(name).task
            if task is not None:
                task.cancel()
            self._orders.forget(name)
            self._isolated.forget(name)
        if not names:
            self._verdicts.forget()

    def _note_verdicts(self, statuses: list[HostStatus], names: Set[str]) -> None:
        verdicts = {s.host.name: (s.verdict, s.dead_on) for s in statuses}
        if verdicts != self._seen:
            self._seen = verdicts
            self._steps.note(statuses)
            for judged in self._judged.values():
                judged.look_again()
        first = next(iter(self._inventory.datastores()), None)
        if first is not None and first.name in names:
            self._verdicts.tell(statuses, self._inventory.number("das.failuredetectiontime") / 1000)
        else:
            self._verdicts.forget()

    def _find_missing(self, statuses: Sequence[HostStatus]) -> None:
        for judged in self._judged.values():
            judged.missing, judged.stranded, judged.frozen = [], [], set()
        if not self._inventory.setting("das.enabled"):
            return
        records = self._inventory.vms()
        names = self._find_stranded(records, statuses)
        for record in self._missing(records, statuses):
            names.add(record.definition.name)
            if record.datastore in self._judged:
                self._judged[record.datastore].misses(record, partial(self._down_since, record, statuses))
        for judged in self._judged.values():
            judged.keep_not_given_up(names)

    def _missing(self, records: list[VmRecord], statuses: Sequence[HostStatus]) -> list[VmRecord]:
        """Found anew only when a record, or what counts of a host, is another one: that is seldom."""
        told: list[object] = [(s.verdict, s.dead_on, s.report, s.is_report_stale) for s in statuses]
        if told != self._missing_of[1] or records != self._missing_of[0]:  # the same objects: at a glance
            self._missing_of = (list(records), told, missing(records, statuses))
        return self._missing_of[2]

    def _down_since(self, record: VmRecord, statuses: Sequence[HostStatus]) -> float:
        return self._clock.monotonic() - silent_s(record, statuses)

    def _find_stranded(self, records: Sequence[VmRecord], statuses: Sequence[HostStatus]) -> set[str]:
        """Their names."""
        names: set[str] = set()
        if Verdict.STORAGE_LOST in [s.verdict for s in statuses]:
            by_name = {r.definition.name: r for r in records}
            for found in stranded(by_name, statuses, self._workers()):
                names.add(found.name)
                of = self._judged.get(found.record.datastore)
                if of is None:
                    continue
                of.frozen.add(found.name)
                if not of.was_asked(found.name, self._clock.monotonic()):
                    of.stranded.append(found)
        return names

    def _begin(self, judged: Judged) -> None:
        if judged.task is not None and not judged.task.done():
            return
        if not self._has_work(judged):
            judged.keep(judged.frozen)
            self._role.finish_round(judged.name)
            return
        judged.task = asyncio.create_task(self._rounds(judged), name=f"failover on {judged.name}")

    def _has_work(self, judged: Judged) -> bool:
        """With high availability off too: until no order is left that somebody may carry out later."""
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
        await self._isolated.look(judged.store, statuses, names, self._work.keys())
        if not self._inventory.setting("das.enabled"):
            await self._orders.call_off(judged.store, self._work.keys())
            judged.keep(())
            self._role.finish_round(judged.name)
            return
        situations, is_complete = await self._situations(judged, statuses)
        snapshot = self._snapshot(judged, statuses, situations)
        for decision in failover.decide(snapshot):
            self._carry_out(judged, decision)
        judged.keep(names | judged.frozen)
        if is_complete:
            self._role.finish_round(judged.name)

    # the snapshot --------------------------------------------------------------------------------------

    async def _situations(self, judged: Judged, statuses: Sequence[HostStatus]) -> tuple[list[Situation], bool]:
        """Of the vms whose lease is due to be read. False: the datastore did not answer in time."""
        due = judged.due(self._clock.monotonic())
        if not due:
            return [], True
        dead = self._dead(judged.name, statuses)
        found = await asyncio.gather(*(self._situation(judged, r, dead) for r in due), return_exceptions=True)
        situations, is_complete = [], True
        for record, each in zip(due, found, strict=True):
            if isinstance(each, Situation):
                situations.append(each)
            elif isinstance(each, Exception):
                is_defect = not isinstance(each, ZugvogelError)
                told = each if is_defect else None
                log.warning("%s: not looked at: %s", record.definition.name, each, exc_info=told)
                is_complete = is_complete and not isinstance(each, DeadlineExceeded)
            else:
                raise each
        return situations, is_complete

    async def _situation(self, judged: Judged, record: VmRecord, dead: Set[str]) -> Situation:
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
            is_asked=judged.was_asked(name, self._clock.monotonic()),
            is_locked=lease is not None and await self._is_locked(judged, record, lease, dead),
        )

    async def _is_locked(self, judged: Judged, record: VmRecord, lease: Lease, dead: Set[str]) -> bool:
        proof = proof_of(self._inventory.datastore(judged.name))
        is_asked = failover.asks_lock(record, lease, proof, dead)
        return is_asked and await is_any_held(judged.store.folders, record.definition)

    def _workers(self) -> dict[str, str]:
        """As `_worker`, of all for which there is something."""
        ordered = {vm: known.host for vm, known in self._orders.under_way.items()}
        return ordered | {vm: worker for vm, (worker, _) in self._work.items()}

    def _worker(self, vm: str) -> str:
        if vm in self._work:
            return self._work[vm][0]
        known = self._orders.under_way.get(vm)
        return known.host if known is not None else ""

    def _snapshot(self, judged: Judged, statuses: list[HostStatus], situations: list[Situation]) -> Snapshot:
        inventory, datastore = self._inventory, self._inventory.datastore(judged.name)
        proof = proof_of(datastore)
        gone = [s.host.name for s in statuses if s.verdict is Verdict.FAILED or datastore.name in s.dead_on]
        guarded = {host for host in gone if self._is_guarded(datastore.name, host)}
        definitions = [r.definition for r in inventory.vms()]
        return Snapshot(
            datastore=datastore,
            proof=proof,
            statuses=statuses,
            dead=self._dead(judged.name, statuses),
            guarded=guarded,
            vms=situations,
            settings=self._settings(),
            networks={n.name: n for n in inventory.networks()},
            groups={d.name: d.ha.anti_affinity for d in definitions if d.ha.anti_affinity},
            ordered=[*self._orders.ordered(), *self._isolated.ordered({s.name for s in situations})],
            stranded=judged.stranded,
            fences=self._steps.fences(proof, statuses, guarded),
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

    def _dead(self, datastore: str, statuses: Sequence[HostStatus]) -> frozenset[str]:
        return frozenset(s.host.name for s in statuses if s.dead_on and self._is_dead(datastore, s))

    def _is_dead(self, datastore: str, status: HostStatus, after: float | None = None) -> bool:
        """Whether what it held there it runs no more, by a reading of its beats there that began at `after` or
        later; None: by the last one."""
        if datastore not in status.dead_on:
            return False
        if after is None:
            return self._is_silent(datastore, status.host.name)
        return self._is_silent_since(datastore, status.host.name, after)

    # carrying out --------------------------------------------------------------------------------------

    def _carry_out(self, judged: Judged, decision: Decision) -> None:
        if isinstance(decision, WaitFor):
            self._wait(judged, decision)
            return
        if isinstance(decision, FenceHost):
            subject, worker = f"host {decision.host}", f"the fence device of {decision.host}"
            work_of_fence = self._steps.fence(judged.name, decision.host, self._statuses)
            self._do(judged, subject, worker, work_of_fence, nullcontext())
            return
        judged.waits.pop(decision.vm, None)
        store = judged.store
        work: Coroutine[Any, Any, None]
        if isinstance(decision, ReleaseLease):
            seen_at = judged.seen_since(decision.vm, decision.lease)
            work = self._steps.release(store, decision, self._statuses, seen_at)
        elif isinstance(decision, AskToGiveUp):
            judged.asked(decision.vm, self._clock.monotonic())
            work = self._ask_to_give_up(judged, decision)
        elif isinstance(decision, AskHeir):
            judged.asked(decision.vm, self._clock.monotonic())
            seen_at = judged.seen_since(decision.vm, decision.lease)
            work = self._steps.ask_heir(store, decision, self._statuses, seen_at)
        elif isinstance(decision, AskToSettle):
            judged.asked(decision.vm, self._clock.monotonic())
            work = self._steps.ask_to_settle(decision)
        elif isinstance(decision, AcceptIsolated):
            self._isolated.begin(decision, judged.name)
            work = self._isolated.give(store, decision)
        else:
            work = self._order(judged, decision)
        self._do(judged, decision.vm, "the judge", work, judged.turns)

    def _order(self, judged: Judged, decision: GiveStartOrder | GiveResumeOrder) -> Coroutine[Any, Any, None]:
        definition = self._inventory.vm(decision.vm).definition
        down_s = judged.down_s(decision.vm, self._clock.monotonic())
        addresses = last_addresses(decision.vm, self._statuses())
        known = self._orders.begin(decision, judged.name, definition, down_s=down_s, addresses=addresses)
        return self._orders.give(judged.store, known, decision.reason)

    async def _ask_to_give_up(self, judged: Judged, decision: AskToGiveUp) -> None:
        try:
            await self._steps.ask_to_give_up(judged.store, decision, self._statuses)
            judged.kept.pop(decision.vm, None)
        except ZugvogelError as error:
            told = f"{decision.why}; {decision.host} did not give {decision.vm} up: {error.cause}"
            if judged.not_given_up(decision.vm, told):
                evidence = {"host": decision.host, "epoch": decision.epoch, "datastore": judged.name}
                self._events.emit(
                    "vm.give-up-failed", decision.vm, told, severity=Severity.WARNING, evidence=evidence
                )

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

    def _do(
        self,
        judged: Judged,
        subject: str,
        worker: str,
        work: Coroutine[Any, Any, None],
        turn: AbstractAsyncContextManager[None],
    ) -> None:
        """In a task of its own, in its `turn`; another round follows at once when it ends, unless it failed."""
        if subject in self._work:
            work.close()
            return

        async def do() -> None:
            is_done = False
            try:
                async with turn:
                    await work
                is_done = True
            except ZugvogelError as error:
                log.warning("%s: %s", subject, error)
                if isinstance(error, StorageError):
                    self._wait(judged, judged.folder_failed(subject, error.cause))
            except Exception:
                log.exception("failover: %s", subject)
            finally:
                del self._work[subject]
            if not is_done:
                return
            judged.folder_works(subject)
            judged.is_due = True
            if self._judged.get(judged.name) is judged and self._role.judges(judged.name):
                self._find_missing(self._statuses())
                self._begin(judged)

        self._work[subject] = (worker, asyncio.create_task(do(), name=f"failover of {subject}"))
