"""The source's side of a live migration: performs what `zugvogel.core.source_machine` says.

The record lies in the vm's folder as ``migration.<id>.json`` and is written before the actions of each
step, except inside the blackout. After a crash of this agent `recover` goes on from that record and from
what the adopted QEMU says of itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from zugvogel.core import lease_rules
from zugvogel.core.source_machine import FINAL, Action, Event, step
from zugvogel.domain.host import Host, Verdict
from zugvogel.domain.lease import Lease, LeaseState
from zugvogel.domain.migration import (
    IncomingReady,
    IncomingRequest,
    IncomingStatus,
    MigrationReport,
    SourcePhase,
    SourceRecord,
    TargetPhase,
)
from zugvogel.domain.task import Severity
from zugvogel.domain.vm import VmState
from zugvogel.errors import LeaseTaken, NotFound, Refused, Unreachable, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.peers import Peers
from zugvogel.services.inventory import Observation
from zugvogel.services.local_vms import Guest, LocalVms
from zugvogel.services.migration_network import NetworkWatch
from zugvogel.services.migration_stream import Stream, StreamSettings
from zugvogel.services.tasks import TaskContext

log = logging.getLogger(__name__)

CAPABILITIES = ("events", "return-path", "multifd")
WORD_TIMEOUT_S = 2.0
CLAIM_POLL_S = 0.1

Failpoint = Callable[[str], Awaitable[None]]


@dataclass(slots=True)
class Move:
    """One live migration as it runs. Times are this host's monotonic seconds."""

    record: SourceRecord
    guest: Guest
    target: Host
    settings: StreamSettings
    requested_at: float
    cancel: asyncio.Event
    progress: Callable[..., None]
    stream: Stream
    network: NetworkWatch
    ready: IncomingReady | None = None
    reason: str = ""
    stop_at: float = 0.0
    resume_at: float = 0.0
    marks: list[tuple[str, float]] = field(default_factory=list)


class LiveMigrations:
    """`verdict` tells how the cluster judges a host now."""

    def __init__(
        self,
        *,
        vms: LocalVms,
        peers: Peers,
        clock: Clock,
        verdict: Callable[[str], Awaitable[Verdict]],
        failpoint: Failpoint,
    ) -> None:
        self._vms = vms
        self._peers = peers
        self._clock = clock
        self._verdict = verdict
        self._failpoint = failpoint
        self._do: dict[Action, Callable[[Move], Awaitable[Event | None]]] = {
            Action.NAME_HEIR: self._name_heir,
            Action.START_STREAM: self._start_stream,
            Action.CANCEL_STREAM: self._cancel_stream,
            Action.ABORT_TARGET: self._abort_target,
            Action.GIVE_WORD: self._give_word,
            Action.ASK_TARGET: self._ask_target,
            Action.AWAIT_CLAIM: self._await_claim,
            Action.CONTINUE_SOURCE: self._continue_source,
            Action.DROP_HEIR: self._drop_heir,
            Action.QUIT_SOURCE: self._quit_source,
            Action.RELEASE_LEASE: self._release_lease,
        }

    # the whole -----------------------------------------------------------------------------------

    async def run(
        self, ctx: TaskContext, guest: Guest, target: Host, settings: StreamSettings, requested_at: float
    ) -> MigrationReport:
        """Move `guest` to `target`. The report says `moved`, `stayed` (with why) or `died`."""
        record = SourceRecord(
            id=ctx.id,
            task=ctx.id,
            vm=guest.name,
            source=self._vms.host,
            target=target.name,
            phase=SourcePhase.PREPARING,
            epoch=guest.epoch,
        )
        move = self._move(record, guest, target, settings, requested_at, ctx.cancel_requested, ctx.progress)
        guest.busy = "migrating"
        try:
            self._mark(move, "prepare")
            await self._write(move)
            event = await self._prepare(move)
            return await self._drive(move, event)
        finally:
            move.stream.close()
            move.network.close()
            if guest.busy == "migrating":
                guest.busy = ""
                if guest.ended.is_set():
                    await self._vms.settle_end(guest)

    def _move(
        self,
        record: SourceRecord,
        guest: Guest,
        target: Host,
        settings: StreamSettings,
        requested_at: float,
        cancel: asyncio.Event,
        progress: Callable[..., None],
    ) -> Move:
        stream = Stream(guest.machine, self._clock, settings, requested_at)
        network = NetworkWatch(self._vms, guest)
        return Move(record, guest, target, settings, requested_at, cancel, progress, stream, network)

    async def _drive(self, move: Move, event: Event) -> MigrationReport:
        """Feed events to the table and perform its actions until a final phase."""
        pending: list[Event] = [event]
        while pending:
            record, found = step(move.record, pending.pop(0))
            is_new = record.phase is not move.record.phase
            move.record = record
            if is_new and not found.in_blackout:
                await self._write(move)
            for action in found.actions:
                follow = await self._do[action](move)
                if follow is not None:
                    pending.append(follow)
                    break
            if not pending and move.record.phase not in FINAL:
                pending.append(await self._next_event(move))
        return await self._finish(move)

    async def _next_event(self, move: Move) -> Event:
        """What the source's QEMU does next; only phases in which the stream runs wait here."""
        event = await move.stream.next_event(move.cancel, lambda: self._target_is_fine(move), move.progress)
        if event is Event.SOURCE_SWITCHED:
            move.stop_at = move.stream.stop_at
        if move.stream.reason:
            move.reason = move.reason or move.stream.reason
        return event

    async def _finish(self, move: Move) -> MigrationReport:
        record, guest = move.record, move.guest
        if record.phase is SourcePhase.DONE:
            self._mark(move, "verify network")
            move.progress("verify network", "looking for the announcement and probing the vm's addresses")
            checks = await move.network.verify()
        else:
            checks = ()
        self._mark(move, "")
        result = {SourcePhase.DONE: "moved", SourcePhase.STAYED: "stayed"}.get(record.phase, "died")
        report = move.stream.report(
            vm=guest.name,
            source=record.source,
            target=record.target,
            result=result,
            why=move.reason,
            marks=move.marks,
            stop_at=move.stop_at,
            resume_at=move.resume_at,
            network=checks,
            memory_bytes=guest.definition.memory_bytes,
        )
        await self._forget(move)
        self._tell(report, record)
        return report

    def _tell(self, report: MigrationReport, record: SourceRecord) -> None:
        told = {
            "moved": f"{report.vm} moved from {report.source} to {report.target} in {report.total_s:.2f} s, "
            f"down for {report.downtime_ms:.0f} ms",
            "stayed": f"{report.vm} stayed on {report.source}: {report.why}",
            "died": f"{report.vm} ended while it was moved from {report.source} to {report.target}: {report.why}",
        }[report.result]
        level = {"moved": Severity.INFO, "stayed": Severity.WARNING, "died": Severity.ERROR}[report.result]
        kind = {"moved": "vm.migrated", "stayed": "vm.migration-ended", "died": "vm.failed"}[report.result]
        evidence = report.model_dump(mode="json", exclude={"rounds", "network"})
        self._vms.events.emit(kind, report.vm, told, severity=level, evidence=evidence, task=record.task)

    def _mark(self, move: Move, name: str) -> None:
        """A phase begins now (the one before ends)."""
        move.marks.append((name, self._clock.monotonic()))

    # records -------------------------------------------------------------------------------------

    async def _write(self, move: Move) -> None:
        folders = self._vms.mounted(move.guest.datastore).folders
        data = move.record.model_dump_json(indent=1).encode()
        try:
            await folders.write_note(move.guest.name, f"migration.{move.record.id}.json", data)
        except ZugvogelError as error:
            if move.record.phase in {SourcePhase.PREPARING, SourcePhase.PRECOPY}:
                raise
            log.warning("%s: record of the migration not written: %s", move.guest.name, error)

    async def _forget(self, move: Move) -> None:
        folders = self._vms.mounted(move.guest.datastore).folders
        for note in (f"migration.{move.record.id}.json", f"word.{move.record.id}"):
            try:
                await folders.delete_note(move.guest.name, note)
            except ZugvogelError as error:
                log.warning("%s: %s not removed: %s", move.guest.name, note, error)

    # actions -------------------------------------------------------------------------------------

    async def _call(self, move: Move, command: str, timeout_s: float, **payload: Any) -> IncomingStatus:
        answer = await self._peers.call(
            move.target, command, {"migration_id": move.record.id, **payload}, timeout_s=timeout_s
        )
        return IncomingStatus.model_validate(answer)

    async def _prepare(self, move: Move) -> Event:
        """Ask the target to rebuild the vm (L7)."""
        offered = await move.guest.machine.migration_capabilities()
        wanted = [c for c in CAPABILITIES if c in offered and (c != "multifd" or move.settings.channels > 1)]
        request = IncomingRequest(
            migration_id=move.record.id,
            vm=move.guest.definition,
            datastore=move.guest.datastore,
            source=self._vms.host,
            epoch=move.guest.epoch,
            capabilities=tuple(wanted),
            channels=move.settings.channels,
            is_encrypted=move.settings.is_encrypted,
            addresses={n.mac: self._vms.network.learned_addresses(n.mac) for n in move.guest.definition.nics},
        )
        move.progress("prepare", f"rebuilding {move.guest.name} on {move.target.name}")
        try:
            await self._failpoint("source.prepare")
            answer = await self._peers.call(
                move.target, "migration.prepare", request.model_dump(mode="json"), timeout_s=30.0
            )
        except ZugvogelError as error:
            move.reason = f"{move.target.name} could not prepare: {error}"
            return Event.TARGET_REFUSED
        move.ready = IncomingReady.model_validate(answer)
        return Event.CANCEL_REQUESTED if move.cancel.is_set() else Event.TARGET_READY

    async def _name_heir(self, move: Move) -> Event | None:
        """From here on the lease says ``holder A, heir B``."""
        leases = self._vms.mounted(move.guest.datastore).leases
        try:
            current = await leases.read(move.guest.name)
            claim = lease_rules.name_heir(
                current,
                move.guest.name,
                self._vms.me,
                move.target.name,
                move.record.id,
                why=f"live migration to {move.target.name}",
                at=self._clock.now_iso(),
            )
            linked = await leases.claim(claim)
        except ZugvogelError as error:
            move.reason = f"the lease could not name {move.target.name} heir: {error}"
            return Event.SOURCE_RUNS
        move.guest.epoch = linked.epoch
        move.record = move.record.model_copy(update={"epoch": linked.epoch})
        await self._failpoint("source.heir-named")
        return None

    async def _start_stream(self, move: Move) -> Event | None:
        assert move.ready is not None
        self._mark(move, "precopy")
        move.progress("precopy", f"copying memory to {move.target.name}")
        try:
            await move.stream.start(move.ready, move.target.name)
            await move.network.begin()
        except Unreachable:
            return Event.SOURCE_DIED
        except ZugvogelError as error:
            move.reason = f"QEMU did not start the stream: {error}"
            return Event.FAILED
        await self._failpoint("source.precopy")
        return None

    async def _target_is_fine(self, move: Move) -> str:
        """Empty while the target's agent answers and its session waits; else why not."""
        try:
            status = await self._call(move, "migration.status", 3.0)
        except NotFound as error:
            return error.cause
        except ZugvogelError as error:
            return f"{move.target.name} does not answer: {error.cause}"
        return status.why if status.phase is TargetPhase.GONE else ""

    async def _cancel_stream(self, move: Move) -> Event | None:
        self._mark(move, "cancel")
        move.progress("cancel", "stopping the copy; the vm goes on where it is")
        if move.cancel.is_set():
            move.reason = move.reason or "cancelled by request"
        return await move.stream.cancel()

    async def _give_word(self, move: Move) -> Event | None:
        """``completed``: one round trip, nothing written to the datastore while it succeeds."""
        self._mark(move, "switchover")
        await self._failpoint("source.before-word")
        try:
            status = await self._call(move, "migration.word", WORD_TIMEOUT_S)
        except NotFound:
            return await self._word_by_datastore(move, "its agent does not know of the migration")
        except ZugvogelError as error:
            return await self._word_by_datastore(move, str(error))
        return self._after_word(move, status)

    def _after_word(self, move: Move, status: IncomingStatus) -> Event:
        move.resume_at = self._clock.monotonic()
        if status.phase is TargetPhase.GONE:
            move.reason = status.why
            return Event.TARGET_LOST if move.guest.ended.is_set() else Event.WORD_REFUSED
        return Event.WORD_TAKEN

    async def _word_by_datastore(self, move: Move, why: str) -> Event | None:
        """The word lies in the vm's folder from here on: it counts as given, whoever reads it when."""
        log.warning("%s: word given through the datastore: %s", move.guest.name, why)
        folders = self._vms.mounted(move.guest.datastore).folders
        while True:
            try:
                await folders.write_note(move.guest.name, f"word.{move.record.id}", b"completed\n")
                return Event.WORD_TAKEN
            except ZugvogelError as error:
                log.warning("%s: word not written yet: %s", move.guest.name, error)
                await self._clock.sleep(0.5)

    async def _ask_target(self, move: Move) -> Event | None:
        """The source's QEMU is gone for certain (its process ended), so a target that loaded everything may
        run; one that did not has nothing to run."""
        move.reason = move.reason or "the source's QEMU ended"
        move.stop_at = move.stop_at or self._clock.monotonic()
        try:
            status = await self._call(move, "migration.status", WORD_TIMEOUT_S)
            if status.phase is TargetPhase.PREPARED and status.is_loaded:
                return await self._give_word(move)
            if status.phase in {TargetPhase.RUNNING, TargetPhase.CLAIMED}:
                return Event.WORD_TAKEN
            await self._call(move, "migration.abort", WORD_TIMEOUT_S, why="the source's QEMU ended")
        except ZugvogelError as error:
            log.warning("%s: %s not asked: %s", move.guest.name, move.target.name, error)
        return Event.TARGET_LOST

    async def _await_claim(self, move: Move) -> Event | None:
        """Until the target's own epoch is read from the datastore, or the target is proven unable."""
        while True:
            lease = await self._read_lease(move)
            if lease is not None and lease.epoch > move.record.epoch:
                gone = lease.state is LeaseState.RELEASED
                move.reason = lease.why if gone else move.reason
                return Event.TARGET_LOST if gone else Event.TARGET_CLAIMED
            if await self._target_never_will(move):
                return Event.TARGET_LOST
            move.resume_at = move.resume_at or self._clock.monotonic()
            await self._clock.sleep(CLAIM_POLL_S)

    async def _read_lease(self, move: Move) -> Lease | None:
        try:
            return await self._vms.mounted(move.guest.datastore).leases.read(move.guest.name)
        except ZugvogelError as error:
            log.warning("%s: lease not read: %s", move.guest.name, error)
            return None

    async def _target_never_will(self, move: Move) -> bool:
        try:
            status = await self._call(move, "migration.status", 1.0)
        except NotFound:
            move.reason = f"{move.target.name} lost the vm while taking over"
            return True
        except ZugvogelError:
            if await self._verdict(move.target.name) is Verdict.FAILED:
                move.reason = f"{move.target.name} failed while taking over"
                return True
            return False
        if status.phase is TargetPhase.GONE:
            move.reason = status.why
        return status.phase is TargetPhase.GONE

    async def _continue_source(self, move: Move) -> Event | None:
        """The target proved that it never ran the vm and never will: the source goes on."""
        try:
            await move.guest.machine.cont()
        except ZugvogelError as error:
            move.reason += f"; and the source could not go on: {error}"
            await move.guest.machine.kill()
            return Event.SOURCE_DIED
        return Event.SOURCE_RUNS

    async def _abort_target(self, move: Move) -> Event | None:
        try:
            await self._call(move, "migration.abort", 5.0, why=move.reason)
        except ZugvogelError as error:
            log.info("%s: %s not told to give up: %s", move.guest.name, move.target.name, error)
        return None

    async def _drop_heir(self, move: Move) -> Event | None:
        """Linking the next epoch without an heir; until it is linked the move is not over."""
        leases = self._vms.mounted(move.guest.datastore).leases
        while True:
            try:
                current = await leases.read(move.guest.name)
                if current is None or current.holder != self._vms.me or not current.heir:
                    return None
                claim = lease_rules.drop_heir(
                    current,
                    move.guest.name,
                    self._vms.me,
                    move.record.id,
                    why=f"stayed: {move.reason}",
                    at=self._clock.now_iso(),
                )
                move.guest.epoch = (await leases.claim(claim)).epoch
                self._observe_running(move)
                return None
            except (LeaseTaken, Refused) as error:
                log.error("%s: the lease went elsewhere: %s", move.guest.name, error)
                await move.guest.machine.kill()
                move.guest.is_handed_over = True
                return None
            except ZugvogelError as error:
                log.warning("%s: heir not dropped yet: %s", move.guest.name, error)
                await self._clock.sleep(0.5)

    def _observe_running(self, move: Move) -> None:
        self._vms.inventory.observe(
            Observation(
                vm=move.guest.name,
                observed=VmState.RUNNING,
                host=self._vms.host,
                epoch=move.guest.epoch,
                why=f"stayed: {move.reason}",
            )
        )

    async def _quit_source(self, move: Move) -> Event | None:
        """The target's epoch was read (or the vm is lost): this QEMU has nothing to do any more."""
        self._mark(move, "clean up")
        await self._failpoint("source.before-quit")
        is_lost = move.record.phase is SourcePhase.DIED
        if not is_lost:
            move.guest.is_handed_over = True
            move.guest.busy = "moved away"
            self._vms.guests.pop(move.guest.name, None)
            await move.stream.final_figures()
        await move.guest.machine.quit()
        return None

    async def _release_lease(self, move: Move) -> Event | None:
        """The vm is dead, once: `settle_end` releases and reports it."""
        await move.guest.ended.wait()
        move.guest.end_how = move.reason or move.guest.end_how
        move.guest.epoch = max(move.guest.epoch, move.record.epoch)
        await self._vms.settle_end(move.guest)
        return None

    # recovery ------------------------------------------------------------------------------------

    async def recover(self, guest: Guest, hosts: Callable[[str], Host]) -> None:
        """After a restart of this agent: `guest` was adopted and a record of a move lies in its folder."""
        folders = self._vms.mounted(guest.datastore).folders
        for note in await folders.list_notes(guest.name, "migration."):
            raw = await folders.read_note(guest.name, note)
            if raw is None:
                continue
            record = SourceRecord.model_validate_json(raw)
            if record.source == self._vms.host:
                await self._recover_one(guest, record, hosts(record.target))

    async def _recover_one(self, guest: Guest, record: SourceRecord, target: Host) -> None:
        lease = await self._vms.mounted(guest.datastore).leases.read(guest.name)
        if lease is not None and lease.holder == self._vms.me:
            record = record.model_copy(update={"epoch": lease.epoch})
        guest.busy = "migrating"
        move = self._move(
            record,
            guest,
            target,
            StreamSettings(),
            self._clock.monotonic(),
            asyncio.Event(),
            lambda *a, **k: None,
        )
        move.reason = "the source's agent was restarted during the move"
        self._mark(move, "recover")
        try:
            await self._drive(move, await self._recovery_event(move))
        finally:
            move.stream.close()
            move.network.close()
            if guest.busy == "migrating":
                guest.busy = ""

    async def _recovery_event(self, move: Move) -> Event:
        """What the adopted QEMU says. A stream that still runs is called off; a QEMU in postmigrate has
        handed over and never goes on by itself."""
        if move.guest.ended.is_set():
            return Event.SOURCE_DIED
        if move.record.phase is SourcePhase.HANDED_OVER:
            return await self._await_claim(move) or Event.TARGET_LOST
        if move.record.phase is SourcePhase.PREPARING:
            return Event.FAILED
        move.record = move.record.model_copy(update={"phase": SourcePhase.CANCELLING})
        return await move.stream.cancel()
