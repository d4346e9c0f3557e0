"""Moves that an earlier agent of this host drove: gone on with, or settled, after its restart.

Three cases. The source's QEMU lives: the move goes on from its record. The source's QEMU is gone while the
lease still names an heir: the target is asked what it has, and either runs the vm or proves that it never
will. The move was over: only its notes are left to remove.
"""

from __future__ import annotations

import logging
from typing import Any

from zugvogel.core import lease_rules
from zugvogel.core.source_machine import FINAL
from zugvogel.domain.host import Host
from zugvogel.domain.lease import Lease
from zugvogel.domain.migration import IncomingStatus, MigrationReport, SourcePhase, SourceRecord, TargetPhase
from zugvogel.domain.vm import VmRecord
from zugvogel.errors import NotFound, Unreachable, ZugvogelError
from zugvogel.ports.peers import Peers
from zugvogel.services.local_vms import LOOKING, MIGRATING, Guest, LocalVms
from zugvogel.services.migration.actions import WORD_TIMEOUT_S
from zugvogel.services.migration.outcome import outcome
from zugvogel.services.migration.records import MigrationRecords
from zugvogel.services.migration.source import RESTARTED, LiveMigrations
from zugvogel.services.tasks import TaskBoard, TaskContext

log = logging.getLogger(__name__)


class MigrationRecovery:
    def __init__(
        self,
        *,
        vms: LocalVms,
        live: LiveMigrations,
        peers: Peers,
        records: MigrationRecords,
        tasks: TaskBoard,
    ) -> None:
        self._vms = vms
        self._live = live
        self._peers = peers
        self._records = records
        self._tasks = tasks

    async def look_at(self, guest: Guest) -> None:
        """Go on with the move that `guest`, just adopted, was in, as the task it was. Returns when that has
        begun."""
        guest.busy = LOOKING
        try:
            for record in await self._when_readable(guest):
                if guest.busy == LOOKING:
                    await self._go_on(guest, record)
        except ZugvogelError as error:
            log.error("%s: its move was not recovered: %s", guest.name, error)
        finally:
            if guest.busy == LOOKING:
                guest.busy = ""
                if guest.ended.is_set():
                    await self._vms.settle_end(guest)

    async def _when_readable(self, guest: Guest) -> list[SourceRecord]:
        while not guest.ended.is_set():
            try:
                return await self._records.of_source(guest.datastore, guest.name, self._vms.host)
            except ZugvogelError as error:
                log.warning("%s: records of moves not readable yet: %s", guest.name, error)
                await self._vms.clock.sleep(1.0)
        return []

    async def _go_on(self, guest: Guest, record: SourceRecord) -> None:
        lease = await self._vms.mounted(guest.datastore).leases.read(guest.name)
        is_ours = lease is not None and lease.holder == self._vms.me
        target = self._vms.inventory.host(record.target)
        if is_ours and lease is not None and lease.heir and lease.migration_id == record.id:
            guest.busy, guest.epoch = MIGRATING, lease.epoch
            self._resume(guest, record, target)
            return
        if is_ours and record.phase not in FINAL:  # the heir was not named yet, or is not any more
            await self._abort(target, record)
        await self._records.forget(guest.datastore, guest.name, record.id)

    def _resume(self, guest: Guest, record: SourceRecord, target: Host) -> None:
        async def work(ctx: TaskContext) -> dict[str, Any]:
            ctx.progress("recover", RESTARTED)
            return outcome(ctx, await self._live.resume(ctx, guest, record, target), RESTARTED)

        self._tasks.start("vm.migrate", guest.name, work, is_cancellable=True, task_id=record.task)

    async def _abort(self, target: Host, record: SourceRecord) -> None:
        payload = {"migration_id": record.id, "why": "the source's agent was restarted"}
        try:
            await self._peers.call(target, "migration.abort", payload, timeout_s=WORD_TIMEOUT_S)
        except ZugvogelError as error:
            log.info("%s: %s not told to give up: %s", record.vm, record.target, error)

    async def forget_left(self, record: VmRecord) -> None:
        """Notes of moves that are over, in the folder of a vm that has no QEMU here."""
        name = record.definition.name
        notes = await self._records.of_source(record.datastore, name, self._vms.host)
        if not notes:
            return
        lease = await self._vms.mounted(record.datastore).leases.read(name)
        open_id = lease.migration_id if lease is not None and lease.heir else ""
        for note in notes:
            if note.id == open_id:
                continue  # settled by `settle`
            if lease is not None and lease.migration_id == note.id and note.phase not in FINAL:
                self._tell_moved(note)
            await self._records.forget(record.datastore, name, note.id)

    def _tell_moved(self, note: SourceRecord) -> None:
        """Its target became the holder while this host's agent was away: the task ends well."""

        async def work(ctx: TaskContext) -> dict[str, Any]:
            moved = MigrationReport(
                vm=note.vm, source=note.source, target=note.target, result="moved", why=RESTARTED
            )
            return outcome(ctx, moved, RESTARTED)

        self._tasks.start("vm.migrate", note.vm, work, task_id=note.task)

    # a source that is gone -------------------------------------------------------------------------

    async def settle(self, datastore: str, lease: Lease) -> None:
        """One look at a move whose source QEMU, here, is gone for certain while `lease` names an heir.
        Repeated by the agent until it is settled. What the target loaded runs only if the word was given
        before: a source that died unseen may have gone on by itself, and then it is old. Silence of the target
        decides nothing: the vm may run there."""
        vm, id = lease.vm, lease.migration_id
        try:
            status = await self._ask(lease, "migration.status", reaches_datastore=True)
            if status.phase is TargetPhase.PREPARED:
                command = "migration.word" if await self._was_given(datastore, lease) else "migration.abort"
                status = await self._ask(lease, command, why="the source's QEMU ended")
        except NotFound:
            status = None
        except ZugvogelError as error:
            log.warning("%s: %s may run it but does not answer: %s", vm, lease.heir, error)
            return
        if status is not None and status.phase is not TargetPhase.GONE:
            return  # it runs there; its claim ends our part, and the notes are removed at the next start
        why = status.why if status is not None else f"{lease.heir} has nothing of it"
        why = f"its QEMU on {self._vms.host} ended while it was moved to {lease.heir}: {why}"
        released = lease_rules.release(
            lease,
            vm,
            self._vms.me,
            is_heir_excluded=True,
            is_failure=True,
            why=why,
            at=self._vms.clock.now_iso(),
        )
        await self._vms.ends.link(datastore, released)
        await self._records.forget(datastore, vm, id)

    async def _was_given(self, datastore: str, lease: Lease) -> bool:
        if await self._records.has_word(datastore, lease.vm, lease.migration_id):
            return True
        records = await self._records.of_source(datastore, lease.vm, self._vms.host)
        return any(r.id == lease.migration_id and r.phase is SourcePhase.HANDED_OVER for r in records)

    async def _ask(self, lease: Lease, command: str, **more: Any) -> IncomingStatus:
        target = next((h for h in self._vms.inventory.hosts() if h.name == lease.heir), None)
        if target is None:
            raise Unreachable(f"{lease.heir} is no host of the cluster any more")
        answer = await self._peers.call(
            target, command, {"migration_id": lease.migration_id, **more}, timeout_s=WORD_TIMEOUT_S
        )
        return IncomingStatus.model_validate(answer)
