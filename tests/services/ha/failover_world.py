"""Several hosts' failover over one datastore in memory, on a clock that only the test moves.

Leases are linked by their real rules, vms are started by the real `LocalVms` and `Resumer`; QEMU, network and
storage are small fakes. Each host's inventory is its own and nothing is passed on between them, as when etcd has
no majority. Whenever a vCPU is let go the world looks whether the vm runs anywhere else.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from tests.core.facts import GIB, cpu, definition
from tests.fakes.registry import MemoryRegistry
from zugvogel.domain.base import Model
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.ha import Proof, StartOrder
from zugvogel.domain.host import DatastoreReport, Host, HostFacts, HostReport, HostStatus, Role, Verdict
from zugvogel.domain.lease import Lease, LeaseState
from zugvogel.domain.memory import Manifest, MemoryFormat
from zugvogel.domain.task import Event
from zugvogel.domain.vm import Disk, VmDefinition, VmRecord, VmState
from zugvogel.errors import LeaseTaken, ProcedureFailed, Unreachable
from zugvogel.ports.hypervisor import MachineEvent, MachineSpec, MachineStatus
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.adoption import Adoption
from zugvogel.services.events import EventLog
from zugvogel.services.ha.failover import Failover
from zugvogel.services.ha.fencing import Fencing
from zugvogel.services.ha.starting import StartOrders
from zugvogel.services.inventory import Inventory
from zugvogel.services.local_vms import Guest, LocalVms
from zugvogel.services.migration.incoming import IncomingMigrations
from zugvogel.services.suspend.resuming import Resumer

T = TypeVar("T")
DS = "nfs1"
TURNS = 60
"""Of the loop, after which everything that can go on has gone on: no fake waits for anything but the clock."""


class WorldClock:
    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._number = 0

    def monotonic(self) -> float:
        return self.now

    def now_iso(self) -> str:
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now - 1000.0)
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    async def sleep(self, seconds: float) -> None:
        self._number += 1
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, self._number, woken))
        await woken

    async def pass_to(self, end: float) -> None:
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, woken = heapq.heappop(self._sleepers)
            self.now = max(self.now, at)
            if not woken.done():
                woken.set_result(None)
            await turns()
        self.now = end


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


class Machine:
    def __init__(self, node: Node, spec: MachineSpec) -> None:
        self._node = node
        self.vm, self.tags = spec.definition.name, dict(spec.tags)
        self.pid, self.serial_socket, self.display_socket, self.tap_names = 1, Path("/x"), None, ()
        self.is_alive, self.is_frozen, self.runs = True, False, False
        self.obeys_power_button = True
        self._queue: asyncio.Queue[MachineEvent | None] = asyncio.Queue()

    async def events(self) -> AsyncIterator[MachineEvent]:
        while (event := await self._queue.get()) is not None:
            yield event

    async def cont(self) -> None:
        await self._node.alive()
        if self.tags.get("memory_id") and self.vm in self._node.world.locks:
            raise ProcedureFailed('Failed to get "write" lock')
        self._node.world.refuse_twice(self)
        self.runs = True

    async def status(self) -> MachineStatus:
        return MachineStatus.RUNNING if self.runs else MachineStatus.PRELAUNCH

    async def set_tags(self, **tags: Any) -> None:
        self.tags.update(tags)

    async def announce(self) -> None: ...
    async def set_guest_clock(self) -> None: ...

    async def powerdown(self) -> None:
        if self.obeys_power_button:
            self.end("guest-shutdown")

    async def kill(self) -> None:
        self.end()

    async def quit(self) -> None:
        self.end("host-qmp-quit")

    def end(self, reason: str = "") -> None:
        if self.is_alive:
            self.is_alive = self.runs = False
            if reason:
                self._queue.put_nowait(MachineEvent("SHUTDOWN", {"reason": reason}, 0.0))
            self._queue.put_nowait(MachineEvent("EXITED", {"returncode": -9, "why": "killed by signal 9"}, 0.0))
            self._queue.put_nowait(None)


class Files:
    """What lies on the datastore."""

    def __init__(self) -> None:
        self.leases: dict[str, list[Lease]] = {}
        self.notes: dict[tuple[str, str], bytes] = {}
        self.orders: dict[str, dict[tuple[str, str], bytes]] = {}
        self.definitions: dict[str, VmDefinition] = {}
        self.discarded: set[str] = set()


class View:
    """One host's way to the datastore. Every call is a step at which the host may be cut; of a dead one none
    returns."""

    def __init__(self, node: Node, datastore: Datastore) -> None:
        self._node, self.datastore = node, datastore
        self.leases = self.role_leases = SimpleNamespace(read=self._read_lease, claim=self._claim)
        self.folders = SimpleNamespace(
            read=self._read,
            path=lambda vm: Path("/srv") / vm,
            read_note=self._read_note,
            write_note=self._write_note,
            may_be_written=self._may_be_written,
        )
        self.memory = SimpleNamespace(
            read=self._manifest, verify=self._nothing, discard=self._discard, ids=self._memory_ids
        )
        self.start_orders, self.isolation_orders, self.orders = (
            Orders(node, kind) for kind in ("start", "isolation", "resume")
        )

    @property
    def _files(self) -> Files:
        return self._node.world.files

    async def _read_lease(self, vm: str) -> Lease | None:
        chain = self._files.leases.get(vm, [])
        return await self._node.step("read lease", lambda: chain[-1] if chain else None, is_write=False)

    async def _claim(self, lease: Lease) -> Lease:
        def link() -> Lease:
            chain = self._files.leases.setdefault(lease.vm, [])
            highest = chain[-1].epoch if chain else 0
            if lease.epoch != highest + 1:
                if chain and chain[-1] == lease:
                    return lease
                raise LeaseTaken(f"epoch {lease.epoch} of {lease.vm} is taken", epoch=highest)
            chain.append(lease)
            return lease

        return await self._node.step(f"claim {lease.epoch} {lease.state}", link)

    async def _read(self, vm: str) -> VmDefinition:
        return await self._node.step("read definition", lambda: self._files.definitions[vm], is_write=False)

    async def _read_note(self, vm: str, name: str) -> bytes | None:
        return await self._node.step("read note", lambda: self._files.notes.get((vm, name)), is_write=False)

    async def _write_note(self, vm: str, name: str, data: bytes) -> None:
        await self._node.step("write note", lambda: self._files.notes.__setitem__((vm, name), data))

    async def _may_be_written(self, vm: str, _file: str) -> bool:
        if self._node.world.lock_failure is not None:
            raise self._node.world.lock_failure
        return await self._node.step("look at lock", lambda: vm in self._node.world.locks, is_write=False)

    async def _manifest(self, vm: str, memory_id: str) -> Manifest:
        return Manifest(
            id=memory_id, vm=vm, host="h9", epoch=1, format=MemoryFormat.STREAM, cpu=cpu(), accelerator="tcg",
            definition=self._files.definitions[vm], qemu_version="10.0.2",
        )  # fmt: skip

    async def _memory_ids(self, vm: str) -> list[str]:
        await self._node.alive()
        saved = {lease.memory_id for lease in self._files.leases[vm] if lease.memory_id}
        return [] if vm in self._files.discarded else sorted(saved)

    async def _discard(self, vm: str, _memory_id: str) -> None:
        await self._node.step("discard memory", lambda: self._files.discarded.add(vm))

    async def _nothing(self, *_: Any) -> None:
        await self._node.alive()


class Orders:
    def __init__(self, node: Node, kind: str) -> None:
        self._node, self._kind = node, kind

    @property
    def _files(self) -> dict[tuple[str, str], bytes]:
        return self._node.world.files.orders.setdefault(self._kind, {})

    @property
    def _answers(self) -> dict[tuple[str, str], bytes]:
        return self._node.world.files.orders.setdefault(f"{self._kind}-answer", {})

    async def give(self, host: str, vm: str, order: bytes) -> None:
        await self._node.step(f"give {self._kind}", lambda: self._files.__setitem__((host, vm), order))

    async def withdraw(self, host: str, vm: str) -> None:
        await self._node.step("withdraw", lambda: self._answers.pop((host, vm), None))

    async def take_back(self, host: str, vm: str) -> None:
        await self._node.step("take back", lambda: [f.pop((host, vm), None) for f in (self._files, self._answers)])

    async def given(self, host: str) -> dict[str, bytes]:
        return await self._node.step(
            "look", lambda: {vm: raw for (at, vm), raw in self._files.items() if at == host}, is_write=False
        )

    async def answer(self, host: str, vm: str, answer: bytes) -> None:
        await self._node.step("answer", lambda: self._answers.__setitem__((host, vm), answer))

    async def answer_of(self, host: str, vm: str) -> bytes | None:
        return await self._node.step("read answer", lambda: self._answers.get((host, vm)), is_write=False)


class Loading:
    """`services.suspend.loading.MemoryLoading`, without memory."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def refuse_unfit(self, _manifest: Manifest) -> None: ...

    async def spawn(self, made: VmDefinition, datastore: str, memory_id: str, _used: int) -> Machine:
        tags = {"role": "resuming", "memory_id": memory_id}
        return await self._node.spawn(MachineSpec(made, Path("/srv"), (), tags=tags))

    async def load(self, machine: Machine, *_: Any) -> None:
        if self._node.load_failure:
            raise ProcedureFailed(self._node.load_failure)


class Node:
    """One host. `cut_at`: it loses its power before, or after, so many writes and calls from now on."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.name, self.number = world, f"h{number}", number
        self.is_dead, self.is_ordered = False, True
        self.start_failure = self.load_failure = ""
        self.gib = 16.0
        self.steps: list[str] = []
        self.ran: list[tuple[StartOrder, float]] = []
        """What ran here by an order, and how long after that was taken up."""
        self.cut_at: tuple[int, str] | None = None
        self.machines: list[Machine] = []
        self.reports: HostReport | None = None
        self.inventory = Inventory(MemoryRegistry(), world.clock, [])
        self.events = EventLog(self.name, MemoryRegistry(), world.clock)
        self.view = View(self, world.datastore)
        hypervisor = SimpleNamespace(spawn=self.spawn)
        network = SimpleNamespace(learned_addresses=lambda _mac: ())
        self.vms = LocalVms(
            host=self.name, boot_id="1", hypervisor=cast(Any, hypervisor), network=cast(Any, network),
            inventory=self.inventory, mounted=self.mounted, events=self.events, clock=world.clock,
        )  # fmt: skip
        self.vms.expect([])
        resumer = Resumer(self.vms, cast(Any, Loading(self)), _no_failpoint, self._tell)
        self.starting = StartOrders(
            self.vms, resumer, self.stores, is_enabled=lambda: self.is_ordered,
            usable=lambda _store: (self.name not in world.beat_ages_s, ""), tell_now=self._tell,
            failpoint=_no_failpoint, on_run=self._runs,
        )  # fmt: skip
        none = cast(Any, None)
        self.incoming = IncomingMigrations(
            vms=self.vms, hypervisor=none, clock=world.clock, records=none, address="", first_port=0,
            failpoint=_no_failpoint, tell_now=self._tell,
        )  # fmt: skip
        self.incoming.is_ready.set()
        suspends = SimpleNamespace(give_back=lambda vm: resumer.give_back(vm.definition.name, DS, "not loaded"))
        self.adoption = Adoption(self.vms, none, cast(Any, suspends))
        self.failover = Failover(
            host=self.name, clock=world.clock, inventory=self.inventory, stores=self.stores,
            statuses=world.statuses, is_silent=lambda _store, host: host in world.silent, role=self,
            is_silent_since=lambda _store, host, after: host in world.silent and world.were_beats_read(after),
            is_guarded=lambda _store, host: host not in world.unguarded,
            call=self.call, events=self.events,
            fences=Fencing(self.name, world.fences) if world.fences is not None else None,
        )  # fmt: skip
        self.rounds = 0

    # role
    def judges(self, _datastore: str) -> bool:
        return self.world.judge == self.name and not self.is_dead

    def finish_round(self, _datastore: str) -> None:
        self.rounds += 1

    # ports
    def mounted(self, _name: str) -> MountedDatastore:
        return cast(MountedDatastore, self.view)

    def stores(self) -> list[MountedDatastore]:
        return [self.mounted(DS)]

    async def _tell(self) -> None: ...

    async def _runs(self, guest: Guest, order: StartOrder, taken_at: float) -> None:
        assert self.vms.guests[guest.name] is guest
        self.ran.append((order, self.world.clock.now - taken_at))

    async def alive(self) -> None:
        if self.is_dead:
            await asyncio.Event().wait()

    async def step(self, what: str, effect: Callable[[], T], *, is_write: bool = True) -> T:
        await self.alive()
        await asyncio.sleep(0)
        if is_write:
            self._count(what, "before")
        await self.alive()
        result = effect()
        if is_write:
            self._count(what, "after")
        await self.alive()
        return result

    def _count(self, what: str, when: str) -> None:
        if when == "before":
            self.steps.append(what)
        if self.cut_at == (len(self.steps), when):
            self.world.power_off(self.name)

    async def call(
        self, host: str, command: str, payload: dict[str, Any], *, timeout_s: float = 15.0
    ) -> dict[str, Any]:
        node = self.world.nodes[host]
        reaches = not node.is_dead and self.world.verdicts.get(host) not in {Verdict.ISOLATED, Verdict.PARTITIONED}
        if not reaches or self.world.is_network_down:
            raise Unreachable(f"{host} does not answer")
        handlers = node.starting.handlers() | node.adoption.handlers() | node.incoming.handlers()
        handler: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]] = handlers[command]
        await self.step(f"call {command}", lambda: None)
        return await handler(payload)

    async def spawn(self, spec: MachineSpec) -> Machine:
        await self.alive()
        name = spec.definition.name
        if self.start_failure:
            raise ProcedureFailed(self.start_failure)
        if not spec.tags.get("memory_id") and name in self.world.locks:
            raise ProcedureFailed('Failed to get "write" lock')
        machine = Machine(self, spec)
        self.machines.append(machine)
        return machine

    async def tick(self) -> None:
        await self.starting.tick()
        await self.failover.tick()

    def report(self) -> HostReport:
        if not self.is_dead:
            facts = HostFacts(cpu=cpu(), cores=16, memory_total_bytes=int(self.gib * GIB))
            self.reports = HostReport(
                host=self.name, boot_id="1", facts=facts, vms=self.vms.reports(),
                datastores=(DatastoreReport(name=DS, is_usable=True),),
            )  # fmt: skip
        assert self.reports is not None
        return self.reports


class World:
    """Hosts h1.. with one datastore; `judge` is its active primary. `verdicts`: those that are not live."""

    def __init__(
        self, hosts: int = 3, *, kind: str = "NFS v4", proof: Proof | None = None, fences: Any = None
    ) -> None:
        self.clock = WorldClock()
        self.files = Files()
        self.datastore = Datastore(name=DS, id="d", path="/srv", kind=kind, is_shared=True, proof=proof)
        self.fences = fences
        self.judge = "h2"
        self.verdicts: dict[str, Verdict] = {}
        self.silent: set[str] = set()
        self.cut_off: set[str] = set()
        """Dead on the datastore, alive elsewhere."""
        self.unguarded: set[str] = set()
        self.beats_read_at: float | None = None
        """None: all the time."""
        self.locks: set[str] = set()
        self.lock_failure: Exception | None = None
        self.is_network_down = False
        self.beat_ages_s: dict[str, float] = {}
        self.ran_twice: list[str] = []
        self.nodes: dict[str, Node] = {}
        for number in range(1, hosts + 1):
            self.nodes[f"h{number}"] = Node(self, number)

    async def begin(self, **settings: int | str | bool) -> None:
        values: dict[str, int | str | bool] = {"das.enabled": True}
        for name, value in settings.items():
            values[name.replace("_", ".")] = value
        for node in self.nodes.values():
            await node.inventory.put(f"datastores/{DS}", self.datastore)
            for other in self.nodes.values():
                await node.inventory.put(f"hosts/{other.name}", self._host(other))
            for name, value in values.items():
                await node.inventory.set_setting(name, value)

    @staticmethod
    def _host(node: Node) -> Host:
        address = f"192.0.2.{node.number}"
        return Host(name=node.name, address=address, role=Role.PRIMARY, ordinal=node.number, joined_at="")

    async def put_all(self, key: str, value: Model) -> None:
        for node in self.nodes.values():
            await node.inventory.put(key, value)

    async def add(
        self, name: str, *, at: str | None = "h1", gib: float = 2, disks: tuple[Disk, ...] = (), **policy: Any
    ) -> None:
        """A vm that runs on `at`."""
        made = definition(name=name, memory_bytes=int(gib * GIB), cpus=1, nics=(), disks=disks, ha=policy)
        self.files.definitions[name] = made
        record = VmRecord(definition=made, datastore=DS, wanted="stopped")
        await self.put_all(f"vms/{name}", record)
        if at is not None:
            guest = await self.nodes[at].vms.start(name)
            seen = {"wanted": "running", "observed": VmState.RUNNING, "host": at, "epoch": guest.epoch}
            await self.put_all(f"vms/{name}", record.model_copy(update=seen))

    def statuses(self) -> list[HostStatus]:
        found = []
        for node in self.nodes.values():
            verdict = self.verdicts.get(node.name, Verdict.LIVE)
            found.append(
                HostStatus(
                    host=self._host(node), verdict=verdict, why=f"the test calls it {verdict}",
                    heartbeat_age_s=0.0 if verdict is Verdict.LIVE else 16.0,
                    beat_ages_s={DS: self.beat_ages_s.get(node.name, 0.0)}, report=node.report(),
                    frozen_on=(DS,) if verdict is Verdict.STORAGE_LOST else (),
                    dead_on=(DS,) if verdict is Verdict.FAILED or node.name in self.cut_off else (),
                )
            )  # fmt: skip
        return found

    def were_beats_read(self, after: float) -> bool:
        return self.beats_read_at is None or self.beats_read_at >= after

    def refuse_twice(self, machine: Machine) -> None:
        for node in self.nodes.values():
            for other in node.machines:
                if other is not machine and other.vm == machine.vm and other.runs and not other.is_frozen:
                    self.ran_twice.append(f"{machine.vm} at {self.clock.now}")

    # faults

    def power_off(self, host: str) -> None:
        """Its processes are gone; what others know of it is what it reported last."""
        node = self.nodes[host]
        node.report()
        node.is_dead = True
        for machine in node.machines:
            machine.is_alive = machine.runs = False

    def judge_failed(self, *hosts: str) -> None:
        for host in hosts:
            self.verdicts[host] = Verdict.FAILED
            self.silent.add(host)

    def fail(self, *hosts: str) -> None:
        for host in hosts:
            self.power_off(host)
        self.judge_failed(*hosts)

    # time

    async def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            await self.clock.pass_to(self.clock.now + 1.0)
            for node in self.nodes.values():
                if not node.is_dead:
                    await self._tick(node)
            await turns()
            for node in self.nodes.values():
                if node.is_dead:
                    self.judge_failed(node.name)
            if self.nodes[self.judge].is_dead:
                self.judge = next(n.name for n in self.nodes.values() if not n.is_dead)
        assert self.ran_twice == []

    async def _tick(self, node: Node) -> None:
        """A host that is cut meanwhile stays in the middle of it."""
        task = asyncio.ensure_future(node.tick())
        await turns()
        if not task.done():
            await turns()
        if task.done():
            task.result()

    # looking

    def running(self, vm: str) -> list[str]:
        return [n.name for n in self.nodes.values() for m in n.machines if m.vm == vm and m.runs]

    def lease(self, vm: str) -> Lease:
        return self.files.leases[vm][-1]

    def machine(self, vm: str) -> Machine:
        return next(m for n in self.nodes.values() for m in reversed(n.machines) if m.vm == vm and m.is_alive)

    async def told(self, kind: str) -> list[Event]:
        return [e for n in self.nodes.values() for e in await n.events.list(limit=500) if e.kind == kind]

    async def close(self) -> None:
        """Nothing is left behind."""
        me = asyncio.current_task()
        for task in asyncio.all_tasks():
            if task is not me:
                task.cancel()
        await turns()


async def _no_failpoint(_step: str) -> None: ...


async def release_of(world: World, vm: str) -> None:
    """The lease of `vm` says released."""
    while world.lease(vm).state is not LeaseState.RELEASED:
        await world.pass_time(1)
