"""The vms of this host: start, stop, watch, settle. One QEMU each, its lease held while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from zugvogel.core import lease_rules
from zugvogel.domain.host import VmReport
from zugvogel.domain.lease import Holder, Lease, LeaseState
from zugvogel.domain.network import Network
from zugvogel.domain.vm import VmDefinition, VmState
from zugvogel.errors import ImageLocked, NotFound, ProcedureFailed, Refused, Unreachable, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.hypervisor import Hypervisor, Machine, MachineEvent, MachineSpec, NicSpec
from zugvogel.ports.network import HostNetwork
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.events import EventLog
from zugvogel.services.inventory import Inventory, Observation
from zugvogel.services.vm_ends import VmEnds

log = logging.getLogger(__name__)

T = TypeVar("T")

MIGRATING = "migrating"
SAVING = "being suspended"
LOOKING = "being looked at after a restart of the agent"
OPENING = "having its images opened anew"
UNLOCK_S = 5.0
SETTLE_S = 10.0
ORDERLY_ENDS = {"guest-shutdown", "host-qmp-quit"}
"""Reasons of QEMU's SHUTDOWN event that somebody wanted; anything else is a failure."""


@dataclass(slots=True)
class Guest:
    """A vm whose QEMU is on this host and whose lease this host holds at `epoch`.

    `busy`: what is being done with it ("migrating", "stopping"), empty when free.
    `frozen_why`: QEMU stopped it because a disk failed, or its process was frozen; empty while it runs.
    `is_handed_over`: its lease went to another host; its end is nobody's failure.
    `failure_why`: it is being ended so that it is started elsewhere, and this is why; empty: nobody does.
    `is_own_failure`: it is being ended because it cannot go on by itself.
    `awaits_heir`: it stands still for good, handed over to the target of its move, which does not answer.
    """

    machine: Machine
    definition: VmDefinition
    datastore: str
    epoch: int
    busy: str = ""
    is_paused: bool = False
    frozen_why: str = ""
    is_handed_over: bool = False
    failure_why: str = ""
    is_own_failure: bool = False
    awaits_heir: bool = False
    end_reason: str = ""
    end_how: str = ""
    report: tuple[object, VmReport] | None = None
    """The last one, and what it was made of."""
    watcher: asyncio.Task[None] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.definition.name

    @property
    def is_in_move(self) -> bool:
        """A move decides what the end of its QEMU means."""
        return self.busy in {MIGRATING, SAVING, LOOKING}


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
        self.ends = VmEnds(self.me, inventory, mounted, events, clock)
        self.guests: dict[str, Guest] = {}
        self.reserve: Callable[[VmDefinition], None] = lambda definition: None
        """Raises Refused when this host has no room; set by the admission of the agent."""
        self.room_known: Callable[[], Awaitable[object]] = _at_once
        """Returns when `reserve` can tell: an agent that has just started must know its vms first."""
        self.unclaimed: dict[str, tuple[Machine, str]] = {}
        """Machines whose vCPUs may run here though they are no guests yet, with their datastores: an heir that was
        given the word, a QEMU that outlived an earlier agent."""
        self.on_admitted: Callable[[], None] = lambda: None
        """Called when a machine has come into `guests` or `unclaimed`, before its vCPUs are let go."""
        self.may_run: Callable[[str, float], bool] = lambda datastore, since: True
        """Asked after `on_admitted` and right before `cont`: whether nobody can have taken a vm on `datastore`,
        whose claim by this host began at `since`, for one of a dead host. Set by high availability."""
        self.on_event: Callable[[Guest, MachineEvent], None] = lambda guest, event: None
        """Told of what QEMU says of a guest, but for its stops and its end."""
        self._expected: set[str] | None = None
        """Vms whose QEMU outlived an earlier agent and is not in care yet; None: not known yet."""
        self._starting: dict[str, VmDefinition | None] = {}
        """Vms that are being started here; with their definition from when there was room for them."""
        self._agreed: dict[str, VmDefinition] = {}
        """Vms whose start here was agreed to and has not come to the point where it takes its room."""
        self._ending: set[str] = set()
        self._reports: tuple[list[tuple[object, ...]], tuple[VmReport, ...]] = [], ()
        """What the last ones were made of, and they."""

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

    async def settled_guest(self, name: str) -> Guest:
        """As `free_guest`, for a request that may come just after this agent's start."""
        await self.looked_at(name)
        return self.free_guest(name)

    async def known_guest(self, name: str) -> Guest:
        """As `guest`, for a request that may come just after this agent's start."""
        await self.looked_at(name)
        return self.guest(name)

    async def looked_at(self, name: str) -> None:
        """Returns when it is known whether the vm is here, which an agent that has just started must find out
        first. Raises Unreachable when that takes longer than SETTLE_S (its datastore does not answer)."""
        deadline = self.clock.monotonic() + SETTLE_S
        while self._expected is None or name in self._expected or self._is_looked_at(name):
            if self.clock.monotonic() > deadline:
                raise Unreachable(
                    f"the agent of {self.host} has just started and still looks at what it has of {name}",
                    "try again; if it stays so, see: zv datastore list",
                )
            await self.clock.sleep(0.05)

    def _is_looked_at(self, name: str) -> bool:
        return name in self.guests and self.guests[name].busy == LOOKING

    def reports(self) -> tuple[VmReport, ...]:
        """The same object while nothing has changed: it is asked for several times a second."""
        made_of: list[tuple[object, ...]] = [
            (g.machine, g.frozen_why, g.epoch, g.busy, g.awaits_heir, g.definition.nics and self._addresses(g))
            for g in self.guests.values()
        ]
        if made_of != self._reports[0]:
            self._reports = made_of, tuple([self._report(g) for g in self.guests.values()])
        return self._reports[1]

    def _addresses(self, guest: Guest) -> tuple[str, ...]:
        return tuple([a for n in guest.definition.nics for a in self.network.learned_addresses(n.mac)])

    def _report(self, guest: Guest) -> VmReport:
        """The same object while nothing that it tells has changed."""
        d, addresses = guest.definition, self._addresses(guest)
        is_migrating = guest.busy in {MIGRATING, SAVING}
        made_of = (guest.frozen_why, guest.epoch, addresses, is_migrating, guest.awaits_heir)
        if guest.report is None or guest.report[0] != made_of:
            report = VmReport(
                name=d.name,
                state=VmState.FROZEN if guest.frozen_why else VmState.RUNNING,
                why=guest.frozen_why,
                epoch=guest.epoch,
                memory_bytes=d.memory_bytes,
                cpus=d.cpus,
                macs=tuple(n.mac for n in d.nics),
                addresses=addresses,
                is_migrating=is_migrating,
                awaits_heir=guest.awaits_heir,
                cpu_model=d.cpu_model,
                uuid=d.uuid,
            )
            guest.report = (made_of, report)
        return guest.report[1]

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

    async def start(self, name: str, judged_epoch: int | None = None) -> Guest:
        """Claim the lease, spawn, run. On any failure the lease is released and nothing is left. `judged_epoch`:
        only if the lease is still at that epoch."""
        if self._expected is None or name in self._expected:
            raise Unreachable(f"the agent of {self.host} has just started and looks at its vms", "try again")
        if name in self.guests or name in self._starting:
            raise Refused(f"{name} is running on {self.host} already", f"see: zv vm show {name}")
        if name in self._ending:
            raise Refused(f"{name} has just ended on {self.host}; its lease is being released", "try again")
        self._starting[name] = None
        try:
            record = self.inventory.vm(name)
            store = self.mounted(record.datastore)
            definition = await store.folders.read(name)
            await self.room_known()
            self.take_room(definition)
            since = self.clock.monotonic()
            lease = await self._claim_start(store, name, judged_epoch)
            return await self._spawn(definition, record.datastore, lease, since)
        finally:
            del self._starting[name]

    @contextlib.contextmanager
    def being_started(self, name: str) -> Iterator[None]:
        """While a vm is brought to run here by other means than `start`: it is in care. Refused when it is."""
        if self.is_in_care(name):
            raise Refused(f"{self.host} still has something of {name}", f"see: zv vm show {name}")
        self._starting[name] = None
        try:
            yield
        finally:
            del self._starting[name]

    def take_room(self, definition: VmDefinition) -> None:
        """Refused when this host has no room for the vm. One that is being started has its room from here on: it
        counts for those that come at the same time."""
        self.reserve(definition)
        if definition.name in self._starting:
            self._starting[definition.name] = definition

    def hold_room(self, definition: VmDefinition) -> None:
        """Refused when this host has no room for the vm; else it has its room before its start begins, until
        `give_room_back`."""
        self.reserve(definition)
        self._agreed[definition.name] = definition

    def give_room_back(self, name: str) -> None:
        """Its start is over, or did not come to be."""
        self._agreed.pop(name, None)

    def starting(self) -> list[VmDefinition]:
        """Vms that have room here and are no guests yet."""
        if not self._agreed and not self._starting:
            return []
        begun = self._agreed | {name: d for name, d in self._starting.items() if d is not None}
        return [d for name, d in begun.items() if name not in self.guests]

    async def _claim_start(self, store: MountedDatastore, name: str, judged_epoch: int | None) -> Lease:
        current = await store.leases.read(name)
        self.ends.refuse_other_boot(current, store.datastore.name)
        claim = lease_rules.start(
            current,
            name,
            self.me,
            has_qemu=name in self.guests,
            judged_epoch=judged_epoch,
            why="started" if judged_epoch is None else "started again by high availability",
            at=self.clock.now_iso(),
        )
        return await store.leases.claim(claim)

    async def _spawn(self, definition: VmDefinition, datastore: str, lease: Lease, since: float) -> Guest:
        store = self.mounted(datastore)
        name = definition.name
        machine: Machine | None = None
        try:
            now = await store.folders.read(name)  # it may have been changed before the lease was ours
            if now != definition:
                definition = now
                self.take_room(definition)
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
            machine = await self._spawn_unlocked(spec)
            guest = self.admit(machine, definition, datastore, lease.epoch)
            if not self.may_run(datastore, since):
                raise ProcedureFailed(
                    f"the beats of {self.host} on {datastore} failed while it was being started, and others may "
                    "have counted the host as dead",
                    "try again",
                )
            await machine.cont()
        except BaseException as error:
            guest_or_none = self.guests.pop(name, None)
            if guest_or_none is not None:
                guest_or_none.is_handed_over = True
            if machine is not None:
                await machine.kill()
            await self.ends.release(store, name, True, f"start failed: {error}")
            raise
        self.inventory.observe(
            Observation(
                vm=name,
                observed=VmState.RUNNING,
                host=self.host,
                epoch=lease.epoch,
                why="started",
                wanted="running",
                definition=definition if definition != self.inventory.vm(name).definition else None,
            )
        )
        self.events.emit("vm.started", name, f"{name} started on {self.host}", evidence={"epoch": lease.epoch})
        return guest

    async def _spawn_unlocked(self, spec: MachineSpec) -> Machine:
        """A QEMU that ended a moment ago, here or elsewhere, may still hold its images' locks."""
        try:
            return await once_unlocked(self.clock, lambda: self.hypervisor.spawn(spec), 0.25)
        except ProcedureFailed as error:
            if not is_locked(error):
                raise
            raise ImageLocked(
                f"a disk of {spec.definition.name} is locked by another process, here or elsewhere, "
                "though nobody holds the vm",
                "find who has it open (qemu-img, qemu-nbd?); on NFS a dead client's lock stays a while",
            ) from error

    def admit(self, machine: Machine, definition: VmDefinition, datastore: str, epoch: int) -> Guest:
        """Take a machine whose lease this host holds into care; its events are watched from here on."""
        guest = Guest(machine=machine, definition=definition, datastore=datastore, epoch=epoch)
        self.guests[definition.name] = guest
        self.unclaimed.pop(definition.name, None)
        self.on_admitted()
        guest.watcher = asyncio.create_task(self._watch(guest), name=f"watch {definition.name}")
        return guest

    def run_unclaimed(self, machine: Machine, datastore: str) -> None:
        """Its vCPUs may run from here on though this host's claim is not linked, or not read, yet."""
        self.unclaimed[machine.vm] = (machine, datastore)
        self.on_admitted()

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
            else:
                self.on_event(guest, event)

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
        is_wanted = guest.end_reason in ORDERLY_ENDS or guest.busy in {"stopping", "killing"}
        is_failure = bool(died_of or guest.failure_why) or not is_wanted
        why = died_of or guest.failure_why or _why_ended(guest)
        self._ending.add(guest.name)
        try:
            lease = await self.ends.release_until_done(
                guest.datastore,
                guest.name,
                is_failure,
                why,
                is_heir_excluded=bool(died_of),
                is_own_failure=guest.is_own_failure or not (died_of or guest.failure_why),
            )
        finally:
            self._ending.discard(guest.name)
        if lease is not None and lease.state is LeaseState.RELEASED:
            self.ends.tell(lease, {"process": guest.end_how, "shutdown_reason": guest.end_reason})

    # ending ----------------------------------------------------------------------------------

    async def stop(self, name: str, timeout_s: float, cancelled: asyncio.Event, *, failure_why: str = "") -> None:
        """ACPI power button, pressed again every 5 s; ProcedureFailed when the guest does not follow.
        `failure_why`: its lease is released for it to be started elsewhere; an end that comes later counts so
        too, until `Guest.failure_why` is cleared."""
        guest = self.free_guest(name)
        guest.busy, guest.failure_why = "stopping", failure_why
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

    async def kill(self, name: str, *, failure_why: str = "") -> None:
        """`failure_why` as for `stop`."""
        guest = self.guest(name)
        if guest.busy != OPENING:  # that may take long, and is of no use any more
            guest = self.free_guest(name)
        guest.busy, guest.failure_why = "killing", failure_why
        await guest.machine.kill()
        await _wait(guest.ended, 5.0)
        await self._until_settled(guest)
        if name in self._ending:
            raise ProcedureFailed(
                f"the power of {name} was cut, but its lease is not released yet: its datastore does not answer",
                f"it is released as soon as that answers; see: zv vm show {name}",
            )

    async def fail(self, name: str, why: str) -> None:
        """Cut the power of a vm that cannot go on by itself, as if its QEMU had ended: it is a failure of its
        own."""
        self.free_guest(name).is_own_failure = True
        await self.kill(name, failure_why=why)

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

    # whose care it is in ---------------------------------------------------------------------------

    def expect(self, names: Iterable[str]) -> None:
        """These have a QEMU here that is not in care yet; nothing is started before this is known."""
        self._expected = set(names)

    def expected_no_more(self, name: str) -> None:
        self.unclaimed.pop(name, None)
        if self._expected is not None:
            self._expected.discard(name)

    def not_in_care(self) -> frozenset[str] | None:
        """Vms whose QEMU outlived an earlier agent and is not in care yet. None: not known yet."""
        return frozenset(self._expected) if self._expected is not None else None

    def left_unread(self, name: str) -> tuple[Machine, str] | None:
        """The QEMU of a vm, with its datastore, that outlived an earlier agent and whose lease is not read yet."""
        return self.unclaimed.get(name) if self._expected is not None and name in self._expected else None

    def is_in_care(self, name: str) -> bool:
        """Something of the vm is here: its QEMU, or its start or end."""
        return name in self._ending or self.may_have_process(name)

    def may_have_process(self, name: str) -> bool:
        """As `is_in_care`, but for one that has ended and only waits for its lease to be released."""
        return (
            self._expected is None
            or name in self._expected
            or name in self.guests
            or name in self._starting
            or self._may_run_unclaimed(name)
        )

    def _may_run_unclaimed(self, name: str) -> bool:
        found = self.unclaimed.get(name)
        return found is not None and found[0].is_alive


async def once_unlocked(
    clock: Clock, attempt: Callable[[], Awaitable[T]], every_s: float, patience_s: float = UNLOCK_S
) -> T:
    """Tried again while QEMU cannot lock an image; after `patience_s` its refusal is raised."""
    deadline = clock.monotonic() + patience_s
    while True:
        try:
            return await attempt()
        except ProcedureFailed as error:
            if not is_locked(error) or clock.monotonic() > deadline:
                raise
            await clock.sleep(every_s)


def is_locked(error: ProcedureFailed) -> bool:
    """QEMU could not lock an image."""
    return " lock" in error.cause and "Failed to get" in error.cause


async def _at_once() -> None:
    """Until the agent sets its own rule."""


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
