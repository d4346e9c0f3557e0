"""The source's side: stop the vm, write its memory, make it durable, give the lease up.

The lease that says `suspended` is the one point of no return. Before it is linked the vm goes on here whatever
fails; after it the vm never goes on here by itself, and whoever resumes it links the next epoch first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from zugvogel.core import lease_rules, streaming
from zugvogel.domain.lease import Lease, LeaseState
from zugvogel.domain.memory import Manifest, SaveOptions, SuspendRecord
from zugvogel.domain.migration import Forecast
from zugvogel.domain.vm import VmState
from zugvogel.errors import LeaseTaken, ProcedureFailed, Refused, ZugvogelError
from zugvogel.ports.hypervisor import MachineStatus
from zugvogel.services.inventory import Observation
from zugvogel.services.local_vms import SAVING, Guest, LocalVms
from zugvogel.services.suspend.pacing import Pacing
from zugvogel.services.suspend.records import SuspendRecords
from zugvogel.services.suspend.writing import SPARE_BYTES, Failpoint, MemoryWriting, Saving
from zugvogel.services.tasks import TaskCancelled

log = logging.getLogger(__name__)

POLL_S = 0.02
PROBE_BYTES = 32 << 20
RESUME_FIXED_S = 0.3
AGAIN_S = 0.5


class Saver:
    def __init__(
        self,
        vms: LocalVms,
        records: SuspendRecords,
        writing: MemoryWriting,
        pacing: Pacing,
        failpoint: Failpoint,
    ) -> None:
        self._vms = vms
        self._clock = vms.clock
        self._records = records
        self._writing = writing
        self._pacing = pacing
        self._failpoint = failpoint

    async def forecast(self, guest: Guest, options: SaveOptions) -> Forecast:
        """Measures the datastore by writing a little and, unless stop-first is wished, what the guest changes."""
        memory = self._vms.mounted(guest.datastore).memory
        used = min(await guest.machine.memory_used_bytes(), guest.definition.memory_bytes)
        free = await memory.free_bytes()
        dirty_bps = None if options.is_streamed is False else await guest.machine.dirty_bps()
        write_bps = await memory.measure_write_bps(guest.name, PROBE_BYTES) if free > 2 * PROBE_BYTES else 0.0
        method = streaming.choose(options.is_streamed, used, free - SPARE_BYTES, write_bps, dirty_bps)
        stopped_s = 2 * used / write_bps + RESUME_FIXED_S if write_bps else 0.0
        return Forecast(
            size_bytes=used,
            free_bytes=free,
            write_bps=write_bps,
            outage_s=streaming.STREAMED_OUTAGE_S if method.is_streamed else stopped_s,
            dirty_bps=dirty_bps,
            is_streamed=method.is_streamed,
            how=method.why,
        )

    @asynccontextmanager
    async def turn(self, saving: Saving) -> AsyncIterator[None]:
        """The only vm of this host that is saved to its datastore. Raises when it is cancelled, or when the vm
        ends, before its turn comes."""
        guest, is_told = saving.guest, False

        def waiting() -> None:
            nonlocal is_told
            saving.heed_cancel()
            if not is_told:
                told = f"another vm is being suspended to {guest.datastore}; one at a time"
                saving.ctx.progress("waiting", told)
                is_told = True

        async with self._pacing.turn(guest.datastore, waiting):
            if guest.ended.is_set():
                raise ProcedureFailed(f"{guest.name} ended before its turn came", f"see: zv vm show {guest.name}")
            yield

    async def save(self, saving: Saving) -> None:
        """From the running vm to the lease that says suspended. Raises after everything was put back: the vm
        runs on here, and nothing is left of it. When the agent stops (CancelledError) all is left as it is:
        the next agent puts it back."""
        guest = saving.guest
        guest.busy = SAVING
        saving.is_begun, is_stopped = True, False
        try:
            await self._records.write(guest.datastore, saving.record)
            saving.forecast = saving.forecast or await self.forecast(guest, saving.options)
            self._refuse_without_space(guest, saving.forecast)
            saving.heed_cancel()
            await self._failpoint("source.before-stop")
            is_stopped = True
            await self._writing.write(saving, saving.forecast)
            saving.mark("durable")
            saving.ctx.progress("durable", "making the memory file durable")
            saving.manifest = await self._seal(saving)
            await self._failpoint("source.sealed")
            saving.mark("hand-over")
            saving.heed_cancel()
        except (ZugvogelError, TaskCancelled) as error:
            await self._put_back(saving, is_stopped, str(error))
            raise
        await self.give_up(saving)

    @staticmethod
    def _refuse_without_space(guest: Guest, forecast: Forecast) -> None:
        need = forecast.size_bytes + SPARE_BYTES
        if need > forecast.free_bytes:
            raise Refused(
                f"datastore {guest.datastore} has {forecast.free_bytes >> 20} MiB free, saving {guest.name} "
                f"needs {need >> 20} MiB",
                "make room there",
            )

    async def _seal(self, saving: Saving) -> Manifest:
        assert saving.manifest is not None
        return await self._vms.mounted(saving.guest.datastore).memory.seal(saving.manifest)

    # the point of no return --------------------------------------------------------------------------

    async def give_up(self, saving: Saving) -> None:
        """Link the lease that says suspended. An outcome that is not known is asked for again until it is: only
        one of two epochs can follow, and this QEMU does not run before it is known which."""
        guest, record = saving.guest, saving.record
        why = f"quick migration to {record.target}" if record.target else "suspended by request"
        at, lease = self._clock.now_iso(), None
        while lease is None:
            lease = await self._link(guest, record, why, at)
        guest.is_handed_over = True
        saving.is_given_up = True
        if record.id not in {lease.memory_id, lease.migration_id}:
            await self._end(guest)
            raise ProcedureFailed(f"the lease of {guest.name} went elsewhere: {lease.why}")
        await self._failpoint("source.suspended")
        self._vms.inventory.observe(
            Observation(
                vm=guest.name,
                observed=VmState.SUSPENDED,
                host=self._vms.host,
                epoch=lease.epoch,
                why=why,
                wanted="" if record.target else "stopped",
            )
        )
        await self._end(guest)

    async def _end(self, guest: Guest) -> None:
        """Its QEMU has nothing to do any more."""
        guest.busy = "suspended"
        self._vms.guests.pop(guest.name, None)
        await guest.machine.quit()

    async def _link(self, guest: Guest, record: SuspendRecord, why: str, at: str) -> Lease | None:
        """The lease that now stands: ours that says suspended, or one of others. None: not known yet."""
        try:
            leases = self._vms.mounted(guest.datastore).leases
            current = await leases.read(guest.name)
            is_mine = (
                current is not None and current.holder == self._vms.me and current.state is LeaseState.RUNNING
            )
            if current is not None and not is_mine:
                return current
            return await leases.claim(
                lease_rules.suspend(
                    current, guest.name, self._vms.me, record.id, is_to_resume=bool(record.target), why=why, at=at
                )
            )
        except LeaseTaken:
            return None  # perhaps our own claim, linked late: the next reading tells
        except ZugvogelError as error:
            log.warning("%s: not given up yet: %s", guest.name, error)
            await self._clock.sleep(AGAIN_S)
            return None

    # the way back ------------------------------------------------------------------------------------

    async def _put_back(self, saving: Saving, is_stopped: bool, why: str) -> None:
        """The lease is still ours and no claim was made: the vm goes on here."""
        guest, record = saving.guest, saving.record
        if is_stopped:
            await self.go_on(guest, why)
        else:
            await self._let_go(guest)
        await self.clear(guest, record)

    async def _let_go(self, guest: Guest) -> None:
        """Nothing is done with it any more; its end meanwhile is told now."""
        guest.busy = ""
        if guest.ended.is_set():
            await self._vms.settle_end(guest)

    async def clear(self, guest: Guest, record: SuspendRecord) -> None:
        """Nothing is left of a suspend that was not finished. What cannot be removed now goes when this host's
        agent starts again."""
        try:
            await self._vms.mounted(guest.datastore).memory.discard(guest.name, record.id)
        except ZugvogelError as error:
            log.warning("%s: its memory file is not removed yet: %s", guest.name, error)
            return
        await self._records.forget(guest.datastore, guest.name, record.id)

    async def go_on(self, guest: Guest, why: str) -> None:
        """Call the save off and let the vm run; asked again until QEMU does or is dead."""
        while not guest.ended.is_set():
            try:
                sample = await guest.machine.migration()
                if sample.status in {"setup", "active", "device", "cancelling", "pre-switchover"}:
                    await guest.machine.cancel_migration()
                    await self._clock.sleep(POLL_S)
                    continue
                await guest.machine.forget_save()
                if await guest.machine.status() is not MachineStatus.RUNNING:
                    await guest.machine.cont()
                break
            except ZugvogelError as error:
                log.warning("%s: does not go on yet: %s", guest.name, error)
                await self._clock.sleep(AGAIN_S)
                if not guest.machine.is_alive:
                    await asyncio.wait({asyncio.ensure_future(guest.ended.wait())}, timeout=5.0)
        await self._let_go(guest)
        if not guest.ended.is_set():
            log.info("%s goes on: %s", guest.name, why)
