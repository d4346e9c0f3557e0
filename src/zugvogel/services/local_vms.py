"""The vms of this host: start, stop, watch, settle. One QEMU each, its lease held while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from zugvogel.core import lease_rules
from zugvogel.domain.host import VmReport
from zugvogel.domain.lease import Holder, Lease, LeaseState
from zugvogel.domain.network import Network
from zugvogel.domain.task import Severity
from zugvogel.domain.vm import VmDefinition, VmRecord, VmState
from zugvogel.errors import LeaseTaken, NotFound, ProcedureFailed, Refused, Unreachable, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.hypervisor import Hypervisor, Machine, MachineSpec, MachineStatus, NicSpec
from zugvogel.ports.network import HostNetwork
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.events import EventLog
from zugvogel.services.inventory import Inventory, Observation

log = logging.getLogger(__name__)

MIGRATING = "migrating"
LOOKING = "being looked at after a restart of the agent"
ORDERLY_ENDS = {"guest-shutdown", "host-qmp-quit"}
"""Reasons of QEMU's SHUTDOWN event that somebody wanted; anything else is a failure."""


@dataclass(slots=True)
class Guest:
    """A vm whose QEMU is on this host and whose lease this host holds at `epoch`.

    `busy`: what is being done with it ("migrating", "stopping"), empty when free.
    `is_handed_over`: its lease went to another host; its end is nobody's failure.
    """

    machine: Machine
    definition: VmDefinition
    datastore: str
    epoch: int
    busy: str = ""
    is_paused: bool = False
    is_handed_over: bool = False
    end_reason: str = ""
    end_how: str = ""
    watcher: asyncio.Task[None] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def is_in_move(self) -> bool:
        """A move decides what the end of its QEMU means."""
        return self.busy in {MIGRATING, LOOKING}


class LocalVms:
    def __init__(
        self,
        *,
        host: str,
        boot_id: str,
        hypervisor: Hypervisor,
        network: HostNetwork,
        inventory: Inventory,
        mounted: Callable[[str], MountedDatastore],
        events: EventLog,
        clock: Clock,
    ) -> None:
        self.host = host
        self.me = Holder(host=host, boot_id=boot_id)
        self.hypervisor = hypervisor
        self.network = network
        self.inventory = inventory
        self.mounted = mounted
        self.events = events
        self.clock = clock
        self.guests: dict[str, Guest] = {}
        self.reserve: Callable[[VmDefinition], None] = lambda definition: None
        """Raises Refused when this host has no room; set by the admission of the agent."""
        self.settle_move: Callable[[str, Lease], Awaitable[None]] | None = None
        """What to do with a lease of ours that names an heir while no QEMU is here; set by the wiring."""
        self._expected: set[str] | None = None
        """Vms whose QEMU outlived an earlier agent and is not in care yet; None: not known yet."""
        self._starting: set[str] = set()
        self._ending: set[str] = set()

    def guest(self, name: str) -> Guest:
        found = self.guests.get(name)
        if found is None:
            raise NotFound(f"{name} is not running on {self.host}", f"see: zv vm show {name}")
        return found

    def free_guest(self, name: str) -> Guest:
        """A guest nothing else is being done with."""
        guest = self.guest(name)
        if guest.busy:
            raise Refused(f"{name} is {guest.busy}", "see: zv task list, or cancel it with: zv task cancel")
        return guest

    def reports(self) -> tuple[VmReport, ...]:
        return tuple(self._report(g) for g in self.guests.values())

    def _report(self, guest: Guest) -> VmReport:
        d = guest.definition
        macs = tuple(n.mac for n in d.nics)
        return VmReport(
            name=d.name,
            state=VmState.RUNNING,
            epoch=guest.epoch,
            memory_bytes=d.memory_bytes,
            cpus=d.cpus,
            macs=macs,
            addresses=tuple(a for mac in macs for a in self.network.learned_addresses(mac)),
            is_migrating=guest.busy == MIGRATING,
            cpu_model=d.cpu_model,
        )

    # starting --------------------------------------------------------------------------------

    def nic_specs(self, definition: VmDefinition) -> tuple[NicSpec, ...]:
        return tuple(self._nic_spec(self.inventory.network(n.network), n.mac) for n in definition.nics)

    def _nic_spec(self, network: Network, mac: str) -> NicSpec:
        bridge = network.bridge_on(self.host)
        if bridge is None:
            raise Refused(
                f"{self.host} has no bridge for network {network.name}",
                f"name it: zv network add {network.name} --bridge BR --host {self.host}",
            )
        return NicSpec(mac=mac, bridge=bridge, vlan=network.vlan, mtu=network.mtu)

    async def start(self, name: str) -> Guest:
        """Claim the lease, spawn, run. On any failure the lease is released and nothing is left."""
        if self._expected is None or name in self._expected:
            raise Unreachable(f"the agent of {self.host} has just started and looks at its vms", "try again")
        if name in self.guests or name in self._starting:
            raise Refused(f"{name} is running on {self.host} already", f"see: zv vm show {name}")
        if name in self._ending:
            raise Refused(f"{name} has just ended on {self.host}; its lease is being released", "try again")
        self._starting.add(name)
        try:
            record = self.inventory.vm(name)
            store = self.mounted(record.datastore)
            definition = await store.folders.read(name)
            self.reserve(definition)
            lease = await self._claim_start(store, name)
            return await self._spawn(definition, record.datastore, lease)
        finally:
            self._starting.discard(name)

    async def _claim_start(self, store: MountedDatastore, name: str) -> Lease:
        current = await store.leases.read(name)
        claim = lease_rules.start(
            current, name, self.me, has_qemu=name in self.guests, why="started", at=self.clock.now_iso()
        )
        return await store.leases.claim(claim)

    async def _spawn(self, definition: VmDefinition, datastore: str, lease: Lease) -> Guest:
        store = self.mounted(datastore)
        name = definition.name
        machine: Machine | None = None
        try:
            spec = MachineSpec(
                definition=definition,
                folder=store.folders.path(name),
                nics=self.nic_specs(definition),
                tags={
                    "role": "vm",
                    "epoch": lease.epoch,
                    "datastore": datastore,
                    "definition": definition.model_dump(mode="json"),
                },
            )
            machine = await self.hypervisor.spawn(spec)
            guest = self.admit(machine, definition, datastore, lease.epoch)
            await machine.cont()
        except BaseException as error:
            guest_or_none = self.guests.pop(name, None)
            if guest_or_none is not None:
                guest_or_none.is_handed_over = True
            if machine is not None:
                await machine.kill()
            await self._release(store, name, True, f"start failed: {error}")
            raise
        self.inventory.observe(
            Observation(
                vm=name,
                observed=VmState.RUNNING,
                host=self.host,
                epoch=lease.epoch,
                why="started",
                wanted="running",
            )
        )
        self.events.emit("vm.started", name, f"{name} started on {self.host}", evidence={"epoch": lease.epoch})
        return guest

    def admit(self, machine: Machine, definition: VmDefinition, datastore: str, epoch: int) -> Guest:
        """Take a machine whose lease this host holds into care; its events are watched from here on."""
        guest = Guest(machine=machine, definition=definition, datastore=datastore, epoch=epoch)
        self.guests[definition.name] = guest
        guest.watcher = asyncio.create_task(self._watch(guest), name=f"watch {definition.name}")
        return guest

    # watching --------------------------------------------------------------------------------

    async def _watch(self, guest: Guest) -> None:
        async for event in guest.machine.events():
            if event.name == "STOP":
                guest.is_paused = True
            elif event.name == "RESUME":
                guest.is_paused = False
            elif event.name == "SHUTDOWN":
                guest.end_reason = str(event.data.get("reason", ""))
            elif event.name == "EXITED":
                await self._ended(guest, str(event.data.get("why", "")))

    async def _ended(self, guest: Guest, how: str) -> None:
        """Its QEMU is gone. While a migration holds the guest, the migration decides what that means."""
        guest.ended.set()
        guest.end_how = how
        if not guest.is_in_move:
            await self.settle_end(guest)

    async def settle_end(self, guest: Guest, died_of: str = "") -> None:
        """Release the lease and report the end, once. `died_of`: it ended during a move that is over, its heir
        proven never to run it, and this is why."""
        if self.guests.get(guest.name) is guest:
            del self.guests[guest.name]
        if guest.is_handed_over:
            return
        guest.is_handed_over = True
        is_failure = bool(died_of) or not (
            guest.end_reason in ORDERLY_ENDS or guest.busy in {"stopping", "killing"}
        )
        why = died_of or _why_ended(guest)
        self._ending.add(guest.name)
        try:
            lease = await self._release_until_done(guest, is_failure, why, is_heir_excluded=bool(died_of))
        finally:
            self._ending.discard(guest.name)
        if lease is not None and lease.state is LeaseState.RELEASED:
            self._tell_end(lease, {"process": guest.end_how, "shutdown_reason": guest.end_reason})

    def _tell_end(self, lease: Lease, evidence: dict[str, Any]) -> None:
        """`lease` is the released one that this host linked."""
        name, is_failure = lease.vm, lease.is_failure
        self.inventory.observe(
            Observation(
                vm=name,
                observed=VmState.FAILED if is_failure else VmState.STOPPED,
                host=self.host,
                epoch=lease.epoch,
                why=lease.why,
                wanted="" if is_failure else "stopped",
            )
        )
        self.events.emit(
            "vm.failed" if is_failure else "vm.stopped",
            name,
            f"{name} on {self.host}: {lease.why}",
            severity=Severity.ERROR if is_failure else Severity.INFO,
            evidence={"epoch": lease.epoch, **evidence},
        )

    # leases ----------------------------------------------------------------------------------

    async def _release(
        self, store: MountedDatastore, name: str, is_failure: bool, why: str, *, is_heir_excluded: bool = False
    ) -> Lease | None:
        """Release the lease this host holds, at whatever epoch; returns it as linked. None: it is not ours, or
        names an heir that may run the vm (the settling of moves goes on from there)."""
        at = self.clock.now_iso()
        while True:
            current = await store.leases.read(name)
            if current is None or current.holder is None or current.holder.host != self.host:
                return None
            if current.heir and not is_heir_excluded:
                log.error("%s: its lease names %s heir: not released here", name, current.heir)
                return None
            released = lease_rules.release(
                current, name, self.me, is_heir_excluded=True, is_failure=is_failure, why=why, at=at
            )
            try:
                return await store.leases.claim(released)
            except LeaseTaken:
                again = await store.leases.read(name)
                if again == released:  # our own claim, linked late
                    return again

    async def _release_until_done(
        self, guest: Guest, is_failure: bool, why: str, *, is_heir_excluded: bool
    ) -> Lease | None:
        """As `_release`, waiting out a datastore that does not answer: a lease of ours without a QEMU blocks
        the vm, so it is given back as soon as the datastore lets us."""
        while True:
            try:
                store = self.mounted(guest.datastore)
                return await self._release(store, guest.name, is_failure, why, is_heir_excluded=is_heir_excluded)
            except NotFound:
                return None
            except ZugvogelError as error:
                log.warning("%s: lease not released yet: %s", guest.name, error)
                await self.clock.sleep(1.0)

    # ending ----------------------------------------------------------------------------------

    async def stop(self, name: str, timeout_s: float, cancelled: asyncio.Event) -> None:
        """ACPI power button, pressed again every 5 s; ProcedureFailed when the guest does not follow."""
        guest = self.free_guest(name)
        guest.busy = "stopping"
        deadline = self.clock.monotonic() + timeout_s
        try:
            while not guest.ended.is_set():
                if cancelled.is_set() or self.clock.monotonic() >= deadline:
                    why = "the wait was cancelled" if cancelled.is_set() else f"not within {timeout_s:.0f} s"
                    raise ProcedureFailed(
                        f"{name} did not power off ({why}); it is still running",
                        f"wait longer with --timeout, or cut its power: zv vm kill {name}",
                    )
                await self._ignore_end(guest.machine.powerdown)
                await _wait(guest.ended, min(5.0, max(0.1, deadline - self.clock.monotonic())))
            await self._until_settled(guest)
        finally:
            if not guest.ended.is_set():
                guest.busy = ""

    async def kill(self, name: str) -> None:
        guest = self.free_guest(name)
        guest.busy = "killing"
        await guest.machine.kill()
        await _wait(guest.ended, 5.0)
        await self._until_settled(guest)

    async def reset(self, name: str) -> None:
        await self.free_guest(name).machine.reset()

    async def _until_settled(self, guest: Guest) -> None:
        if guest.watcher is not None:
            await asyncio.wait({guest.watcher}, timeout=10.0)

    @staticmethod
    async def _ignore_end(call: Callable[[], Awaitable[None]]) -> None:
        try:
            await call()
        except ZugvogelError as error:
            log.info("power button: %s", error)

    # after a restart of the agent ---------------------------------------------------------------

    def expect(self, names: Iterable[str]) -> None:
        """These have a QEMU here; nothing is started before this is known."""
        self._expected = set(names)

    async def take_over(self, machine: Machine) -> Guest | None:
        """A QEMU that outlived an earlier agent: keep it if the lease is still ours, end it if not. Waits for a
        datastore that does not answer. Raises NotFound for a vm the cluster does not know: it is left alone."""
        guest = await self._take_over(machine)
        if self._expected is not None:
            self._expected.discard(machine.vm)
        return guest

    async def _take_over(self, machine: Machine) -> Guest | None:
        tags, name = machine.tags, machine.vm
        datastore = str(tags["datastore"])
        definition = await self._definition_of(machine, datastore)
        lease = await self._lease_when_readable(datastore, name)
        holds = lease is not None and lease.holder == self.me and lease.state is LeaseState.RUNNING
        if lease is None or not holds:
            log.warning("%s: a QEMU is here but the lease is not ours (%s): ended", name, lease)
            await machine.kill()
            self._tell_ended(name, lease)
            return None
        guest = self.admit(machine, definition, datastore, lease.epoch)
        status = await machine.status()
        if status is MachineStatus.PRELAUNCH:
            await machine.cont()
        self.inventory.observe(
            Observation(
                vm=name,
                observed=VmState.RUNNING,
                host=self.host,
                epoch=lease.epoch,
                why="adopted",
                wanted="running",
            )
        )
        return guest

    def _tell_ended(self, name: str, lease: Lease | None) -> None:
        if lease is not None and lease.migration_id:  # the rest of a move that was over
            return
        self.events.emit(
            "vm.fenced",
            name,
            f"{self.host} ended its QEMU of {name}: its lease is held elsewhere",
            severity=Severity.WARNING,
            evidence={"lease": lease.model_dump() if lease else None},
        )

    async def _definition_of(self, machine: Machine, datastore: str) -> VmDefinition:
        raw = machine.tags.get("definition")
        if raw is not None:
            return VmDefinition.model_validate(raw)
        return await self.mounted(datastore).folders.read(machine.vm)

    async def _lease_when_readable(self, datastore: str, name: str) -> Lease | None:
        while True:
            try:
                return await self.mounted(datastore).leases.read(name)
            except ZugvogelError as error:
                log.warning("%s: lease not readable yet: %s", name, error)
                await self.clock.sleep(1.0)

    async def settle_leases(self) -> None:
        """Leases this host holds without a QEMU (it was rebooted, or QEMU died while no agent watched) are
        released and reported as failed, once."""
        for record in self.inventory.vms():
            name = record.definition.name
            if record.host != self.host or self.is_in_care(name) or record.observed is not VmState.RUNNING:
                continue
            try:
                await self.settle_one(record)
            except ZugvogelError as error:
                log.warning("%s: its lease is not settled yet: %s", name, error)

    async def settle_one(self, record: VmRecord) -> None:
        """A vm that has no QEMU here though the lease, or the registry, says it runs here."""
        name, datastore = record.definition.name, record.datastore
        lease = await self.mounted(datastore).leases.read(name)
        if lease is None or self.is_in_care(name):
            return
        if lease.holder is None:
            self._catch_up(record, lease)
        elif lease.holder.host == self.host and lease.heir:
            if self.settle_move is not None:
                await self.settle_move(datastore, lease)
        elif lease.holder.host == self.host:
            why = f"its QEMU on {self.host} is gone (host or QEMU ended while no agent watched)"
            at = self.clock.now_iso()
            released = lease_rules.release(lease, name, self.me, is_failure=True, why=why, at=at)
            await self.link_end(datastore, released)

    def _catch_up(self, record: VmRecord, lease: Lease) -> None:
        """The lease was released but the registry never heard of it: the agent died in between."""
        is_behind = record.host == self.host and record.observed is VmState.RUNNING
        if is_behind and lease.state is LeaseState.RELEASED and lease.epoch > record.epoch:
            self._tell_end(lease, {})

    def is_in_care(self, name: str) -> bool:
        """Something of the vm is here: its QEMU, or its start or end."""
        return (
            self._expected is None
            or name in self._expected
            or name in self.guests
            or name in self._starting
            or name in self._ending
        )

    async def link_end(self, datastore: str, released: Lease) -> None:
        """Link `released` and report the end of its vm; nothing if somebody else was first."""
        try:
            linked = await self.mounted(datastore).leases.claim(released)
        except LeaseTaken:
            return
        self._tell_end(linked, {})


def _why_ended(guest: Guest) -> str:
    how = guest.end_how
    if guest.busy == "killing":
        return "its power was cut by request"
    if guest.end_reason == "guest-shutdown":
        return "the guest powered itself off" if not guest.busy else "the guest powered off as asked"
    if guest.end_reason == "guest-panic":
        return "the guest panicked"
    return f"its QEMU ended: {how}" if how else "its QEMU ended"


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except TimeoutError:
        return
