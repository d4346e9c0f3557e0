"""One host with vms, a datastore and a guard, all small and in memory, on a clock that only the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

from tests.core.facts import definition
from tests.fakes.registry import MemoryRegistry
from tests.services.liveness_world import ManualClock, Mount
from zugvogel.domain.guard import GuardOrders, GuardReport
from zugvogel.domain.host import Host, Role
from zugvogel.domain.lease import Holder, Lease, LeaseState
from zugvogel.domain.vm import VmDefinition
from zugvogel.errors import DeadlineExceeded, LeaseTaken, NotFound, StorageError, Unreachable
from zugvogel.ports.hypervisor import Machine, MachineEvent, MachineStatus
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.beats import BeatService
from zugvogel.services.events import EventLog
from zugvogel.services.ha.guarding import Guarding
from zugvogel.services.ha.holding import Holding
from zugvogel.services.ha.thawing import Thawing
from zugvogel.services.heartbeats import HeartbeatService
from zugvogel.services.inventory import Inventory
from zugvogel.services.local_vms import Guest, LocalVms

ME = Holder(host="h1", boot_id="boot-h1")
OTHER = Holder(host="h2", boot_id="boot-h2")


class Leases:
    """`on_claim` runs before a claim is linked; `fault` as the mount's."""

    def __init__(self, mount: Mount) -> None:
        self.mount = mount
        self.chains: dict[str, list[Lease]] = {}
        self.on_claim: Callable[[], object] = lambda: None
        self.is_broken = False

    def link(self, vm: str, holder: Holder | None = ME, **fields: Any) -> Lease:
        chain = self.chains.setdefault(vm, [])
        state = LeaseState.RUNNING if holder else LeaseState.RELEASED
        chain.append(Lease(vm=vm, epoch=len(chain) + 1, holder=holder, **({"state": state} | fields)))
        return chain[-1]

    def now(self, vm: str) -> Lease:
        return self.chains[vm][-1]

    async def read(self, vm: str) -> Lease | None:
        await self._pass()
        return self.chains[vm][-1] if self.chains.get(vm) else None

    async def claim(self, lease: Lease) -> Lease:
        await self._pass()
        self.on_claim()
        chain = self.chains.setdefault(lease.vm, [])
        if lease.epoch != len(chain) + 1:
            raise LeaseTaken("another claim won")
        chain.append(lease)
        return lease

    async def _pass(self) -> None:
        if self.is_broken:
            raise StorageError("the lease is damaged")
        await self.mount._pass()


class Folders:
    """Of every vm, but those in `gone`."""

    def __init__(self) -> None:
        self.gone: set[str] = set()

    async def read(self, vm: str) -> VmDefinition:
        if vm in self.gone:
            raise NotFound(f"there is no vm {vm}")
        return definition(name=vm)


class FakeMachine:
    """`guest_runs`: whether its vCPUs go; each time they are let go is noted with the lease of that moment."""

    def __init__(self, name: str, leases: Leases, pid: int = 100) -> None:
        self.vm, self.pid, self.start_ticks = name, pid, pid * 10
        self.tags: dict[str, Any] = {
            "role": "vm",
            "datastore": "ds",
            "definition": definition(name=name).model_dump(),
        }
        self.is_alive, self.is_frozen = True, False
        self.is_mute = False
        self.state = MachineStatus.RUNNING
        self.let_go_at: list[int] = []
        self.done: list[str] = []
        self._leases = leases
        self._readers: list[asyncio.Queue[MachineEvent | None]] = []

    def freeze(self) -> None:
        self.is_frozen = self.is_alive
        self.done.append("freeze")

    async def thaw(self) -> None:
        self.done.append("thaw")
        self.let_go_at.append(self._leases.now(self.vm).epoch)
        self.is_frozen = False
        if self.is_mute:
            raise DeadlineExceeded(f"QEMU of {self.vm} goes on but does not answer on QMP yet")

    async def kill(self) -> None:
        self.done.append("kill")
        self.is_alive = self.is_frozen = False
        for queue in self._readers:
            self._tell_end(queue)

    def events(self) -> AsyncIterator[MachineEvent]:
        queue: asyncio.Queue[MachineEvent | None] = asyncio.Queue()
        self._readers.append(queue)
        if not self.is_alive:
            self._tell_end(queue)

        async def iterate() -> AsyncIterator[MachineEvent]:
            while (event := await queue.get()) is not None:
                yield event

        return iterate()

    @staticmethod
    def _tell_end(queue: asyncio.Queue[MachineEvent | None]) -> None:
        queue.put_nowait(MachineEvent("EXITED", {"why": "killed"}, 0.0))
        queue.put_nowait(None)

    async def status(self) -> MachineStatus:
        if self.is_frozen or not self.is_alive:
            raise Unreachable(f"QEMU of {self.vm} is frozen")
        return self.state

    async def cont(self) -> None:
        await self.status()
        self.done.append("cont")
        self.state = MachineStatus.RUNNING

    async def announce(self) -> None:
        await self.status()
        self.done.append("announce")

    async def set_tags(self, **tags: Any) -> None:
        self.tags |= tags


class FakeGuard:
    """It ticks while `is_running`, and freezes nothing by itself. `keeps`: vms it still reports as frozen."""

    def __init__(self, clock: ManualClock, before: GuardOrders | None = None) -> None:
        self.clock = clock
        self.orders: list[GuardOrders] = []
        self.before = before
        self.is_running = True
        self.keeps: set[str] = set()
        self.starts = 0
        self.on_tell: Callable[[], None] = lambda: None

    def tell(self, orders: GuardOrders) -> None:
        self.orders.append(orders)
        self.on_tell()

    def told(self) -> GuardOrders | None:
        return self.orders[-1] if self.orders else self.before

    def report(self) -> GuardReport | None:
        if not self.is_running:
            return None
        return GuardReport(ticked_at=self.clock.now, frozen=dict.fromkeys(self.keeps, 0.0))

    def ensure_running(self) -> None:
        self.starts += 1


class HeldHost:
    """Host h1 of a cluster of `hosts`. High availability is on unless `is_enabled` is False; T is 15 s."""

    def __init__(
        self,
        *,
        datastores: Sequence[str] = ("ds",),
        before: GuardOrders | None = None,
    ) -> None:
        self.clock = ManualClock()
        self.mounts = {name: Mount(name, {}) for name in datastores}
        self.folders = Folders()
        self.leases = {name: Leases(mount) for name, mount in self.mounts.items()}
        for name, mount in self.mounts.items():
            cast(Any, mount).leases = self.leases[name]
            cast(Any, mount).folders = self.folders
        self.inventory = Inventory(MemoryRegistry(), self.clock, [])
        self.told: list[tuple[str, str]] = []
        self.heard_at: float | None = None
        self.detection_ms = 15000
        self.guard = FakeGuard(self.clock, before)
        self.vms = LocalVms(
            host="h1", boot_id="boot-h1", hypervisor=cast(Any, None), network=cast(Any, None),
            inventory=self.inventory, mounted=self._mounted,
            events=cast(EventLog, SimpleNamespace(emit=self._emit)), clock=self.clock,
        )  # fmt: skip
        self.beats = BeatService(
            "h1", "boot-h1", self.clock, datastores=lambda: [self._mounted(n) for n in self.mounts],
            interval_s=lambda: 1.0, detection_time_ms=lambda: self.detection_ms,
            may_write=lambda: self.guarding.may_write(), on_good=lambda: self.guarding.tell(),
            before_promise=lambda: self.guarding.tell(),
            is_guarded=lambda: self.guarding.may_promise(),
        )  # fmt: skip
        heartbeats = cast(HeartbeatService, SimpleNamespace(last_heard_at=lambda: self.heard_at))
        self.guarding = Guarding(self.vms, self.beats, heartbeats, self.guard)
        self.thawing = Thawing(self.vms, self.beats, self.guarding)
        self.holding = Holding(self.vms, self.beats, self.guarding, self.thawing)
        self.vms.on_admitted = self.guarding.tell
        self.vms.may_run = self.guarding.may_run

    def _mounted(self, name: str) -> MountedDatastore:
        return cast(MountedDatastore, self.mounts[name])

    def _emit(self, kind: str, subject: str, _message: str, **_more: Any) -> None:
        self.told.append((kind, subject))

    @property
    def orders(self) -> GuardOrders:
        return self.guard.orders[-1]

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.told]

    async def load(self, *, is_enabled: bool = True, hosts: int = 2) -> None:
        """The registry is read."""
        for number in range(1, hosts + 1):
            host = Host(name=f"h{number}", address="", role=Role.PRIMARY, ordinal=number, joined_at="")
            await self.inventory.put(f"hosts/{host.name}", host)
        await self.set("das.enabled", is_enabled)
        await self.set("das.failuredetectiontime", self.detection_ms)
        self.inventory.is_loaded.set()
        self.vms.expect([])

    async def set(self, name: str, value: int | bool) -> None:
        await self.inventory.set_setting(name, value)
        if name == "das.failuredetectiontime":
            self.detection_ms = int(value)

    def admit(self, name: str, datastore: str = "ds", pid: int = 100) -> tuple[Guest, FakeMachine]:
        """A guest whose lease this host holds."""
        lease = self.leases[datastore].link(name)
        machine = FakeMachine(name, self.leases[datastore], pid)
        guest = self.vms.admit(cast(Machine, machine), definition(name=name), datastore, lease.epoch)
        return guest, machine

    async def seconds(self, count: int) -> None:
        """What the agent's loops do each second."""
        for _ in range(count):
            self.clock.now += 1.0
            await self.beats.tick()
            await self.guarding.tick()
            await settle()
            await self.holding.tick()
            await settle()

    async def close(self) -> None:
        await self.holding.stop()
        for guest in self.vms.guests.values():
            if guest.watcher is not None:
                guest.watcher.cancel()


async def settle() -> None:
    """Whatever can go on without time passing goes on."""
    for _ in range(40):
        await asyncio.sleep(0)
