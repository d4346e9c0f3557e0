"""A few hosts with a registry between them, all in memory, on a clock that only the test moves."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from tests.fakes.registry import MemoryRegistry
from tests.services.liveness_world import ManualClock
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.host import Host, HostStatus, Role, Verdict
from zugvogel.domain.lease import Holder, Lease
from zugvogel.domain.registry import Member, MemberStatus, peer_url
from zugvogel.errors import LeaseTaken, NotFound, ProcedureFailed, Refused, StorageError, Unreachable
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.events import EventLog
from zugvogel.services.ha.reforming import Reforming
from zugvogel.services.ha.registry_chain import RegistryChain
from zugvogel.services.ha.registry_member import RegistryMember

PLACE = Datastore(name="nfs1", id="1", path="/nfs1", kind="NFS v4", is_shared=True, added_at="1")


class Cut(Exception):
    """The agent is killed here."""


class Leases:
    def __init__(self) -> None:
        self.latest: Lease | None = None
        self.is_away = False

    async def read(self, vm: str) -> Lease | None:
        if self.is_away:
            raise StorageError("it is not mounted")
        return self.latest

    async def claim(self, lease: Lease) -> Lease:
        await self.read(lease.vm)
        if self.latest is not None and self.latest.epoch >= lease.epoch and self.latest != lease:
            raise LeaseTaken("another claim won", epoch=self.latest.epoch)
        self.latest = lease
        return lease


class Disk:
    """What outlives an agent. `members`: as the host's own etcd data has them; None: no data."""

    def __init__(self) -> None:
        self.generation = 0
        self.datastores: list[Datastore] = []
        self.members: list[str] | None = None
        self.put_aside = 0

    def load_generation(self) -> int:
        return self.generation

    def save_generation(self, generation: int) -> None:
        self.generation = generation

    def load_datastores(self) -> list[Datastore]:
        return self.datastores

    def save_datastores(self, datastores: list[Datastore]) -> None:
        self.datastores = datastores


class Own:
    """`is_broken`: etcd does not come up from its data."""

    def __init__(self, world: World, name: str, disk: Disk) -> None:
        self.world, self.name, self.disk = world, name, disk
        self.is_running = False
        self.is_broken = False
        self.failures = 0
        self.reforms = 0

    @property
    def has_data(self) -> bool:
        return self.disk.members is not None

    async def start(self, members: dict[str, str], *, is_new: bool) -> None:
        assert not self.is_running
        self.is_running = True
        if self.disk.members is None:
            self.disk.members = sorted({self.name, *members})

    async def stop(self) -> None:
        self.is_running = False

    async def reform(self) -> None:
        assert not self.is_running
        assert self.has_data
        if self.is_broken:
            raise ProcedureFailed("etcd did not come up")
        self.reforms += 1
        self.disk.members = [self.name]

    async def discard(self) -> None:
        assert not self.is_running
        self.disk.members = None
        self.disk.put_aside += 1

    async def forget_discarded(self) -> None: ...

    async def members(self) -> list[Member]:
        if not self.is_running or self.disk.members is None:
            raise Unreachable("etcd does not run")
        return [self.world.member(n) for n in self.disk.members]

    async def is_current(self) -> bool:
        """A majority of its members runs with the same data."""
        mine = self.disk.members if self.is_running else None
        if self.name in self.world.cut_off:
            return False
        return bool(mine) and self.world.has_majority(mine or [], self.disk.generation)


class World:
    """`count` primaries h1.. that share etcd; each has been running for a while."""

    def __init__(self, count: int = 3) -> None:
        self.clock = ManualClock()
        self.registry = MemoryRegistry()
        self.leases = Leases()
        self.hosts = [
            Host(name=f"h{n}", address=f"192.0.2.{n}", role=Role.PRIMARY, ordinal=n, joined_at="")
            for n in range(1, count + 1)
        ]
        self.disks = {h.name: Disk() for h in self.hosts}
        self.agents: dict[str, Agent] = {}
        self.off_at: dict[str, float] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.judge = "h1"
        self.cut_at = ""
        self.cut_off: set[str] = set()
        for host in self.hosts:
            self.disks[host.name].members = [h.name for h in self.hosts]
            self.disks[host.name].datastores = [PLACE]
            self.power_on(host.name)

    def member(self, name: str) -> Member:
        return Member(id=name[1:], name=name, peer_url=peer_url(self.host(name)))

    def host(self, name: str) -> Host:
        return next(h for h in self.hosts if h.name == name)

    def has_majority(self, members: list[str], generation: int) -> bool:
        running = [
            n for n in members
            if n in self.agents and self.agents[n].own.is_running and self.disks[n].generation == generation
        ]  # fmt: skip
        return 2 * len(running) > len(members)

    def power_on(self, name: str) -> None:
        self.off_at.pop(name, None)
        self.verdicts.pop(name, None)
        self.agents[name] = Agent(self, name)

    def power_off(self, *names: str, verdict: Verdict = Verdict.FAILED) -> None:
        for name in names:
            self.agents.pop(name, None)
            self.off_at[name] = self.clock.now
            self.verdicts[name] = verdict

    def set_role(self, name: str, role: Role) -> None:
        self.hosts = [h.model_copy(update={"role": role}) if h.name == name else h for h in self.hosts]

    async def statuses(self) -> list[HostStatus]:
        return [
            HostStatus(
                host=h, verdict=self.verdicts.get(h.name, Verdict.LIVE), why="",
                heartbeat_age_s=self.clock.now - self.off_at.get(h.name, self.clock.now),
            )
            for h in self.hosts
        ]  # fmt: skip

    async def pass_time(self, seconds: float, *names: str) -> None:
        """Rounds of all agents, or of `names`, twice a second. An agent that is cut is gone."""
        for _ in range(int(seconds * 2)):
            self.clock.now += 0.5
            for name in names or tuple(self.agents):
                agent = self.agents.get(name)
                try:
                    if agent is not None:
                        await agent.round()
                except Cut:
                    self.power_off(name)

    async def call(self, host: Host, command: str, payload: dict[str, Any]) -> dict[str, Any]:
        agent = self.agents.get(host.name)
        if agent is None:
            raise Unreachable(f"{host.name} cannot be reached")
        if command == "etcd.add":
            return agent.add(payload)
        if command == "etcd.promote":
            return {"votes": True}
        handler = agent.member.handlers().get(command)
        if handler is None:
            raise NotFound(command)
        return await handler(payload)


class AnyMembers:
    """`ports.members.Members` of what runs with the highest generation."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def list(self) -> list[Member]:
        running = [a for a in self.world.agents.values() if a.own.is_running]
        if not running:
            raise Unreachable("no member answers")
        newest = max(running, key=lambda a: a.disk.generation)
        return [self.world.member(n) for n in newest.disk.members or []]

    async def status(self, member: Member) -> MemberStatus | None:
        return None

    async def ensure(self, peer_url: str) -> None: ...
    async def promote(self, peer_url: str) -> bool:
        return True

    async def remove(self, peer_url: str) -> None: ...
    async def move_leader(self, leader: Member, to: Member) -> None: ...


class Agent:
    def __init__(self, world: World, name: str) -> None:
        self.world, self.name, self.disk = world, name, world.disks[name]
        self.own = Own(world, name, self.disk)
        self.events = EventLog(name, world.registry, world.clock)
        self.said = ""
        self.keys = True
        mounted = cast(MountedDatastore, SimpleNamespace(role_leases=world.leases))
        chain = RegistryChain(
            lambda: Holder(host=name, boot_id="b"), world.clock, self.disk.load_datastores, lambda d: mounted
        )
        self.reforming = Reforming(
            name, clock=world.clock, own=self.own, memory=self.disk, chain=chain, events=self.events,
            statuses=world.statuses, judges=lambda datastore: datastore == "nfs1" and world.judge == name,
            generation_of=self._generation_of, detection_s=lambda: 15.0, failpoint=self._failpoint,
        )  # fmt: skip
        self.member = RegistryMember(
            name, clock=world.clock, registry=world.registry, members=AnyMembers(world), own=self.own,
            memory=self.disk, chain=chain, reforming=self.reforming, events=self.events,
            first=cast(Any, SimpleNamespace(is_pending=False)), hosts=lambda: world.hosts,
            contacts=lambda: [h for h in world.hosts if h.name != name and h.role is Role.PRIMARY],
            call=world.call, datastores=lambda: None, ensure_keys=self._keys, stands_down=lambda: self.stands_down,
        )  # fmt: skip

    stands_down = ""

    async def round(self) -> None:
        try:
            await self.member.tick()
            self.said = ""
        except (Unreachable, StorageError, LeaseTaken, ProcedureFailed, Refused) as error:
            self.said = str(error)
        await asyncio.sleep(0)

    def add(self, payload: dict[str, Any]) -> dict[str, Any]:
        """As `RoleChanges` answers, without its gates."""
        own = self.member.generation()
        if own is None or own < payload["generation"] or not self.world.has_majority(self.disk.members or [], own):
            raise Unreachable("etcd does not run here, or with older data")
        assert self.disk.members is not None
        members = sorted({*self.disk.members, str(payload["host"])})
        for name in members:
            disk = self.world.disks[name]
            if name in self.world.agents and disk.members is not None and disk.generation == own:
                disk.members = members
        return {"generation": own, "members": {n: peer_url(self.world.host(n)) for n in members}}

    async def _generation_of(self, host: Host) -> int:
        return int((await self.world.call(host, "etcd.generation", {}))["generation"])

    async def _failpoint(self, step: str) -> None:
        if step == self.world.cut_at:
            self.world.cut_at = ""
            raise Cut

    async def _keys(self) -> bool:
        return self.keys

    async def kinds(self) -> list[str]:
        return [e.kind for e in self.events._recent]
