"""What the source does in a live migration, one method for each `Action` of `zugvogel.core.source_machine`.

Each returns the event that followed at once, or None: then the next one comes from the stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from zugvogel.core import lease_rules
from zugvogel.core.source_machine import Action, Event
from zugvogel.domain.host import Host
from zugvogel.domain.lease import Lease, LeaseState
from zugvogel.domain.migration import (
    IncomingReady,
    IncomingRequest,
    IncomingStatus,
    SourcePhase,
    SourceRecord,
    TargetPhase,
)
from zugvogel.domain.vm import VmState
from zugvogel.errors import LeaseTaken, NotFound, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.peers import Peers
from zugvogel.services.inventory import Observation
from zugvogel.services.local_vms import Guest, LocalVms
from zugvogel.services.migration.network import NetworkWatch
from zugvogel.services.migration.records import MigrationRecords
from zugvogel.services.migration.stream import Stream, StreamSettings

log = logging.getLogger(__name__)

CAPABILITIES = ("events", "return-path", "multifd")
WORD_TIMEOUT_S = 2.0
CLAIM_POLL_S = (0.02, 0.1)
"""Between two looks at the lease: at first, and once the first second is over."""
CONTINUE_S = 30.0

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
    unsure_epoch: int = 0
    """A claim judged on this epoch timed out: it may still be linked, late."""
    marks: list[tuple[str, float]] = field(default_factory=list)


class SourceActions:
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
        self._peers = peers
        self._clock = clock
        self._records = records
        self._failpoint = failpoint
        self._do: dict[Action, Callable[[Move], Awaitable[Event | None]]] = {
            Action.NAME_HEIR: self._name_heir,
            Action.START_STREAM: self._start_stream,
            Action.CANCEL_STREAM: self._cancel_stream,
            Action.ABORT_TARGET: self._abort_target,
            Action.GIVE_WORD: self._give_word,
            Action.ASK_TARGET: self._ask_target,
            Action.AWAIT_CLAIM: self.await_claim,
            Action.CONTINUE_SOURCE: self._continue_source,
            Action.DROP_HEIR: self._drop_heir,
            Action.QUIT_SOURCE: self._quit_source,
            Action.RELEASE_LEASE: self._release_lease,
        }

    async def perform(self, action: Action, move: Move) -> Event | None:
        return await self._do[action](move)

    def mark(self, move: Move, name: str) -> None:
        """A phase begins now (the one before ends)."""
        move.marks.append((name, self._clock.monotonic()))

    async def _call(self, move: Move, command: str, timeout_s: float, **payload: Any) -> IncomingStatus:
        answer = await self._peers.call(
            move.target, command, {"migration_id": move.record.id, **payload}, timeout_s=timeout_s
        )
        return IncomingStatus.model_validate(answer)

    async def prepare(self, move: Move) -> Event:
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
        leases, name = self._vms.mounted(move.guest.datastore).leases, move.guest.name
        why, at = f"live migration to {move.target.name}", self._clock.now_iso()
        try:
            current = await leases.read(name)
            claim = lease_rules.name_heir(
                current, name, self._vms.me, move.target.name, move.record.id, why=why, at=at
            )
            move.unsure_epoch = claim.epoch - 1
            linked = await leases.claim(claim)
        except ZugvogelError as error:
            move.reason = f"the lease could not name {move.target.name} heir: {error}"
            return Event.FAILED
        move.guest.epoch = linked.epoch
        move.record = move.record.model_copy(update={"epoch": linked.epoch})
        await self._failpoint("source.heir-named")
        return None

    async def _start_stream(self, move: Move) -> Event | None:
        assert move.ready is not None
        self.mark(move, "precopy")
        move.progress("precopy", f"copying memory to {move.target.name}")
        try:
            await move.stream.start(move.ready, move.target.name)
            await move.network.begin()
        except ZugvogelError as error:
            if await move.stream.has_died():
                return Event.SOURCE_DIED
            move.reason = f"QEMU did not start the stream: {error}"
            return Event.FAILED
        await self._failpoint("source.precopy")
        return None

    async def target_is_fine(self, move: Move) -> str:
        """Empty while the target's agent answers and its session waits; else why not."""
        try:
            status = await self._call(move, "migration.status", 3.0)
        except NotFound as error:
            return error.cause
        except ZugvogelError as error:
            return f"{move.target.name} does not answer: {error.cause}"
        return status.why if status.phase is TargetPhase.GONE else ""

    async def _cancel_stream(self, move: Move) -> Event | None:
        self.mark(move, "cancel")
        move.progress("cancel", "stopping the copy; the vm goes on where it is")
        if move.cancel.is_set():
            move.reason = move.reason or "cancelled by request"
        return await move.stream.cancel()

    async def _give_word(self, move: Move) -> Event | None:
        """``completed``: one round trip, nothing written to the datastore while it succeeds."""
        move.marks.append(("switchover", move.stop_at or self._clock.monotonic()))
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
        if status.phase is not TargetPhase.GONE:
            return Event.WORD_TAKEN
        move.reason = status.why
        return Event.TARGET_LOST if status.has_run or move.guest.ended.is_set() else Event.WORD_REFUSED

    async def _word_by_datastore(self, move: Move, why: str) -> Event | None:
        """The word lies in the vm's folder from here on: it counts as given, whoever reads it when."""
        move.guest.awaits_heir = True
        log.warning("%s: word given through the datastore: %s", move.guest.name, why)
        while True:
            try:
                await self._records.write_word(move.guest.datastore, move.guest.name, move.record.id)
                return Event.WORD_TAKEN
            except ZugvogelError as error:
                log.warning("%s: word not written yet: %s", move.guest.name, error)
                await self._clock.sleep(0.5)

    async def _ask_target(self, move: Move) -> Event | None:
        """The source's QEMU is gone for certain: its process ended. A target that loaded everything may run if
        the source had stopped for good (STOP seen, no RESUME since); else there is nothing to run."""
        move.reason = move.reason or "the source's QEMU ended"
        has_stopped = bool(move.stream.stop_at)
        move.stop_at = move.stop_at or move.stream.stop_at
        try:
            status = await self._call(move, "migration.status", WORD_TIMEOUT_S)
            if status.phase is TargetPhase.PREPARED and status.is_loaded and has_stopped:
                return await self._give_word(move)
            if status.phase in {TargetPhase.RUNNING, TargetPhase.CLAIMED}:
                return Event.WORD_TAKEN
            await self._call(move, "migration.abort", WORD_TIMEOUT_S, why="the source's QEMU ended")
        except ZugvogelError as error:
            log.warning("%s: %s not asked: %s", move.guest.name, move.target.name, error)
        return Event.TARGET_LOST

    async def await_claim(self, move: Move) -> Event | None:
        """Until the target's own epoch is read from the datastore, or the target is proven unable. A lease that
        the target claimed and gave back already (the vm ended there) counts as claimed: its end is told there."""
        self.mark(move, "take over")
        patience = self._clock.monotonic() + 1.0
        while True:
            lease = await self._read_lease(move)
            is_ours = lease is not None and lease.holder == self._vms.me  # linked anew after a freeze
            if lease is not None and lease.epoch > move.record.epoch and not is_ours:
                return self._gone_on(move, lease)
            refusal = await self._target_never_will(move, is_lease_read=lease is not None)
            if refusal is not None:
                return refusal
            move.resume_at = move.resume_at or self._clock.monotonic()
            quick, slow = CLAIM_POLL_S
            await self._clock.sleep(quick if self._clock.monotonic() < patience else slow)

    def _gone_on(self, move: Move, lease: Lease) -> Event:
        """Of a target that claimed, this host sees its claim or a later epoch; the next one is of whoever gave the
        vm free because the target is dead."""
        if lease.state is LeaseState.RELEASED and lease.epoch <= max(move.record.epoch, move.guest.epoch) + 1:
            move.reason = move.reason or lease.why
            return Event.TARGET_LOST
        return Event.TARGET_CLAIMED

    async def _read_lease(self, move: Move) -> Lease | None:
        try:
            return await self._vms.mounted(move.guest.datastore).leases.read(move.guest.name)
        except ZugvogelError as error:
            log.warning("%s: lease not read: %s", move.guest.name, error)
            return None

    async def _target_never_will(self, move: Move, *, is_lease_read: bool) -> Event | None:
        """The event that proves that the target will not claim, or None. Where the target proves that it never
        ran the vm, the source can still go on. Silence proves nothing, however long: the vm may run there."""
        try:
            status = await self._call(move, "migration.status", 1.0, reaches_datastore=is_lease_read)
            if status.phase is TargetPhase.PREPARED:  # the word was lost, or its agent restarted over it
                status = await self._call(move, "migration.word", WORD_TIMEOUT_S)
        except NotFound:
            move.reason = f"{move.target.name} lost the vm while taking over"
            return Event.TARGET_LOST
        except ZugvogelError as error:
            move.progress("switchover", f"{move.target.name} may run the vm but does not answer: {error.cause}")
            move.guest.awaits_heir = True
            return None
        move.guest.awaits_heir = False
        return self._after_word(move, status) if status.phase is TargetPhase.GONE else None

    async def _continue_source(self, move: Move) -> Event | None:
        """The target proved that it never ran the vm and never will: the source goes on."""
        move.guest.awaits_heir = False
        deadline = self._clock.monotonic() + CONTINUE_S
        while True:
            try:
                await move.guest.machine.cont()
                return Event.SOURCE_RUNS
            except ZugvogelError as error:
                if not await move.stream.has_died() and self._clock.monotonic() < deadline:
                    log.warning("%s: does not go on yet: %s", move.guest.name, error)
                    await self._clock.sleep(0.5)
                    continue
                move.reason += f"; and the source could not go on: {error}"
            await move.guest.machine.kill()
            return Event.SOURCE_DIED

    async def _abort_target(self, move: Move) -> Event | None:
        try:
            await self._call(move, "migration.abort", 5.0, why=move.reason)
        except ZugvogelError as error:
            log.info("%s: %s not told to give up: %s", move.guest.name, move.target.name, error)
        return None

    async def _drop_heir(self, move: Move) -> Event | None:
        """Linking the next epoch without an heir; until it is linked the move is not over. Only a lease that
        was read and names another host ends this QEMU."""
        guest = move.guest
        why, at = f"stayed: {move.reason}", self._clock.now_iso()
        while True:
            try:
                leases = self._vms.mounted(guest.datastore).leases
                current = await leases.read(guest.name)
                if current is not None and current.holder != self._vms.me:
                    log.error("%s: its lease went elsewhere: %s", guest.name, current)
                    guest.is_handed_over = True
                    await guest.machine.kill()
                    return None
                if current is not None and not current.heir and current.epoch > move.unsure_epoch:
                    guest.epoch = current.epoch
                    self._observe_running(move)
                    return None
                claim = lease_rules.drop_heir(current, guest.name, self._vms.me, move.record.id, why=why, at=at)
                await leases.claim(claim)
            except LeaseTaken:
                continue  # perhaps our own claim, linked late: the next reading tells
            except ZugvogelError as error:
                log.warning("%s: heir not dropped yet: %s", guest.name, error)
                await self._clock.sleep(0.5)

    def _observe_running(self, move: Move) -> None:
        move.guest.awaits_heir = False
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
        self.mark(move, "clean up")
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
        move.guest.epoch = max(move.guest.epoch, move.record.epoch)
        died_of = f"it ended while it was moved to {move.target.name}: {move.reason}"
        await self._vms.settle_end(move.guest, died_of)
        return None
