"""The target's side: load saved memory, and run it.

The lease goes `suspended` -> `resuming` (this host loads) -> `running`, linked after all memory is in (Q3) and
before the first `cont`. Up to `running` nothing of the guest ran: whatever fails, the memory stays as saved and
is given back for whoever resumes next. So it is when QEMU then refuses to run it, since an image stays locked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from zugvogel.core import lease_rules
from zugvogel.domain.lease import Lease, LeaseState
from zugvogel.domain.memory import Manifest
from zugvogel.domain.task import Severity
from zugvogel.domain.vm import VmDefinition, VmState
from zugvogel.errors import (
    DeadlineExceeded,
    ImageLocked,
    LeaseTaken,
    NotFound,
    ProcedureFailed,
    Refused,
    ZugvogelError,
)
from zugvogel.ports.hypervisor import Machine
from zugvogel.ports.storage import MemoryReader
from zugvogel.services.inventory import Observation
from zugvogel.services.letting_go import NEVER, may_go
from zugvogel.services.local_vms import Guest, LocalVms, is_locked, once_unlocked
from zugvogel.services.suspend.loading import Failpoint, MemoryLoading, Progress

log = logging.getLogger(__name__)

POLL_S = 0.02
AGAIN_S = 0.5
UNLOCK_S = 120.0
"""The memory is loaded and would be lost: a source that died with the lock is waited for until an NFS v4 server
has dropped it."""
LOCKED = "a disk of it is locked by the process that had it before; it goes on as soon as that is free"


@dataclass(slots=True)
class Loaded:
    """A vm that was resumed; `marks` are (phase, when it began) on this host's clock."""

    guest: Guest
    manifest: Manifest
    resume_at: float = 0.0
    marks: list[tuple[str, float]] = field(default_factory=list)


class Resumer:
    def __init__(
        self,
        vms: LocalVms,
        loading: MemoryLoading,
        failpoint: Failpoint,
        tell_now: Callable[[], Awaitable[None]],
    ) -> None:
        self._vms = vms
        self._clock = vms.clock
        self._loading = loading
        self._failpoint = failpoint
        self._tell_now = tell_now
        self._setting: set[asyncio.Task[None]] = set()

    async def resume(
        self,
        name: str,
        datastore: str,
        progress: Progress,
        *,
        machine: Machine | None = None,
        reader: MemoryReader | None = None,
        is_takeover: bool = False,
        judged_epoch: int | None = None,
        why: str = "resumed by request",
    ) -> Loaded:
        """Go on with the suspended vm `name` here. `machine`: spawned before; it is used up, and so is `reader`,
        from which it loads already. `is_takeover`: also when another host is loading it. `judged_epoch`: only if
        the lease is still at that epoch. Raises after giving the memory back."""
        with self._vms.being_started(name):
            try:
                return await self._resume(
                    name, datastore, progress, machine, reader, is_takeover, judged_epoch, why
                )
            except BaseException:
                if reader is not None:
                    reader.close()
                if machine is not None:
                    await machine.kill()
                raise

    async def _resume(
        self,
        name: str,
        datastore: str,
        progress: Progress,
        machine: Machine | None,
        reader: MemoryReader | None,
        is_takeover: bool,
        judged_epoch: int | None,
        why: str,
    ) -> Loaded:
        store = self._vms.mounted(datastore)
        marks = [("hand-over", self._clock.monotonic())]
        progress("hand-over", "checking what was saved")
        lease = await store.leases.read(name)
        if judged_epoch is not None:
            lease_rules.refuse_gone_on(lease, name, judged_epoch)
        claim = lease_rules.begin_resume(
            lease, name, self._vms.me, is_takeover=is_takeover, why=why, at=self._clock.now_iso()
        )
        manifest = await store.memory.read(name, claim.memory_id)
        await self._loading.refuse_unfit(manifest)
        await store.memory.verify(manifest)
        await self._failpoint("target.before-claim")
        await store.leases.claim(claim)
        try:
            marks.append(("load", self._clock.monotonic()))
            progress("load", f"loading the memory of {name}")
            await self._failpoint("target.claimed")
            if machine is None:
                machine = await self._loading.spawn(
                    manifest.definition, datastore, manifest.id, manifest.used_bytes
                )
            await self._loading.load(machine, manifest, datastore, reader, progress)
            await self._failpoint("target.loaded")
            await machine.status()  # one that has ended since never ran the vm
        except BaseException as error:
            if machine is not None:
                await machine.kill()
            await self.give_back(name, datastore, f"not loaded on {self._vms.host}: {error}")
            raise
        return await self._run(machine, manifest, datastore, marks, why)

    # running -------------------------------------------------------------------------------------

    async def _run(
        self, machine: Machine, manifest: Manifest, datastore: str, marks: list[tuple[str, float]], why: str
    ) -> Loaded:
        since = self._clock.monotonic()
        lease = await self._link_running(manifest, datastore, why)
        if lease is None:
            await machine.kill()
            raise ProcedureFailed(f"another host took the resume of {manifest.vm} over", "see: zv vm list")
        await self._failpoint("target.before-cont")
        guest = await self.set_going(machine, manifest.definition, datastore, lease, since)
        loaded = Loaded(guest, manifest, self._clock.monotonic(), marks)
        await self.announce(machine)
        self.begin_setting_clock(machine)
        await self._failpoint("target.running")
        await self._tell_now()
        await self._discard(guest, manifest.id)
        return loaded

    async def _link_running(self, manifest: Manifest, datastore: str, why: str) -> Lease | None:
        """None: the lease went on without us. Asked again until it is known."""
        name, at = manifest.vm, self._clock.now_iso()
        while True:
            try:
                leases = self._vms.mounted(datastore).leases
                current = await leases.read(name)
                if current is not None and current.state is LeaseState.RUNNING and current.holder == self._vms.me:
                    return current  # our own claim, linked late
                try:
                    claim = lease_rules.run_resumed(current, name, self._vms.me, manifest.id, why=why, at=at)
                except Refused:
                    return None
                return await leases.claim(claim)
            except LeaseTaken:
                continue
            except ZugvogelError as error:
                log.warning("%s: loaded, but the lease is not linked yet: %s", name, error)
                await self._clock.sleep(AGAIN_S)

    async def set_going(
        self, machine: Machine, definition: VmDefinition, datastore: str, lease: Lease, since: float = NEVER
    ) -> Guest:
        """The lease, whose claim began at `since`, says running here: take it into care and let the vCPUs go.
        Raises after its QEMU was ended; ImageLocked where no vCPU ever ran: then its memory is saved as before."""
        guest = self._vms.admit(machine, definition, datastore, lease.epoch)
        await machine.set_tags(epoch=lease.epoch)  # its role stays: another agent goes on from here
        try:
            if not await may_go(self._vms, guest, since):
                raise ProcedureFailed(f"another host took {guest.name} over before it ran here", "see: zv vm list")
            # the source's QEMU may hold its images' locks a moment longer; QEMU takes them now
            guest.frozen_why = LOCKED
            await once_unlocked(self._clock, machine.cont, POLL_S, UNLOCK_S)
            guest.frozen_why = ""
        except ZugvogelError as error:
            if isinstance(error, ProcedureFailed) and is_locked(error):
                raise await self._locked_out(guest, lease, error) from error
            await machine.kill()
            raise
        await machine.set_tags(role="vm", epoch=guest.epoch)
        self._vms.inventory.observe(
            Observation(
                vm=guest.name,
                observed=VmState.RUNNING,
                host=self._vms.host,
                epoch=guest.epoch,
                why=lease.why,
                wanted="running",
            )
        )
        told = f"{guest.name} was resumed on {self._vms.host} with its memory"
        self._vms.events.emit("vm.resumed", guest.name, told, evidence={"epoch": guest.epoch})
        return guest

    async def _locked_out(self, guest: Guest, lease: Lease, error: ProcedureFailed) -> ImageLocked:
        """QEMU has refused every `cont`. What it says comes back once the memory is saved again, or lost."""
        machine, memory_id = guest.machine, str(guest.machine.tags["memory_id"])
        guest.is_handed_over = True  # its end is told here
        await machine.kill()
        self._vms.guests.pop(guest.name, None)
        why = f"not run on {self._vms.host}: a disk of it stays locked by another process, here or elsewhere"
        is_kept = await self._suspend_again(guest, memory_id, lease.is_to_resume, why)
        step = (
            f"its memory is kept; find who has the disk open, then: zv vm resume {guest.name}"
            if is_kept
            else f"its memory is lost; see: zv vm show {guest.name}"
        )
        log.warning("%s: %s (%s)", guest.name, why, error)
        return ImageLocked(f"{guest.name} was {why}", step)

    async def _suspend_again(self, guest: Guest, memory_id: str, is_to_resume: bool, why: str) -> bool:
        """Until the lease says so; False: its memory is gone, or the lease went on without us."""
        name, at = guest.name, self._clock.now_iso()
        while True:
            try:
                store = self._vms.mounted(guest.datastore)
                lease = await store.leases.read(name)
                if lease is not None and lease.state is LeaseState.SUSPENDED and lease.memory_id == memory_id:
                    break  # our own claim, linked late
                try:
                    if memory_id not in await store.memory.ids(name):
                        raise NotFound(f"its memory {memory_id} is not there any more")
                    claim = lease_rules.suspend_again(
                        lease, name, self._vms.me, memory_id, is_to_resume=is_to_resume, why=why, at=at
                    )
                except (Refused, NotFound) as error:
                    log.error("%s: it cannot be suspended again: %s", name, error)
                    await self._vms.ends.release_until_done(
                        guest.datastore, name, True, why, is_heir_excluded=False
                    )
                    return False
                lease = await store.leases.claim(claim)
                break
            except LeaseTaken:
                continue
            except ZugvogelError as error:
                log.warning("%s: not suspended again yet: %s", name, error)
                await self._clock.sleep(AGAIN_S)
        self._tell_given_back(lease, why)
        return True

    async def announce(self, machine: Machine) -> None:
        try:
            await machine.announce()
        except ZugvogelError as error:
            log.warning("%s: not announced: %s", machine.vm, error)

    def begin_setting_clock(self, machine: Machine) -> None:
        """The guest has not seen the time pass. Beside the resume: that it has no agent, only silence tells."""
        setting = asyncio.create_task(self._set_clock(machine), name=f"clock of {machine.vm}")
        self._setting.add(setting)
        setting.add_done_callback(self._setting.discard)

    async def _set_clock(self, machine: Machine) -> None:
        try:
            await machine.set_guest_clock()
        except DeadlineExceeded:
            log.info("%s: no guest agent answers; its clock is behind until the guest sets it", machine.vm)
        except ZugvogelError as error:
            log.warning("%s: clock not set: %s", machine.vm, error)
        else:
            log.info("%s: clock set by its guest agent", machine.vm)

    async def _discard(self, guest: Guest, memory_id: str) -> None:
        """The vm runs: its saved memory is past. What cannot be removed now goes when the agent starts again."""
        try:
            await self._vms.mounted(guest.datastore).memory.discard(guest.name, memory_id)
        except ZugvogelError as error:
            log.warning("%s: its saved memory is not removed yet: %s", guest.name, error)

    async def give_back(self, name: str, datastore: str, why: str) -> None:
        """Until the lease says suspended again, or is not ours to give."""
        at = self._clock.now_iso()
        while True:
            try:
                leases = self._vms.mounted(datastore).leases
                lease = await leases.read(name)
                try:
                    claim = lease_rules.give_back(lease, name, self._vms.me, why=why, at=at)
                except Refused:
                    return
                linked = await leases.claim(claim)
            except LeaseTaken:
                continue
            except NotFound:
                return
            except ZugvogelError as error:
                log.warning("%s: not given back yet: %s", name, error)
                await self._clock.sleep(AGAIN_S)
                continue
            self._tell_given_back(linked, why)
            return

    def _tell_given_back(self, lease: Lease, why: str) -> None:
        self._vms.inventory.observe(
            Observation(vm=lease.vm, observed=VmState.SUSPENDED, host=self._vms.host, epoch=lease.epoch, why=why)
        )
        self._vms.events.emit(
            "vm.resume-failed", lease.vm, f"{lease.vm} stays suspended: {why}", severity=Severity.WARNING
        )
