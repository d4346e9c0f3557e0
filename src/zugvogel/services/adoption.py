"""After a restart of the agent: QEMUs that outlived it come back into care, leases without one are settled."""

from __future__ import annotations

import logging

from zugvogel.core import lease_rules
from zugvogel.domain.lease import Lease, LeaseState
from zugvogel.domain.task import Severity
from zugvogel.domain.vm import VmDefinition, VmRecord, VmState
from zugvogel.errors import Unreachable, ZugvogelError
from zugvogel.ports.hypervisor import Machine, MachineStatus
from zugvogel.services.ha.thawing import WAITS, Step, Thawing
from zugvogel.services.inventory import Observation
from zugvogel.services.local_vms import Guest, LocalVms
from zugvogel.services.migration.recovery import MigrationRecovery
from zugvogel.services.suspend.recovery import SuspendRecovery

log = logging.getLogger(__name__)


class Adoption:
    """`thawing` None: nobody lets a frozen QEMU go on here, and it is waited for."""

    def __init__(
        self,
        vms: LocalVms,
        moves: MigrationRecovery,
        suspends: SuspendRecovery,
        thawing: Thawing | None = None,
    ) -> None:
        self._vms = vms
        self._moves = moves
        self._suspends = suspends
        self._thawing = thawing

    async def take_over(self, machine: Machine) -> Guest | None:
        """A QEMU that outlived an earlier agent: keep it if the lease is still ours, end it if not. Waits for a
        datastore that does not answer. Raises NotFound for a vm the cluster does not know: it is left alone."""
        guest = await self._take_over(machine)
        self._vms.expected_no_more(machine.vm)
        return guest

    async def _take_over(self, machine: Machine) -> Guest | None:
        tags, name = machine.tags, machine.vm
        datastore = str(tags["datastore"])
        self._vms.mounted(datastore)  # NotFound before anything is done with it
        self._vms.run_unclaimed(machine, datastore)
        definition = await self._definition_of(machine, datastore)
        lease = await self._lease_when_readable(datastore, name)
        if machine.is_frozen:
            lease = await self._lease_to_go_on_by(machine, datastore)
        if not machine.is_alive:
            return None
        holds = lease is not None and lease.holder == self._vms.me and lease.state is LeaseState.RUNNING
        if lease is None or not holds:
            log.warning("%s: a QEMU is here but the lease is not ours (%s): ended", name, lease)
            await machine.kill()
            self._tell_ended(name, lease)
            return None
        guest = self._vms.admit(machine, definition, datastore, lease.epoch)
        await self._set_going(guest)
        self._vms.inventory.observe(
            Observation(
                vm=name,
                observed=VmState.RUNNING,
                host=self._vms.host,
                epoch=guest.epoch,
                why="adopted",
                wanted="running",
            )
        )
        return guest

    async def _set_going(self, guest: Guest) -> None:
        """One that was never told to run is told now. The guard may freeze it meanwhile, so it is asked until it
        answers or is dead."""
        machine = guest.machine
        while machine.is_alive:
            try:
                status = await machine.status()
                guest.is_paused = status is not MachineStatus.RUNNING
                if status is MachineStatus.PRELAUNCH:
                    await machine.cont()
                return
            except Unreachable as error:
                log.warning("%s: not asked yet: %s", guest.name, error)
                await self._vms.clock.sleep(1.0)

    def _tell_ended(self, name: str, lease: Lease | None) -> None:
        if lease is not None and lease.migration_id:  # the rest of a move that was over
            return
        self._vms.events.emit(
            "vm.fenced",
            name,
            f"{self._vms.host} ended its QEMU of {name}: its lease is held elsewhere",
            severity=Severity.WARNING,
            evidence={"lease": lease.model_dump() if lease else None},
        )

    async def _definition_of(self, machine: Machine, datastore: str) -> VmDefinition:
        raw = machine.tags.get("definition")
        if raw is not None:
            return VmDefinition.model_validate(raw)
        return await self._vms.mounted(datastore).folders.read(machine.vm)

    async def _lease_when_readable(self, datastore: str, name: str) -> Lease | None:
        while True:
            try:
                return await self._vms.mounted(datastore).leases.read(name)
            except ZugvogelError as error:
                log.warning("%s: lease not readable yet: %s", name, error)
                await self._vms.clock.sleep(1.0)

    async def _lease_to_go_on_by(self, machine: Machine, datastore: str) -> Lease | None:
        """Of a QEMU that the guard froze while no agent ran: before QMP can be asked anything, this host must have
        linked the next epoch. Returns when it goes on, or when its lease is not ours."""
        while machine.is_frozen:
            try:
                thaw = await self._thawing.attempt(machine, datastore) if self._thawing is not None else WAITS
                if thaw.step is Step.GOES_ON and thaw.lease is not None:
                    await machine.set_tags(epoch=thaw.lease.epoch)
                    told = f"{machine.vm} on {self._vms.host} goes on: its lease was still this host's"
                    self._vms.events.emit("vm.thawed", machine.vm, told, evidence={"epoch": thaw.lease.epoch})
                if thaw.step is not Step.WAITS:
                    return thaw.lease
            except ZugvogelError as error:
                log.warning("%s: frozen, and it does not go on yet: %s", machine.vm, error)
            await self._vms.clock.sleep(1.0)
        return await self._lease_when_readable(datastore, machine.vm)

    async def tidy(self) -> None:
        """Once after the start: leases of this host that have no QEMU, and notes of moves that are over. A
        folder that cannot be read is left for the next start."""
        for record in self._vms.inventory.vms():
            await self.tidy_one(record)

    async def tidy_one(self, record: VmRecord) -> None:
        name = record.definition.name
        if self._vms.is_in_care(name):
            return
        try:
            await self.settle_one(record)
            await self._moves.forget_left(record)
            await self._suspends.tidy(record)
        except ZugvogelError as error:
            log.warning("%s: not looked for what an earlier agent left: %s", name, error)

    async def settle_leases(self) -> None:
        """Leases this host holds without a QEMU (it was rebooted, or QEMU died while no agent watched) are
        released and reported as failed, once."""
        for record in self._vms.inventory.vms():
            name = record.definition.name
            if (
                record.host != self._vms.host
                or self._vms.is_in_care(name)
                or record.observed is not VmState.RUNNING
            ):
                continue
            try:
                await self.settle_one(record)
            except ZugvogelError as error:
                log.warning("%s: its lease is not settled yet: %s", name, error)

    async def settle_one(self, record: VmRecord) -> None:
        """A vm that has no QEMU here though the lease, or the registry, says it runs here."""
        name, datastore = record.definition.name, record.datastore
        lease = await self._vms.mounted(datastore).leases.read(name)
        if lease is None or self._vms.is_in_care(name) or lease.state is LeaseState.RESUMING:
            return
        if lease.holder is None:
            self._catch_up(record, lease)
        elif lease.holder.host == self._vms.host and lease.heir:
            await self._moves.settle(datastore, lease)
        elif lease.holder.host == self._vms.host:
            why = f"its QEMU on {self._vms.host} is gone (host or QEMU ended while no agent watched)"
            at = self._vms.clock.now_iso()
            released = lease_rules.release(lease, name, self._vms.me, is_failure=True, why=why, at=at)
            await self._vms.ends.link(datastore, released)

    def _catch_up(self, record: VmRecord, lease: Lease) -> None:
        """The vm was given up but the registry never heard of it: the agent died in between."""
        is_behind = record.host == self._vms.host and record.observed is VmState.RUNNING
        if is_behind and lease.state is LeaseState.SUSPENDED and lease.epoch > record.epoch:
            self._vms.inventory.observe(
                Observation(
                    vm=lease.vm,
                    observed=VmState.SUSPENDED,
                    host=self._vms.host,
                    epoch=lease.epoch,
                    why=lease.why,
                )
            )
        if is_behind and lease.state is LeaseState.RELEASED and lease.epoch > record.epoch:
            self._vms.ends.tell(lease, {})
