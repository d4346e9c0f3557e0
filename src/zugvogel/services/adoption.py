"""After a restart of the agent: QEMUs that outlived it come back into care, leases without one are settled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from zugvogel.core import lease_rules
from zugvogel.domain.lease import Lease, LeaseState
from zugvogel.domain.task import Severity
from zugvogel.domain.vm import VmDefinition, VmRecord, VmState
from zugvogel.errors import DeadlineExceeded, Unreachable, ZugvogelError
from zugvogel.ports.hypervisor import Machine, MachineStatus
from zugvogel.ports.peers import Handler
from zugvogel.services.ha.thawing import WAITS, Step, Thawing
from zugvogel.services.inventory import Observation
from zugvogel.services.letting_go import NEVER, may_go
from zugvogel.services.local_vms import Guest, LocalVms
from zugvogel.services.looks import Looks
from zugvogel.services.migration.recovery import MigrationRecovery
from zugvogel.services.own_lease import epoch_of, read_own, uuid_of
from zugvogel.services.suspend.recovery import SuspendRecovery

log = logging.getLogger(__name__)


class Adoption:
    """RPC command ``ha.settle``. `thawing` None: nobody lets a frozen QEMU go on here, and it is waited for."""

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
        self._left: set[str] = set()
        """Vms whose folders could not be read when this agent started."""
        self._unknown: set[str] = set()
        """Datastores with leases of another boot of this host, of which it is not known whether it is over."""
        self.looks = Looks("leases")

    def handlers(self) -> dict[str, Handler]:
        return {"ha.settle": self._on_settle}

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
        lease = await self._lease_when_readable(machine, datastore)
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
                    if not await may_go(self._vms, guest, NEVER):
                        await machine.kill()
                        return
                    await machine.cont()
                return
            except ZugvogelError as error:
                log.warning("%s: it does not go on yet: %s", guest.name, error)
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

    async def _lease_when_readable(self, machine: Machine, datastore: str) -> Lease | None:
        while True:
            try:
                store = self._vms.mounted(datastore)
                return await read_own(store, machine.vm, epoch_of(machine), uuid_of(machine))
            except ZugvogelError as error:
                log.warning("%s: lease not readable yet: %s", machine.vm, error)
                await self._vms.clock.sleep(1.0)

    async def _lease_to_go_on_by(self, machine: Machine, datastore: str) -> Lease | None:
        """Of a QEMU that the guard froze while no agent ran: before QMP can be asked anything, this host must have
        linked the next epoch. Returns when it goes on, or when its lease is not ours."""
        while machine.is_frozen:
            try:
                epoch = epoch_of(machine)
                thaw = await self._thawing.attempt(machine, datastore, epoch) if self._thawing else WAITS
                if thaw.step is Step.GOES_ON and thaw.lease is not None:
                    await machine.set_tags(epoch=thaw.lease.epoch)
                    told = f"{machine.vm} on {self._vms.host} goes on: its lease was still this host's"
                    self._vms.events.emit("vm.thawed", machine.vm, told, evidence={"epoch": thaw.lease.epoch})
                if thaw.step is not Step.WAITS:
                    return thaw.lease
            except ZugvogelError as error:
                log.warning("%s: frozen, and it does not go on yet: %s", machine.vm, error)
            await self._vms.clock.sleep(1.0)
        return await self._lease_when_readable(machine, datastore)

    async def tidy(self) -> None:
        """Once after the start: leases of this host that have no QEMU, and notes of moves that are over. What
        cannot be read is left to `settle_leases`."""
        found = _by_datastore(self._vms.inventory.vms())
        self._left = {record.definition.name for records in found.values() for record in records}
        await asyncio.gather(*(self._until_it_hangs(records, self._tidy) for records in found.values()))

    async def tidy_late(self, record: VmRecord) -> None:
        """As `tidy`, of one vm whose QEMU was found and has ended."""
        self._left.add(record.definition.name)
        await self._until_it_hangs([record], self._tidy)

    async def _tidy(self, record: VmRecord) -> None:
        name = record.definition.name
        if not self._vms.is_in_care(name) and not self._vms.ends.namesakes.why():
            await self.settle_one(record)
            await self._moves.forget_left(record)
            await self._suspends.tidy(record)
        self._left.discard(name)

    def settle_leases(self, *, is_news: bool = False) -> None:
        """Leases this host holds without a QEMU (it was rebooted, or QEMU died while no agent watched) are
        released and reported as failed, once; and what could not be read at the start is looked at again. It only
        begins to: a datastore that does not answer holds up only its own. `is_news`: see `Looks.begin`."""
        if self._vms.ends.namesakes.why():
            return
        told = self._vms.inventory.vms_on(self._vms.host)
        left = [r for r in self._vms.inventory.vms() if r.definition.name in self._left] if self._left else []
        found = {record.definition.name: record for record in (*told, *left)}
        due = [record for record in found.values() if self._is_to_settle(record)]
        for datastore, records in _by_datastore(due).items():
            self.looks.begin(
                datastore, partial(self._until_it_hangs, records, self._settle_or_tidy), is_news=is_news
            )

    def known_alone(self, datastore: str) -> None:
        """No other boot of this host beats there: its leases are settled at once."""
        if datastore in self._unknown:
            self._unknown.discard(datastore)
            self.settle_leases(is_news=True)

    def _refuse_other_boot(self, lease: Lease | None, datastore: str) -> None:
        try:
            self._vms.ends.refuse_other_boot(lease, datastore)
        except Unreachable:
            self._unknown.add(datastore)
            raise

    def _is_to_settle(self, record: VmRecord) -> bool:
        name = record.definition.name
        if self._vms.is_in_care(name):
            self._left.discard(name)
            return False
        is_told_here = record.host == self._vms.host and record.observed is VmState.RUNNING
        return name in self._left or is_told_here

    async def _settle_or_tidy(self, record: VmRecord) -> None:
        if record.definition.name in self._left:
            await self._tidy(record)
        else:
            await self.settle_one(record)

    async def _until_it_hangs(
        self, records: Iterable[VmRecord], work: Callable[[VmRecord], Awaitable[None]]
    ) -> None:
        """One after the other, all of one datastore; once it does not answer the others are not tried."""
        for record in records:
            try:
                await work(record)
            except ZugvogelError as error:
                log.warning("%s: its lease is not settled yet: %s", record.definition.name, error)
                if isinstance(error, DeadlineExceeded):
                    return

    async def _on_settle(self, payload: dict[str, Any]) -> dict[str, Any]:
        """The judge sees that this host holds a vm (its lease at `epoch`) and does not report it: a claim that
        came late to a datastore that hung, or an end that nobody saw. Answers with the epoch of the lease after it
        was settled. Refused while something of the vm is here."""
        name, epoch, judge = str(payload["vm"]), int(payload["epoch"]), str(payload.get("judge", ""))
        await self._vms.looked_at(name)
        with self._vms.being_started(name):  # nothing else begins with it meanwhile
            return await self._settle_asked(name, epoch, judge)

    async def _settle_asked(self, name: str, epoch: int, judge: str) -> dict[str, Any]:
        record = self._vms.inventory.vm(name)
        leases = self._vms.mounted(record.datastore).leases
        lease = await leases.read(name)
        if lease is None or lease.epoch != epoch:
            return {"epoch": lease.epoch if lease is not None else 0}
        self._refuse_other_boot(lease, record.datastore)
        if lease.state is LeaseState.RESUMING:
            await self._suspends.give_back(record)
        else:
            why = f"{self._vms.host} held it without a QEMU: a claim came late, or its end was not seen"
            await self._settle_lease(record, lease, why, {"asked_by": judge, "judged_epoch": epoch})
        lease = await leases.read(name)
        return {"epoch": lease.epoch if lease is not None else 0}

    async def settle_one(self, record: VmRecord) -> None:
        """A vm that has no QEMU here though the lease, or the registry, says it runs here."""
        lease = await self._vms.mounted(record.datastore).leases.read(record.definition.name)
        why = f"its QEMU on {self._vms.host} is gone (host or QEMU ended while no agent watched)"
        self._refuse_other_boot(lease, record.datastore)
        if lease is None or self._vms.is_in_care(record.definition.name) or lease.state is LeaseState.RESUMING:
            return
        await self._settle_lease(record, lease, why, {})

    async def _settle_lease(self, record: VmRecord, lease: Lease, why: str, evidence: dict[str, Any]) -> None:
        name, datastore = record.definition.name, record.datastore
        if lease.holder is None:
            self._catch_up(record, lease)
        elif lease.holder.host == self._vms.host and lease.heir:
            await self._moves.settle(datastore, lease)
        elif lease.holder.host == self._vms.host:
            at = self._vms.clock.now_iso()
            # a start that the registry never heard of is nothing that a user ended
            is_failure = record.wanted == "running" or lease.epoch > record.epoch
            released = lease_rules.release(lease, name, self._vms.me, is_failure=is_failure, why=why, at=at)
            await self._vms.ends.link(datastore, released, evidence)

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


def _by_datastore(records: Iterable[VmRecord]) -> dict[str, list[VmRecord]]:
    found: dict[str, list[VmRecord]] = {}
    for record in records:
        found.setdefault(record.datastore, []).append(record)
    return found
