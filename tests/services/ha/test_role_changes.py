"""etcd's members follow the roles: what is asked for is done when it is safe, and what must go goes."""

from __future__ import annotations

import pytest

from tests.fakes.registry import MemoryRegistry
from tests.services.liveness_world import ManualClock
from zugvogel.domain.host import Host, HostStatus, Role, Verdict
from zugvogel.domain.registry import Member, MemberStatus, peer_url
from zugvogel.errors import Refused, Unreachable
from zugvogel.services.events import EventLog
from zugvogel.services.ha.role_changes import REMOVE_AFTER_S, RoleChanges


class FakeEtcd:
    """Members by name; `silent` ones do not answer."""

    def __init__(self, hosts: list[Host], voters: str) -> None:
        self.urls = {peer_url(h): h.name for h in hosts}
        self.found = {n: self._member(n) for n in voters.split()}
        self.leader = next(iter(self.found))
        self.silent: set[str] = set()
        self.did: list[str] = []

    def _member(self, name: str, *, has_started: bool = True, is_learner: bool = False) -> Member:
        url = next(u for u, n in self.urls.items() if n == name)
        return Member(id=name[1:], name=name if has_started else "", peer_url=url, is_learner=is_learner)

    async def list(self) -> list[Member]:
        return list(self.found.values())

    async def status(self, member: Member) -> MemberStatus | None:
        name = self.urls[member.peer_url]
        is_up = name not in self.silent and member.name
        return MemberStatus(id=member.id, leader_id=self.leader[1:]) if is_up else None

    async def ensure(self, peer_url: str) -> None:
        name = self.urls[peer_url]
        if name not in self.found:
            self.did.append(f"add {name}")
            self.found[name] = self._member(name, has_started=False, is_learner=True)

    def starts(self, name: str) -> None:
        self.found[name] = self.found[name].model_copy(update={"name": name})

    async def promote(self, peer_url: str) -> bool:
        name = self.urls[peer_url]
        self.did.append(f"promote {name}")
        self.found[name] = self.found[name].model_copy(update={"is_learner": False})
        return True

    async def remove(self, peer_url: str) -> None:
        self.did.append(f"remove {self.urls[peer_url]}")
        del self.found[self.urls[peer_url]]

    async def move_leader(self, leader: Member, to: Member) -> None:
        self.did.append(f"lead {to.name}")
        self.leader = to.name


class World:
    def __init__(self, voters: str, primaries: str, hosts: int = 6) -> None:
        self.clock = ManualClock()
        self.registry = MemoryRegistry()
        self.hosts = [
            Host(
                name=f"h{n}", address=f"192.0.2.{n}", ordinal=n, joined_at="",
                role=Role.PRIMARY if f"h{n}" in primaries.split() else Role.SECONDARY,
            )
            for n in range(1, hosts + 1)
        ]  # fmt: skip
        self.etcd = FakeEtcd(self.hosts, voters)
        self.verdicts: dict[str, Verdict] = {}
        self.generation: int | None = 2
        self.events = EventLog("h1", self.registry, self.clock)
        self.agents = {h.name: self._agent(h.name) for h in self.hosts}

    def _agent(self, name: str) -> RoleChanges:
        return RoleChanges(
            name, clock=self.clock, registry=self.registry, members=self.etcd, events=self.events,
            statuses=self.statuses, generation=lambda: self.generation,
        )  # fmt: skip

    async def begin(self) -> World:
        for host in self.hosts:
            await self.registry.put(f"hosts/{host.name}", host.model_dump_json().encode())
        return self

    async def statuses(self) -> list[HostStatus]:
        return [HostStatus(host=h, verdict=self.verdicts.get(h.name, Verdict.LIVE), why="") for h in self.hosts]

    async def add(self, name: str, generation: int = 0) -> dict[str, object]:
        payload = {"host": name, "generation": generation}
        return await self.agents["h1"].handlers()["etcd.add"](payload)

    async def promote(self, name: str) -> dict[str, object]:
        return await self.agents["h1"].handlers()["etcd.promote"]({"host": name})

    async def settle(self) -> None:
        """All agents look, until nothing has changed for long enough."""
        for _ in range(int(3 * REMOVE_AFTER_S)):
            self.clock.now += 1.0
            for agent in self.agents.values():
                await agent.tick()


async def test_the_order_is_add_promote_remove() -> None:
    world = await World("h1 h2 h3", "h1 h2 h4").begin()
    await world.settle()
    assert world.etcd.did == [], "nobody leaves before the new one votes"
    answer = await world.add("h4")
    assert answer["generation"] == 2
    assert set(answer["members"]) == {"h1", "h2", "h3", "h4"}  # type: ignore[call-overload]
    world.etcd.starts("h4")
    await world.settle()
    assert await world.promote("h4") == {"votes": True}
    assert await world.promote("h4") == {"votes": True}
    await world.settle()
    assert world.etcd.did == ["add h4", "promote h4", "remove h3"]
    assert [e.kind for e in await world.events.list()] == ["registry.member-removed"]


async def test_the_leader_hands_on_before_it_goes() -> None:
    world = await World("h1 h2 h3", "h2 h3").begin()
    await world.settle()
    assert world.etcd.did == ["lead h2", "remove h1"]


async def test_a_host_that_is_no_primary_is_not_added_and_one_learner_is_enough() -> None:
    world = await World("h1 h2 h3", "h1 h2 h3 h4 h5").begin()
    with pytest.raises(Refused, match="it is no primary"):
        await world.add("h6")
    await world.add("h4")
    await world.add("h4")
    with pytest.raises(Refused, match="one at a time"):
        await world.add("h5")
    assert world.etcd.did == ["add h4"]
    assert await world.promote("h5") == {"votes": False}


async def test_a_host_with_older_data_takes_nobody_in() -> None:
    world = await World("h1 h2 h3", "h1 h2 h3 h4").begin()
    with pytest.raises(Unreachable, match="older data"):
        await world.add("h4", generation=3)
    world.generation = None
    with pytest.raises(Unreachable):
        await world.add("h4")
    assert world.etcd.did == []


async def test_a_voter_that_lost_its_data_comes_in_as_a_new_member() -> None:
    world = await World("h1 h2 h3", "h1 h2 h3").begin()
    world.etcd.silent.add("h3")
    await world.add("h3")
    assert world.etcd.did == ["remove h3", "add h3"]


async def test_it_stays_out_while_etcd_needs_its_vote() -> None:
    world = await World("h1 h2 h3", "h1 h2 h3").begin()
    world.etcd.silent |= {"h2", "h3"}
    with pytest.raises(Refused, match="cannot do without its vote"):
        await world.add("h3")
    assert world.etcd.did == []


async def test_without_a_majority_nobody_is_added_promoted_or_removed() -> None:
    world = await World("h1 h2 h3 h4", "h1 h2 h3 h5").begin()
    world.etcd.silent |= {"h2", "h3"}
    with pytest.raises(Refused, match="only 2 of 4"):
        await world.add("h5")
    await world.settle()
    assert world.etcd.did == []


async def test_a_learner_whose_host_failed_goes_and_one_that_was_silent_for_a_moment_stays() -> None:
    world = await World("h1 h2 h3", "h1 h2 h3 h4").begin()
    await world.add("h4")
    world.verdicts["h4"] = Verdict.PARTITIONED
    await world.agents["h1"].tick()
    del world.verdicts["h4"]
    await world.settle()
    assert world.etcd.did == ["add h4"]
    world.verdicts["h4"] = Verdict.FAILED
    await world.settle()
    assert world.etcd.did == ["add h4", "remove h4"]


async def test_a_failed_primary_stays_a_member() -> None:
    world = await World("h1 h2 h3 h4 h5", "h1 h2 h3 h4 h5").begin()
    world.verdicts |= dict.fromkeys(("h4", "h5"), Verdict.FAILED)
    world.etcd.silent |= {"h4", "h5"}
    await world.settle()
    assert world.etcd.did == []


async def test_whoever_leads_goes_on() -> None:
    """All five places change; etcd's leader changes after every step."""
    world = await World("h1 h2 h3 h4 h5", "h6 h7 h8 h9 h10", hosts=10).begin()
    for name in ("h6", "h7", "h8", "h9", "h10"):
        await world.add(name)
        world.etcd.starts(name)
        await world.promote(name)
        assert len(world.etcd.found) == 6
        world.etcd.leader = list(world.etcd.found)[-1]
        await world.settle()
        assert len(world.etcd.found) == 5
    assert set(world.etcd.found) == {"h6", "h7", "h8", "h9", "h10"}
