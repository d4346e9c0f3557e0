"""The services of a host, put together over its ports. No decisions here.

The agent gives it adapters, the simulator a simulated world: what runs above the ports is the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

from zugvogel.bootstrap.ha import HaServices, HaWorld, has_fence
from zugvogel.core.checks import MEMORY_OVERHEAD_BYTES, free_memory_bytes
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.host import Host, HostFacts, HostReport, Ports, Role
from zugvogel.domain.vm import VmDefinition
from zugvogel.errors import NotFound, Refused, Unreachable
from zugvogel.ports.boot import Boot
from zugvogel.ports.clock import Clock
from zugvogel.ports.fence import Fences
from zugvogel.ports.guard import Guard
from zugvogel.ports.hypervisor import Hypervisor, Machine
from zugvogel.ports.network import HostNetwork
from zugvogel.ports.passwords import Passwords
from zugvogel.ports.peers import Handler, HeartbeatSender, Peers
from zugvogel.ports.pinger import Pinger
from zugvogel.ports.registry import Registry
from zugvogel.ports.storage import Datastores, MountedDatastore
from zugvogel.services.adoption import Adoption
from zugvogel.services.beats import BeatService
from zugvogel.services.cluster_view import ClusterView
from zugvogel.services.disk_stops import DiskStops
from zugvogel.services.events import EventLog
from zugvogel.services.heartbeats import HeartbeatService, Load
from zugvogel.services.inventory import Inventory
from zugvogel.services.local_vms import Guest, LocalVms
from zugvogel.services.membership import Membership
from zugvogel.services.migration.incoming import IncomingMigrations
from zugvogel.services.migration.records import MigrationRecords
from zugvogel.services.migration.recovery import MigrationRecovery
from zugvogel.services.migration.source import LiveMigrations
from zugvogel.services.namesakes import Namesakes
from zugvogel.services.operations.consoles import Consoles
from zugvogel.services.operations.ha import ha_settings
from zugvogel.services.operations.whole import Moves, Operations
from zugvogel.services.operations.world import World
from zugvogel.services.reporting import Reporting
from zugvogel.services.suspend.loading import ROLE as RESUMING
from zugvogel.services.suspend.loading import MemoryLoading
from zugvogel.services.suspend.orders import ResumeOrders
from zugvogel.services.suspend.pacing import Pacing
from zugvogel.services.suspend.quick import QuickMigrations
from zugvogel.services.suspend.records import SuspendRecords
from zugvogel.services.suspend.recovery import SuspendRecovery
from zugvogel.services.suspend.resuming import Resumer
from zugvogel.services.suspend.saving import Saver
from zugvogel.services.suspend.writing import MemoryWriting
from zugvogel.services.tasks import TaskBoard
from zugvogel.services.ticking import run_all_every, run_every

log = logging.getLogger(__name__)

GIB = 1024**3
OWN_REPORT_S = 10.0
SETTLE_S = 10.0
ADOPT_S = 15.0
ROLES_S = 2.0
EACH_S = 1.0


@dataclass(frozen=True, slots=True)
class HostPorts:
    """What a host's services need of the world. `hosts_known`: from an earlier run, used until the registry has
    answered. `on_hosts`: told when the list of hosts changes. `joined_at`: see `Namesakes`."""

    name: str
    boot: Boot
    joined_at: str
    clock: Clock
    registry: Registry
    hypervisor: Hypervisor
    network: HostNetwork
    datastores: Datastores
    peers: Peers
    heartbeat_sender: HeartbeatSender
    facts: Callable[[], Awaitable[HostFacts]]
    load: Callable[[], Load]
    failpoint: Callable[[str], Awaitable[None]]
    hosts_known: list[Host]
    on_hosts: Callable[[list[Host]], None]
    migration_address: str
    ports: Ports
    guard: Guard
    pinger: Pinger
    fences: Fences
    passwords: Passwords


class HostServices:
    """Everything a host has above its ports. `loops` run until cancelled; `take_operations` completes it."""

    def __init__(self, ports: HostPorts) -> None:
        self.ports = ports
        self.name, self.boot_id, self.clock = ports.name, ports.boot.id, ports.clock
        self.hypervisor, self.network, self.peers = ports.hypervisor, ports.network, ports.peers
        self.is_adopted = False
        self._mounted: dict[str, tuple[Datastore, MountedDatastore]] = {}
        self._primary_in: tuple[list[Host], bool] = [], False
        self._all: tuple[list[Datastore], list[MountedDatastore]] = [], []
        self._known_hosts = list(ports.hosts_known)
        self.inventory = Inventory(ports.registry, ports.clock, self._known_hosts)
        self.inventory.on_hosts = self._hosts_changed
        self.namesakes = Namesakes(self.name, ports.joined_at, self.inventory.hosts, self.clock)
        self._interval_s = partial(self.inventory.seconds, "das.failuredetectioninterval")
        self._detection_ms = partial(self.inventory.number, "das.failuredetectiontime")
        self.namesakes.is_alone = self._is_alone
        self.namesakes.on_speak = ports.boot.speaks
        self.namesakes.patience_s = partial(self.inventory.seconds, "das.failuredetectiontime")
        self._wire_status()
        self._wire_vms()
        self._wire_beats()
        self._wire_world()
        self.operations: Operations

    def _hosts_changed(self, hosts: list[Host]) -> None:
        if not hosts:
            return
        is_same, self._known_hosts = hosts == self._known_hosts, hosts  # the same objects are compared at a glance
        if not is_same:
            self.ports.on_hosts(hosts)
        self.namesakes.tell(self.events)

    def mounted(self, name: str) -> MountedDatastore:
        """The datastore `name` on this host; the same object while it is the same place, so that beats and
        deadlines go on when people choose something else for it."""
        datastore = self.inventory.datastore(name)
        before, mounted = self._mounted.get(name, (None, None))
        if before is datastore and mounted is not None:
            return mounted
        if mounted is None or mounted.datastore.place != datastore.place:
            mounted = self.ports.datastores.open(datastore)
        self._mounted[name] = datastore, mounted
        return mounted

    def all_mounted(self) -> list[MountedDatastore]:
        """For reading alone, as the inventory's lists are."""
        datastores = self.inventory.datastores()
        if datastores is not self._all[0]:
            self._all = datastores, [self.mounted(d.name) for d in datastores]
        return self._all[1]

    # status ----------------------------------------------------------------------------------------

    def _wire_status(self) -> None:
        self.tasks = TaskBoard(self.name, self.ports.registry, self.clock)
        self.events = EventLog(self.name, self.ports.registry, self.clock)
        self.vms = LocalVms(
            host=self.name,
            boot_id=self.boot_id,
            hypervisor=self.hypervisor,
            network=self.network,
            inventory=self.inventory,
            mounted=self.mounted,
            events=self.events,
            clock=self.clock,
        )
        self.vms.ends.namesakes = self.namesakes
        self.beats = BeatService(
            self.name,
            self.boot_id,
            self.clock,
            datastores=self.all_mounted,
            interval_s=self._interval_s,
            detection_time_ms=self._detection_ms,
            reads_always=self._is_primary,
        )
        self.beats.on_namesake = self._other_writes
        self.beats.is_known = lambda: self.ports.boot.has_spoken
        self.vms.ends.is_alone_on = self.beats.is_alone_on
        self.reporting = Reporting(
            self.name,
            self.boot_id,
            self.clock,
            facts=self.ports.facts,
            vms=self.vms.reports,
            datastores=self.all_mounted,
            usable=self.beats.usable,
            reserved=self._reserved,
            starting=lambda: tuple([d.name for d in self.vms.starting()]),
            is_ready=lambda: self.inventory.is_loaded.is_set() and self.is_adopted and self.beats.has_begun(),
        )
        self.heartbeats = HeartbeatService(
            self.name,
            self.boot_id,
            self.clock,
            hosts=self.inventory.hosts,
            sender=self.ports.heartbeat_sender,
            peers=self.peers,
            report=self.reporting.current,
            load=self.ports.load,
            beat_counters=self.beats.counters,
            interval_s=self._interval_s,
        )
        self.heartbeats.may_send = self.namesakes.may_speak
        self.view = ClusterView(
            self.name,
            self.clock,
            hosts=self.inventory.hosts,
            heartbeats=self.heartbeats,
            beats=self.beats,
            peers=self.peers,
            report=self.reporting.current,
            load=self.ports.load,
            detection_time_ms=self._detection_ms,
            active_primaries=lambda: self.ha.role.holders(),
            is_isolated=lambda: self.ha.isolation.is_isolated(),
            ha_settings=lambda: ha_settings(self.inventory),
        )

    def _wire_beats(self) -> None:
        """What they say is known by services that are put together over them."""
        guarding, beats = self.ha.guarding, self.beats
        beats.hears = self.heartbeats.hears
        beats.is_isolated = self.ha.isolation.is_isolated
        beats.may_write = self._may_write
        beats.on_good = beats.before_promise = guarding.tell
        beats.judge_round = self.ha.role.round_of
        beats.may_promise = guarding.may_promise

    def _may_write(self) -> tuple[bool, str]:
        why = self.namesakes.why()
        return (False, why) if why else self.ha.guarding.may_write()

    def _other_writes(self, datastore: str, boot_id: str) -> None:
        self.namesakes.other_writes(datastore, boot_id)
        self.namesakes.tell(self.events)

    def _is_alone(self) -> bool:
        """A restart of the agent waits for nothing."""
        return self.ports.boot.has_spoken or (self.inventory.is_loaded.is_set() and self.beats.is_alone())

    def _obeyed(self) -> list[MountedDatastore]:
        """Where orders to this host are looked for."""
        return self.all_mounted() if self.namesakes.may_speak() else []

    def _only_as_itself(self, handler: Handler) -> Handler:
        async def answer(payload: dict[str, Any]) -> dict[str, Any]:
            self.namesakes.require()
            return await handler(payload)

        return answer

    def _is_primary(self) -> bool:
        hosts = self.inventory.hosts()
        if hosts is not self._primary_in[0]:
            self._primary_in = hosts, any(h.name == self.name and h.role is Role.PRIMARY for h in hosts)
        return self._primary_in[1]

    # vms -------------------------------------------------------------------------------------------

    def _wire_vms(self) -> None:
        self.vms.reserve = self._refuse_without_room
        self.vms.room_known = self._own_report
        records = MigrationRecords(self.mounted)
        self.incoming = IncomingMigrations(
            vms=self.vms,
            hypervisor=self.hypervisor,
            clock=self.clock,
            records=records,
            address=self.ports.migration_address,
            first_port=self.ports.ports.migration_first,
            failpoint=self.ports.failpoint,
            tell_now=self.heartbeats.tick,
        )
        self.live = LiveMigrations(
            vms=self.vms, peers=self.peers, clock=self.clock, records=records, failpoint=self.ports.failpoint
        )
        self.recovery = MigrationRecovery(
            vms=self.vms, live=self.live, peers=self.peers, records=records, tasks=self.tasks
        )
        self._wire_suspends()
        self._wire_ha()
        self.adoption = Adoption(self.vms, self.recovery, self.suspend_recovery, self.ha.thawing)
        self.beats.on_alone = self.adoption.known_alone
        self.disk_stops = DiskStops(self.vms, self.beats.usable)

    def _wire_suspends(self) -> None:
        records = SuspendRecords(self.mounted)
        pacing = Pacing(self.beats.latency_s, lambda: self._detection_ms() / 1000)
        writing = MemoryWriting(self.vms, self.ports.facts, pacing, self.ports.failpoint)
        self.saver = Saver(self.vms, records, writing, pacing, self.ports.failpoint)
        loading = MemoryLoading(self.vms, self.hypervisor, self.ports.facts, self.ports.failpoint)
        self.resumer = Resumer(self.vms, loading, self.ports.failpoint, self.heartbeats.tick)
        self.quick = QuickMigrations(self.vms, self.peers, self.saver, self.resumer, records)
        self.resume_orders = ResumeOrders(
            self.vms, loading, self.resumer, self._obeyed, self.beats.is_silent, self.ports.failpoint
        )
        self.suspend_recovery = SuspendRecovery(
            self.vms, self.saver, self.resumer, self.quick, records, self.tasks
        )

    def _wire_ha(self) -> None:
        async def call(
            host: str, command: str, payload: dict[str, Any], *, timeout_s: float = 15.0
        ) -> dict[str, Any]:
            return await self.world.on(host, command, payload, timeout_s=timeout_s)

        self.ha = HaServices(
            HaWorld(
                name=self.name,
                boot_id=self.boot_id,
                clock=self.clock,
                guard=self.ports.guard,
                pinger=self.ports.pinger,
                fences=self.ports.fences,
                failpoint=self.ports.failpoint,
                inventory=self.inventory,
                tasks=self.tasks,
                events=self.events,
                beats=self.beats,
                heartbeats=self.heartbeats,
                view=self.view,
                vms=self.vms,
                quick=self.quick,
                resumer=self.resumer,
                stores=self.all_mounted,
                obeyed=self._obeyed,
                call=call,
                interval_s=self._interval_s,
                detection_time_ms=self._detection_ms,
            )
        )

    def _reserved(self, but: str = "") -> tuple[int, int]:
        """(bytes, cpus) of vms that are on their way here, or are being started, all `but` this one."""
        memory, cpus = self.incoming.reserved(but)
        more_memory, more_cpus = self.resume_orders.reserved(but)
        memory, cpus = memory + more_memory, cpus + more_cpus
        for begun in self.vms.starting():
            if begun.name != but:
                memory, cpus = memory + begun.memory_bytes + MEMORY_OVERHEAD_BYTES, cpus + begun.cpus
        return memory, cpus

    def _refuse_without_room(self, definition: VmDefinition) -> None:
        self.namesakes.refuse()
        report = self.reporting.current()
        if report is None:
            raise Unreachable(f"{self.name} does not know its own resources yet", "try again")
        need = definition.memory_bytes + MEMORY_OVERHEAD_BYTES
        held_for_it = self._reserved()[0] - self._reserved(but=definition.name)[0]
        free = free_memory_bytes(report) + held_for_it
        if need > free:
            raise Refused(
                f"{definition.name} needs {need / GIB:.2f} GiB of memory, {self.name} has "
                f"{max(0, free) / GIB:.2f} left",
                "choose another host or move a vm away from it",
            )

    async def _own_report(self) -> HostReport:
        """Known at the latest some seconds after the start."""
        deadline = self.clock.monotonic() + OWN_REPORT_S
        while True:
            report = self.reporting.current()
            if report is not None:
                return report
            if self.clock.monotonic() > deadline:
                raise Unreachable(f"{self.name} does not know its own resources yet", "try again")
            await self.clock.sleep(0.1)

    # operations ------------------------------------------------------------------------------------

    def _wire_world(self) -> None:
        self.world = World(
            me=self.name,
            registry=self.ports.registry,
            inventory=self.inventory,
            tasks=self.tasks,
            events=self.events,
            peers=self.peers,
            clock=self.clock,
            vms=self.vms,
            datastores=self.ports.datastores,
            mounted=self.mounted,
            statuses=self.view.statuses,
            shows_no_life=self.beats.shows_no_life,
        )
        for part in (self.heartbeats, self.view, self.incoming, self.resume_orders, self.ha, self.adoption):
            handlers = {name: self._only_as_itself(handler) for name, handler in part.handlers().items()}
            self.world.handlers.update(handlers)

    def take_operations(self, membership: Membership, consoles: Consoles) -> None:
        moves = Moves(self.live, self.quick, self.saver, self.resumer)
        knowledge = self.ha.knowledge(has_fence(self.inventory.hosts))
        self.operations = Operations(
            self.world, membership, moves, consoles, knowledge, self.ha.fencing, self.ports.passwords
        )
        self.world.handlers.update(membership.handlers())

    # running ---------------------------------------------------------------------------------------

    async def adopt(self) -> list[Coroutine[Any, Any, None]]:
        """Find the QEMU processes that outlived an earlier agent; those that wait for a vm's memory are sessions
        again on return. Returns what is left to do, one for each vm: take it into care and go on with its move.
        Needs the inventory (from the registry, or from a stale local read)."""
        machines = await self.hypervisor.adopt()
        for machine in machines:
            if machine.tags.get("role") == "incoming":
                await self.incoming.take_over(machine)
        self.incoming.is_ready.set()
        mine = [m for m in machines if m.tags.get("role") != "incoming"]
        self.vms.expect([*(m.vm for m in mine), *self.hypervisor.left()])
        await self.inventory.is_loaded.wait()
        return [self.adoption.tidy(), *(self._take_over(m) for m in mine)]

    async def adopt_late(self) -> None:
        """QEMUs that did not answer when this agent started."""
        if not self.hypervisor.left():
            return
        for machine in await self.hypervisor.adopt():
            if machine.tags.get("role") == "incoming":
                self.vms.expected_no_more(machine.vm)  # no await before it is a session
                await self.incoming.take_over(machine)
            else:
                await self._take_over(machine)

    async def _take_over(self, machine: Machine) -> None:
        """One vm; a datastore that does not answer holds up only its own."""
        try:
            guest = await self._take_into_care(machine)
        except NotFound as error:
            log.error("%s: its QEMU runs here but the cluster does not know it: %s", machine.vm, error)
            return
        if guest is not None:
            await self.suspend_recovery.look_at(guest)
            await self.recovery.look_at(guest)
        else:
            await self.adoption.tidy_late(self.inventory.vm(machine.vm))

    async def _take_into_care(self, machine: Machine) -> Guest | None:
        if machine.tags.get("role") != RESUMING:
            return await self.adoption.take_over(machine)
        try:
            return await self.suspend_recovery.take_over(machine)
        finally:
            self.vms.expected_no_more(machine.vm)

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        return [
            self.inventory.run(),
            self.ha.watching(),
            self.reporting.run(),
            self.tasks.run(),
            self.events.run(),
            self._looking_after_vms(),
        ]

    async def _looking_after_vms(self) -> None:
        try:
            await self._look_after_vms()
        finally:
            await self.adoption.looks.stop()

    async def _look_after_vms(self) -> None:
        """Adopt first; then the rounds that look after incoming vms and leases. A vm whose datastore does not
        answer is taken over when it does; the others do not wait for it."""

        async def settle() -> None:
            await self.adopt_late()
            self.adoption.settle_leases()
            self.hypervisor.bound_logs()

        async with asyncio.TaskGroup() as group:
            adopting = [group.create_task(work) for work in await self.adopt()]
            if adopting:
                await asyncio.wait(adopting, timeout=ADOPT_S)
            self.is_adopted = True
            self.tasks.adopted()
            group.create_task(self.ha.judging())
            group.create_task(self._each_second())
            group.create_task(run_every(self.clock, lambda: ROLES_S, self.operations.roles.tick, "roles"))
            group.create_task(run_every(self.clock, lambda: SETTLE_S, settle, "leases"))

    async def _each_second(self) -> None:
        """Orders of others are looked for so often; at once when one is told of by RPC."""
        ticks = {
            **self.ha.each_second(),
            "incoming vms": self.incoming.tick,
            "orders to resume": self.resume_orders.tick,
            "vms that stand still": self.disk_stops.begin,
        }
        try:
            await run_all_every(self.clock, lambda: EACH_S, ticks)
        finally:
            await self.ha.stop_each_second()
            for service in (self.incoming, self.resume_orders, self.disk_stops):
                await service.looks.stop()
