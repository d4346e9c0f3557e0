"""The source's side of a live migration: drives `zugvogel.core.source_machine` from the request to the report.

The record lies in the vm's folder as ``migration.<id>.json`` and is written before the actions of each
step, except inside the blackout. After a crash of this agent `resume` goes on from that record and from
what the adopted QEMU says of itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from zugvogel.core.source_machine import FINAL, Event, step
from zugvogel.domain.host import Host
from zugvogel.domain.migration import MigrationReport, SourcePhase, SourceRecord
from zugvogel.domain.task import Severity
from zugvogel.errors import ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.peers import Peers
from zugvogel.services.local_vms import MIGRATING, Guest, LocalVms
from zugvogel.services.migration.actions import Failpoint, Move, SourceActions
from zugvogel.services.migration.network import NetworkWatch
from zugvogel.services.migration.records import MigrationRecords
from zugvogel.services.migration.stream import Stream, StreamSettings
from zugvogel.services.tasks import TaskContext

log = logging.getLogger(__name__)

RESTARTED = "the source's agent was restarted during the move"
RESULTS = {SourcePhase.DONE: "moved", SourcePhase.STAYED: "stayed", SourcePhase.DIED: "died"}


class LiveMigrations:
    def __init__(
        self,
        *,
        vms: LocalVms,
        peers: Peers,
        clock: Clock,
        records: MigrationRecords,
        failpoint: Failpoint,
    ) -> None:
        self._vms = vms
        self._clock = clock
        self._records = records
        self._actions = SourceActions(vms=vms, peers=peers, clock=clock, records=records, failpoint=failpoint)

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

        async def first() -> Event:
            self._actions.mark(move, "prepare")
            try:
                _, event = await asyncio.gather(
                    self._records.write(guest.datastore, record), self._actions.prepare(move)
                )
                return event
            except ZugvogelError as error:
                move.reason = str(error)
                return Event.FAILED

        return await self._whole(move, first)

    async def resume(self, ctx: TaskContext, guest: Guest, record: SourceRecord, target: Host) -> MigrationReport:
        """After a restart of this agent: `guest` was adopted, `record` lay in its folder, and its lease still
        names the heir. Figures and times count from now."""
        record = record.model_copy(update={"epoch": guest.epoch})
        now = self._clock.monotonic()
        move = self._move(record, guest, target, StreamSettings(), now, ctx.cancel_requested, ctx.progress)
        move.reason = RESTARTED
        self._actions.mark(move, "recover")
        return await self._whole(move, lambda: self._resume_event(move))

    async def _resume_event(self, move: Move) -> Event:
        """What the adopted QEMU says, whatever the record says: it may lag behind a slow datastore. A stream that
        still runs is called off; a QEMU in postmigrate has handed over and never goes on by itself."""
        if move.guest.ended.is_set():
            return Event.SOURCE_DIED
        if move.record.phase is SourcePhase.HANDED_OVER:
            return await self._actions.await_claim(move) or Event.TARGET_LOST
        move.record = move.record.model_copy(update={"phase": SourcePhase.CANCELLING})
        return await move.stream.cancel()

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

    async def _whole(self, move: Move, first: Callable[[], Awaitable[Event]]) -> MigrationReport:
        """The guest is ours while this runs; its end meanwhile is decided here. When the agent stops
        (CancelledError) everything is left as it is: the next agent resumes."""
        guest = move.guest
        guest.busy = MIGRATING
        try:
            report = await self._until_final(move, first)
        except ZugvogelError:
            await self._let_go(move)
            raise
        finally:
            move.stream.close()
            move.network.close()
        await self._let_go(move)
        return report

    async def _let_go(self, move: Move) -> None:
        if move.guest.busy == MIGRATING:
            move.guest.busy = ""
            if move.guest.ended.is_set():
                await self._vms.settle_end(move.guest)

    async def _until_final(self, move: Move, first: Callable[[], Awaitable[Event]]) -> MigrationReport:
        """A defect or an error that nobody foresaw leads back to what the source's QEMU says of itself."""
        while True:
            try:
                return await self._drive(move, await first())
            except Exception as error:
                if move.record.phase in FINAL:
                    raise
                log.exception("%s: the move goes on from where its QEMU is", move.guest.name)
                move.reason = move.reason or str(error)
            await self._clock.sleep(1.0)
            first = partial(self._resume_event, move)

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
                follow = await self._actions.perform(action, move)
                if follow is not None:
                    pending.append(follow)
                    break
            if not pending and move.record.phase not in FINAL:
                pending.append(await self._next_event(move))
        return await self._finish(move)

    async def _write(self, move: Move) -> None:
        try:
            await self._records.write(move.guest.datastore, move.record)
        except ZugvogelError as error:
            log.warning("%s: record of the migration not written: %s", move.guest.name, error)

    async def _next_event(self, move: Move) -> Event:
        """What the source's QEMU does next; only phases in which the stream runs wait here."""
        stream = move.stream
        event = await stream.next_event(move.cancel, lambda: self._actions.target_is_fine(move), move.progress)
        if event is Event.SOURCE_SWITCHED:
            move.stop_at = stream.stop_at
        if stream.reason:
            move.reason = move.reason or stream.reason
        return event

    async def _finish(self, move: Move) -> MigrationReport:
        record, guest = move.record, move.guest
        if record.phase is SourcePhase.DONE:
            self._actions.mark(move, "verify network")
            move.progress("verify network", "looking for the announcement and probing the vm's addresses")
            checks = await move.network.verify(move.requested_at)
        else:
            checks = ()
        self._actions.mark(move, "")
        is_dead = record.phase is SourcePhase.STAYED and guest.ended.is_set()
        report = move.stream.report(
            vm=guest.name,
            source=record.source,
            target=record.target,
            result="died" if is_dead else RESULTS[record.phase],
            why=move.reason,
            marks=move.marks,
            stop_at=move.stop_at,
            resume_at=move.resume_at,
            network=checks,
            memory_bytes=guest.definition.memory_bytes,
        )
        await self._records.forget(guest.datastore, guest.name, record.id)
        self._tell(report, record)
        return report

    def _tell(self, report: MigrationReport, record: SourceRecord) -> None:
        figures = f"in {report.total_s:.2f} s, down for {report.downtime_ms:.0f} ms"
        how = f"({report.why})" if report.why else figures
        told = {
            "moved": f"{report.vm} moved from {report.source} to {report.target} {how}",
            "stayed": f"{report.vm} stayed on {report.source}: {report.why}",
            "died": f"{report.vm} ended while it was moved from {report.source} to {report.target}: {report.why}",
        }[report.result]
        level = {"moved": Severity.INFO, "stayed": Severity.WARNING, "died": Severity.ERROR}[report.result]
        kind = "vm.migrated" if report.result == "moved" else "vm.migration-ended"
        evidence = report.model_dump(mode="json", exclude={"rounds", "network"})
        self._vms.events.emit(kind, report.vm, told, severity=level, evidence=evidence, task=record.task)
