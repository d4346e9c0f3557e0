"""A few hosts in one process on a clock that only the test moves: small fakes of the ports that beats,
heartbeats and the cluster view use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from zugvogel.domain.datastore import Beat, Datastore
from zugvogel.domain.host import (
    CpuFacts,
    DatastoreReport,
    Heartbeat,
    Host,
    HostFacts,
    HostReport,
    HostStatus,
    Role,
)
from zugvogel.errors import NotFound, StorageError, Unreachable
from zugvogel.ports.peers import Handler
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.beats import BeatService
from zugvogel.services.cluster_view import ClusterView
from zugvogel.services.heartbeats import HeartbeatService, Load

CPU = CpuFacts(vendor="v", family=1, model=1, stepping=1, name="n", flags=frozenset({"sse4_2"}))


class ManualClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def now_iso(self) -> str:
        return "2000-01-01T00:00:00.000Z"

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


class Mount:
    """One host's view of a datastore (`files` is what all share). `fault`: "" works, "hang", "error"."""

    def __init__(self, name: str, files: dict[str, Beat]) -> None:
        self.datastore = Datastore(name=name, id=name, path=f"/{name}", kind="NFS v4", is_shared=True)
        self.beats = self
        self.files = files
        self.fault = ""
        self.late: list[Beat] = []
        """Writes that were given up and may still land."""
        self.unreadable: set[str] = set()
        """Hosts whose file alone cannot be read here."""
        self.role_leases: object = None

    async def write(self, beat: Beat) -> None:
        await self._pass()
        self.files[beat.host] = beat

    def may_still_land(self) -> bool:
        return bool(self.late)

    async def read(self, host: str) -> Beat | None:
        await self._pass()
        if host in self.unreadable:
            raise StorageError("it has an I/O error")
        return self.files.get(host)

    async def read_all(self) -> Mapping[str, Beat | str]:
        await self._pass()
        return self.files | dict.fromkeys(self.unreadable & self.files.keys(), "it has an I/O error")

    async def report(self) -> DatastoreReport:
        await self._pass()
        return DatastoreReport(name=self.datastore.name, is_usable=True, fs_type="nfs4", total_bytes=2**30)

    async def _pass(self) -> None:
        if self.fault == "hang":
            await asyncio.Event().wait()
        if self.fault == "error":
            raise StorageError("the datastore is gone")


class Node:
    def __init__(self, world: World, host: Host, mounts: list[Mount], boot: int = 0) -> None:
        boot_id = f"boot-{host.name}{boot or ''}"
        self.world, self.name, self.mounts = world, host.name, mounts
        self.is_isolated = False
        self.judge_round: Callable[[str], int] = lambda datastore: 0
        self.detection_time_ms = 15000
        self.report: HostReport | None = HostReport(
            host=host.name,
            boot_id=boot_id,
            facts=HostFacts(cpu=CPU, cores=2, memory_total_bytes=2**31),
        )
        self.beats = BeatService(
            host.name, boot_id, world.clock,
            datastores=lambda: cast(Sequence[MountedDatastore], self.mounts), interval_s=lambda: 1.0,
            detection_time_ms=lambda: self.detection_time_ms,
            hears=lambda: self.heartbeats.hears(), is_isolated=lambda: self.is_isolated,
            judge_round=lambda datastore: self.judge_round(datastore),
        )  # fmt: skip
        self.heartbeats = HeartbeatService(
            host.name, boot_id, world.clock, hosts=lambda: list(world.hosts), sender=self, peers=self,
            report=lambda: self.report, load=lambda: Load(0.5, 2**30), beat_counters=self.beats.counters,
            interval_s=lambda: 1.0,
        )  # fmt: skip
        self.view = ClusterView(
            host.name, world.clock, hosts=lambda: world.hosts, heartbeats=self.heartbeats, beats=self.beats,
            peers=self, report=lambda: self.report, load=lambda: Load(0.5, 2**30),
            detection_time_ms=lambda: self.detection_time_ms, active_primaries=lambda: world.active_primaries,
            is_isolated=lambda: self.is_isolated,
        )  # fmt: skip

    @property
    def handlers(self) -> dict[str, Handler]:
        return self.heartbeats.handlers() | self.view.handlers()

    def send(self, to: Sequence[Host], heartbeat: Heartbeat) -> None:
        for host in to:
            self._send(host, heartbeat)

    def _send(self, to: Host, heartbeat: Heartbeat) -> None:
        self.world.sent.append((self.name, to.name))
        if self.world.reaches(self.name, to.name) and (self.name, to.name) not in self.world.unheard:
            if self.world.drops_reports:
                heartbeat = heartbeat.model_copy(update={"report": None})
            self.world.nodes[to.name].heartbeats.receive(heartbeat)

    async def call(
        self, host: Host, command: str, payload: dict[str, Any], *, timeout_s: float = 10.0
    ) -> dict[str, Any]:
        self.world.calls.append((self.name, host.name, command))
        if not self.world.reaches(self.name, host.name):
            raise Unreachable(f"{host.name} cannot be reached")
        handler = self.world.nodes[host.name].handlers.get(command)
        if handler is None:
            raise NotFound(command)
        return await handler(payload)

    async def verdict_of(self, name: str) -> HostStatus:
        return await self.view.status(name)


class World:
    """`hosts` hosts h1.., the first `primaries` of them primaries; `datastores` shared by all."""

    def __init__(self, hosts: int = 3, primaries: int = 5, datastores: Sequence[str] = ("ds",)) -> None:
        self.clock = ManualClock()
        self.files: dict[str, dict[str, Beat]] = {name: {} for name in datastores}
        self.hosts = [
            Host(
                name=f"h{i}", address=f"192.0.2.{i}", role=Role.PRIMARY if i <= primaries else Role.SECONDARY,
                ordinal=i, joined_at="",
            )
            for i in range(1, hosts + 1)
        ]  # fmt: skip
        self.nodes = {h.name: Node(self, h, [Mount(n, self.files[n]) for n in datastores]) for h in self.hosts}
        self.dead: set[str] = set()
        self.cut: set[str] = set()
        self.paused: set[str] = set()
        self.unheard: set[tuple[str, str]] = set()
        """(from, to): heartbeats that are lost."""
        self.active_primaries: frozenset[str] = frozenset()
        self.drops_reports = False
        self.sent: list[tuple[str, str]] = []
        self.calls: list[tuple[str, str, str]] = []

    def reaches(self, a: str, b: str) -> bool:
        return not ({a, b} & (self.dead | self.cut))

    async def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.now += 1.0
            for node in self.nodes.values():
                if node.name not in self.dead | self.paused:
                    await self.tick(node)
            for _ in range(5):
                await asyncio.sleep(0)

    async def tick(self, node: Node) -> None:
        """What `node` does each second."""
        await node.beats.tick()
        await node.heartbeats.tick()
