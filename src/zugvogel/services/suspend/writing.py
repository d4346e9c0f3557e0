"""A vm's memory into its file: the vm stopped first, or streamed, when it is stopped for the last round alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from zugvogel.core import streaming
from zugvogel.domain.host import HostFacts
from zugvogel.domain.memory import Manifest, MemoryFormat, SaveOptions, SuspendRecord
from zugvogel.domain.migration import Forecast, MigrationSample, Round
from zugvogel.errors import ProcedureFailed, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.hypervisor import MachineEvent
from zugvogel.ports.storage import MemoryWriter
from zugvogel.services.local_vms import Guest, LocalVms
from zugvogel.services.suspend.pacing import Pacing
from zugvogel.services.suspend.streaming import Ask, LiveRounds
from zugvogel.services.tasks import TaskCancelled, TaskContext

POLL_S = 0.02
END_POLL_S = 0.002
TELL_S = 0.25
"""Every word of progress wakes all who watch the task, and takes from the cores that write the memory."""
LET_GO_S = 10.0
STALL_S = 30.0
"""Nothing was written for this long: the datastore does not take it."""
SPARE_BYTES = 64 << 20
"""Device state, manifest and what grows between the look and the stop."""

Failpoint = Callable[[str], Awaitable[None]]


@dataclass(slots=True)
class Saving:
    """One suspend as it runs; times are this host's monotonic seconds. `marks`: (phase, when it began)."""

    guest: Guest
    record: SuspendRecord
    ctx: TaskContext
    clock: Clock
    options: SaveOptions
    ask: Ask | None = None
    """How far the target is that loads along."""
    forecast: Forecast | None = None
    manifest: Manifest | None = None
    rounds: tuple[Round, ...] = ()
    why_long: str = ""
    """Why a streamed save did not come down to a short last round."""
    stop_at: float = 0.0
    is_begun: bool = False
    """From here on the saver clears up after itself."""
    is_given_up: bool = False
    """The lease says suspended."""
    marks: list[tuple[str, float]] = field(default_factory=list)

    def mark(self, name: str) -> None:
        """A phase begins now (the one before ends)."""
        self.marks.append((name, self.clock.monotonic()))

    def heed_cancel(self) -> None:
        if self.ctx.cancel_requested.is_set():
            raise TaskCancelled(f"{self.guest.name} runs on {self.record.host}, untouched")


class MemoryWriting:
    def __init__(
        self,
        vms: LocalVms,
        facts: Callable[[], Awaitable[HostFacts]],
        pacing: Pacing,
        failpoint: Failpoint,
    ) -> None:
        self._vms = vms
        self._clock = vms.clock
        self._facts = facts
        self._pacing = pacing
        self._failpoint = failpoint

    async def write(self, saving: Saving, forecast: Forecast) -> None:
        """Returns when QEMU says that all is written, and all of it is in the file."""
        guest, machine = saving.guest, saving.guest.machine
        memory = self._vms.mounted(guest.datastore).memory
        path = await memory.make(guest.name, saving.record.id)
        is_stream = forecast.is_streamed or saving.options.is_compressed
        is_mapped = not is_stream and "mapped-ram" in await machine.migration_capabilities()
        saving.manifest = await self._manifest(saving, MemoryFormat.MAPPED if is_mapped else MemoryFormat.STREAM)
        if is_mapped:
            await self._stop(saving)
            await machine.save_to(path)
            await self._failpoint("source.saving")
            await _Watch(saving, self._pacing, self._clock, None).until_saved()
        else:
            writer = memory.writer(guest.name, saving.record.id, is_compressed=saving.options.is_compressed)
            try:
                await self._write_stream(saving, forecast, writer)
            except (ZugvogelError, TaskCancelled):
                writer.close()
                await self._until_let_go(writer)
                raise
            saving.manifest = saving.manifest.model_copy(update={"checksum": writer.sum.checksum})
        await self._failpoint("source.saved")

    async def _stop(self, saving: Saving, stopped: asyncio.Task[float] | None = None) -> None:
        """`stopped`: when QEMU said so, which may have stopped them before."""
        asked_at = self._clock.monotonic()
        await saving.guest.machine.stop()
        saving.stop_at = self._clock.monotonic()
        if stopped is not None and stopped.done():
            saving.stop_at = asked_at = stopped.result()
        saving.marks.append(("suspend", asked_at))
        await self._failpoint("source.stopped")

    async def _write_stream(self, saving: Saving, forecast: Forecast, writer: MemoryWriter) -> None:
        machine = saving.guest.machine
        if not forecast.is_streamed:
            await self._stop(saving)
        else:
            saving.mark("stream")
        await machine.save_stream(writer.fd)
        writer.begin()
        watch = _Watch(saving, self._pacing, self._clock, writer)
        if forecast.is_streamed:
            await self._failpoint("source.streaming")
            most = streaming.most_bytes(forecast.size_bytes, forecast.free_bytes - SPARE_BYTES)
            live = LiveRounds(machine, self._clock, writer, saving.ask, most)
            stopped = asyncio.create_task(_stopped_at(machine.events()))
            try:
                await watch.until_small(live)
                saving.rounds, saving.why_long = tuple(live.rounds), live.why
                await self._stop(saving, stopped)
            finally:
                stopped.cancel()
        await self._failpoint("source.saving")
        await watch.until_saved()
        await watch.until_over(writer)

    async def _until_let_go(self, writer: MemoryWriter) -> None:
        """It writes no more, so that what it wrote can be removed; a storage that hangs is not waited for long."""
        deadline = self._clock.monotonic() + LET_GO_S
        while not writer.is_over and self._clock.monotonic() < deadline:
            await self._clock.sleep(END_POLL_S)

    async def _manifest(self, saving: Saving, form: MemoryFormat) -> Manifest:
        guest, facts = saving.guest, await self._facts()
        return Manifest(
            id=saving.record.id,
            vm=guest.name,
            host=self._vms.host,
            epoch=guest.epoch,
            format=form,
            definition=guest.definition,
            cpu=facts.cpu,
            accelerator=facts.accelerator,
            qemu_version=facts.qemu_version,
            addresses={n.mac: self._vms.network.learned_addresses(n.mac) for n in guest.definition.nics},
            saved_at=self._clock.now_iso(),
        )


async def _stopped_at(events: AsyncIterator[MachineEvent]) -> float:
    """When QEMU stopped the vCPUs, on the clock of events; for ever if it ends first."""
    async for event in events:
        if event.name == "STOP":
            return event.at
    return await asyncio.Future()


class _Watch:
    """Looks at a save under way: whether it moves, how fast it may go, and tells of it."""

    def __init__(self, saving: Saving, pacing: Pacing, clock: Clock, writer: MemoryWriter | None) -> None:
        self._saving, self._clock, self._writer = saving, clock, writer
        self._machine = saving.guest.machine
        now = clock.monotonic()
        self._began = self._moved_at = self._told_at = now
        self._moved = 0
        self._is_short = False
        self._pace = pacing.writer(self._machine, saving.guest.datastore, now)

    async def until_small(self, live: LiveRounds) -> None:
        """While the vm runs: until it is time to stop it."""
        live.begin()
        asking = asyncio.create_task(live.keep_asking(), name=f"target of {self._machine.vm}")
        try:
            while not await live.look():
                now = await self._look(live.sample, is_held=live.is_held)
                if now - self._told_at >= TELL_S:
                    self._told_at = now
                    self._tell("stream", live.sample, now, f"round {len(live.rounds) + 1}, ", live.rounds)
                await self._clock.sleep(POLL_S)
        finally:
            asking.cancel()
        live.end()
        self._is_short = True

    async def until_saved(self) -> None:
        """The vCPUs stand still: until QEMU says that it is complete."""
        poll_s = END_POLL_S if self._is_short else POLL_S
        while True:
            sample = await self._machine.migration()
            if sample.status == "completed":
                return
            now = await self._look(sample)
            if now - self._told_at >= TELL_S:
                self._told_at = now
                self._tell("suspend", sample, now)
            await self._clock.sleep(poll_s)

    async def until_over(self, writer: MemoryWriter) -> None:
        """Until all that QEMU wrote is in the file."""
        while not writer.is_over:
            self._refuse_stalled(writer.file_bytes, self._clock.monotonic())
            self._saving.heed_cancel()
            await self._clock.sleep(END_POLL_S)
        self._refuse_broken()

    async def _look(self, sample: MigrationSample, *, is_held: bool = False) -> float:
        """The time. Raises when it does not go on. `is_held`: it stands still because it is to."""
        self._refuse_broken()
        if sample.status in {"failed", "cancelled"}:
            told, vm = sample.error or "QEMU does not say why", self._saving.guest.name
            raise ProcedureFailed(f"the memory of {vm} was not written: {told}", f"see: zv vm log {vm}")
        self._saving.heed_cancel()
        now = self._clock.monotonic()
        if is_held:
            self._moved_at = now
        self._refuse_stalled(sample.transferred_bytes, now)
        await self._pace.look(self._moved, now)
        return now

    def _refuse_stalled(self, moved: int, now: float) -> None:
        if moved > self._moved:
            self._moved_at, self._moved = now, moved
        elif now - self._moved_at > STALL_S:
            raise ProcedureFailed(
                f"datastore {self._saving.guest.datastore} took nothing for {STALL_S:.0f} s",
                "check the mount and the storage behind it",
            )

    def _refuse_broken(self) -> None:
        if self._writer is not None and self._writer.error:
            vm, datastore = self._saving.guest.name, self._saving.guest.datastore
            raise ProcedureFailed(
                f"the memory of {vm} was not written: {self._writer.error}", f"check datastore {datastore}"
            )

    def _tell(
        self, phase: str, sample: MigrationSample, now: float, head: str = "", rounds: list[Round] | None = None
    ) -> None:
        saving, written = self._saving, sample.transferred_bytes
        expected = saving.forecast.size_bytes if saving.forecast else 0
        took = max(1e-3, now - self._began)
        remaining = sample.remaining_bytes if rounds is not None else max(0, expected - written)
        saving.ctx.progress(
            phase,
            f"{head}{written / 1e6:.0f} MB written at {written / took / 1e6:.0f} MB/s",
            min(0.99, written / expected) if expected else None,
            {
                "phase": phase,
                "rounds": [r.model_dump() for r in rounds or ()],
                "transferred_bytes": written,
                "remaining_bytes": remaining,
                "total_bytes": expected,
                "throughput_bps": written / took,
                "dirty_rate_bps": sample.dirty_rate_bps,
                "elapsed_s": took,
            },
        )
