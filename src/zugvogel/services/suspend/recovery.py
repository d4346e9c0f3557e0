"""What an earlier agent of this host left of suspends and resumes, put in order after its restart.

A vm whose lease is still ours goes on here. One that was given up is waited for, as the task it was, and resumed
here if its target does not. A load that was under way is given back: nothing of it ran.
"""

from __future__ import annotations

import logging
from typing import Any

from zugvogel.core import lease_rules
from zugvogel.domain.lease import Lease, LeaseState
from zugvogel.domain.memory import SuspendRecord
from zugvogel.domain.task import Severity
from zugvogel.domain.vm import VmDefinition, VmRecord
from zugvogel.errors import LeaseTaken, ZugvogelError
from zugvogel.ports.hypervisor import Machine
from zugvogel.services.local_vms import LOOKING, Guest, LocalVms
from zugvogel.services.own_lease import epoch_of, read_own
from zugvogel.services.suspend.outcome import outcome
from zugvogel.services.suspend.quick import QuickMigrations
from zugvogel.services.suspend.records import SuspendRecords
from zugvogel.services.suspend.resuming import Resumer
from zugvogel.services.suspend.saving import AGAIN_S, Saver
from zugvogel.services.tasks import TaskBoard, TaskContext

log = logging.getLogger(__name__)


class SuspendRecovery:
    def __init__(
        self,
        vms: LocalVms,
        saver: Saver,
        resumer: Resumer,
        quick: QuickMigrations,
        records: SuspendRecords,
        tasks: TaskBoard,
    ) -> None:
        self._vms = vms
        self._saver = saver
        self._resumer = resumer
        self._quick = quick
        self._records = records
        self._tasks = tasks

    async def look_at(self, guest: Guest) -> None:
        """A vm that was just adopted: if it was being saved, it goes on here. A claim of the earlier agent may
        still be on its way, so the next epoch is linked before the vm runs."""
        for record in await self._when_readable(guest):
            guest.busy = LOOKING
            try:
                if not await self._keep(guest, record):
                    return
                await self._saver.go_on(guest, "the agent was restarted while it was being suspended")
                await self._saver.clear(guest, record)
                if record.target:
                    await self._quick.take_back(guest.datastore, record)
                if not guest.ended.is_set():
                    told = (
                        f"{guest.name} runs on {self._vms.host}: its suspend was cut off by a restart of the agent"
                    )
                    self._vms.events.emit("vm.suspend-ended", guest.name, told, severity=Severity.WARNING)
            finally:
                if guest.busy == LOOKING:
                    guest.busy = ""
        await self._forget_past(guest)

    async def _when_readable(self, guest: Guest) -> list[SuspendRecord]:
        while not guest.ended.is_set():
            try:
                return await self._records.of_host(guest.datastore, guest.name, self._vms.host)
            except ZugvogelError as error:
                log.warning("%s: notes of suspends not readable yet: %s", guest.name, error)
                await self._vms.clock.sleep(AGAIN_S)
        return []

    async def _keep(self, guest: Guest, record: SuspendRecord) -> bool:
        """False: the lease says that the vm was given up, so its QEMU ends here."""
        why, at = "its suspend was cut off", self._vms.clock.now_iso()
        while True:
            try:
                store = self._vms.mounted(guest.datastore)
                lease = await read_own(store, guest.name, guest.epoch, guest.definition.uuid)
                if lease is None or lease.state is not LeaseState.RUNNING or lease.holder != self._vms.me:
                    guest.is_handed_over = True
                    self._vms.guests.pop(guest.name, None)
                    await guest.machine.kill()
                    await self.settle_given_up(guest.datastore, record, lease)
                    return False
                claim = lease_rules.keep_running(lease, guest.name, self._vms.me, why=why, at=at)
                guest.epoch = (await store.leases.claim(claim)).epoch
                return True
            except LeaseTaken:
                continue
            except ZugvogelError as error:
                log.warning("%s: not put back yet: %s", guest.name, error)
                await self._vms.clock.sleep(AGAIN_S)

    async def settle_given_up(self, datastore: str, record: SuspendRecord, lease: Lease | None) -> None:
        """The vm was given up by an earlier agent: a move goes on as the task it was."""
        is_its = lease is not None and record.id in {lease.memory_id, lease.migration_id}
        if not record.target or not is_its:
            if record.target:
                await self._quick.take_back(datastore, record)
            if lease is not None and lease.memory_id != record.id:
                await self._vms.mounted(datastore).memory.discard(record.vm, record.id)
            await self._records.forget(datastore, record.vm, record.id)
            return

        async def work(ctx: TaskContext) -> dict[str, Any]:
            return outcome(ctx, await self._quick.go_on(ctx, record, datastore), "")

        self._tasks.start("vm.migrate", record.vm, work, task_id=record.task)

    # without a vm in care --------------------------------------------------------------------------

    async def tidy(self, vm: VmRecord) -> None:
        """Notes and memory files in the folder of a vm that has no QEMU here."""
        name, datastore = vm.definition.name, vm.datastore
        store = self._vms.mounted(datastore)
        lease = await store.leases.read(name)
        mine = lease is not None and lease.holder is not None and lease.holder.host == self._vms.host
        if lease is not None and lease.state is LeaseState.RESUMING and mine and not self._vms.is_in_care(name):
            await self._resumer.give_back(name, datastore, "the agent was restarted while it loaded the memory")
            lease = await store.leases.read(name)
        for record in await self._records.of_host(datastore, name, self._vms.host):
            await self.settle_given_up(datastore, record, lease)

    async def give_back(self, vm: VmRecord) -> None:
        """The lease says that this host loads its memory, and nothing here does."""
        why = f"{self._vms.host} held it without loading its memory: a claim came late"
        await self._resumer.give_back(vm.definition.name, vm.datastore, why)

    async def take_over(self, machine: Machine) -> Guest | None:
        """A QEMU that an earlier agent had started to load saved memory. It is kept only if the lease says that it
        may run, which was linked after everything was loaded."""
        tags, name = machine.tags, machine.vm
        datastore = str(tags["datastore"])
        lease = await self._lease_when_readable(datastore, name, epoch_of(machine))
        memory_id = str(tags["memory_id"])
        is_claimed = lease.migration_id == memory_id or "epoch" in tags  # noted once `running` was linked for it
        if lease.state is LeaseState.RUNNING and lease.holder == self._vms.me and is_claimed:
            definition = VmDefinition.model_validate(tags["definition"])
            try:
                guest = await self._resumer.set_going(machine, definition, datastore, lease)
            except ZugvogelError as error:  # its QEMU was ended; whoever the lease names goes on from here
                log.warning("%s: it does not go on here: %s", name, error)
                return None
            await self._resumer.announce(machine)
            self._resumer.begin_setting_clock(machine)
            await self._discard(guest, memory_id)
            return guest
        await machine.kill()
        if lease.state is LeaseState.RESUMING:
            await self._resumer.give_back(name, datastore, "the agent was restarted while it loaded the memory")
        return None

    async def _discard(self, guest: Guest, memory_id: str) -> None:
        try:
            await self._vms.mounted(guest.datastore).memory.discard(guest.name, memory_id)
        except ZugvogelError as error:
            log.warning("%s: its saved memory is not removed yet: %s", guest.name, error)

    async def _lease_when_readable(self, datastore: str, name: str, epoch: int) -> Lease:
        while True:
            try:
                lease = await read_own(self._vms.mounted(datastore), name, epoch)
                if lease is not None:
                    return lease
                log.warning("%s: a QEMU loads its memory but it has no lease", name)
            except ZugvogelError as error:
                log.warning("%s: lease not readable yet: %s", name, error)
            await self._vms.clock.sleep(1.0)

    async def _forget_past(self, guest: Guest) -> None:
        """Saved memory in the folder of a vm that runs here is past: it was resumed, or booted fresh."""
        memory = self._vms.mounted(guest.datastore).memory
        guest.busy = LOOKING  # nothing new is saved meanwhile
        try:
            for memory_id in await memory.ids(guest.name):
                await memory.discard(guest.name, memory_id)
        except ZugvogelError as error:
            log.warning("%s: saved memory that is past is not removed yet: %s", guest.name, error)
        finally:
            guest.busy = ""
        if guest.ended.is_set():
            await self._vms.settle_end(guest)
