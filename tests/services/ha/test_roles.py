"""The wanted roles are written all or nothing, by the first live primary, and never twice."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.fakes.registry import MemoryRegistry
from tests.services.liveness_world import ManualClock
from zugvogel.domain.host import Host, HostStatus, Role, Verdict
from zugvogel.errors import Conflict, NotFound
from zugvogel.services.events import EventLog
from zugvogel.services.ha.roles import COUNTER, Roles
from zugvogel.services.inventory import Inventory

P, S = Role.PRIMARY, Role.SECONDARY


class World:
    def __init__(self, primaries: int, secondaries: int) -> None:
        self.clock, self.registry = ManualClock(), MemoryRegistry()
        self.verdicts: dict[str, Verdict] = {}
        self.hosts = [
            Host(name=f"h{n}", address="", role=P if n <= primaries else S, ordinal=n, joined_at="")
            for n in range(1, primaries + secondaries + 1)
        ]
        self.inventory = Inventory(self.registry, self.clock, [])
        self.events = EventLog("h1", self.registry, self.clock)
        self.agents = {h.name: self._agent(h.name) for h in self.hosts}

    def _agent(self, name: str) -> Roles:
        def backwards(names: Sequence[str]) -> list[str]:
            return sorted(names, reverse=True)

        return Roles(
            name, registry=self.registry, inventory=self.inventory, events=self.events, clock=self.clock,
            statuses=self.statuses, draw=backwards,
        )  # fmt: skip

    async def begin(self) -> World:
        for host in self.hosts:
            await self.registry.put(f"hosts/{host.name}", host.model_dump_json().encode())
        await self.registry.put(COUNTER, str(len(self.hosts)).encode())
        await self.replicate()
        return self

    async def replicate(self) -> None:
        await self.inventory._load()

    async def statuses(self) -> list[HostStatus]:
        found = self.inventory.hosts()
        return [HostStatus(host=h, verdict=self.verdicts.get(h.name, Verdict.LIVE), why="") for h in found]

    async def rounds(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.now += 1.0
            for name, agent in self.agents.items():
                if name not in self.verdicts:
                    await agent.tick()
            await self.replicate()

    def primaries(self) -> list[str]:
        return [h.name for h in self.inventory.hosts() if h.role is P]


async def test_maintenance_hands_the_role_over_in_the_same_write() -> None:
    world = await World(5, 2).begin()
    world.registry.writes.clear()
    assert await world.agents["h1"].hand_over("h2", is_in_maintenance=True) == "h6"
    assert sorted(world.registry.writes) == [COUNTER, "hosts/h2", "hosts/h6"]
    await world.replicate()
    assert world.primaries() == ["h1", "h3", "h4", "h5", "h6"]
    assert world.inventory.host("h2").is_in_maintenance
    assert [e.subject for e in await world.events.list(kind="host.role-changed")] == ["h2", "h6"]
    assert await world.agents["h1"].hand_over("h2", is_in_maintenance=True) is None, "again: nothing to do"
    assert await world.agents["h1"].hand_over("h2", is_in_maintenance=False) is None
    await world.replicate()
    assert not world.inventory.host("h2").is_in_maintenance
    assert world.primaries() == ["h1", "h3", "h4", "h5", "h6"], "the role stays where it went"


async def test_without_a_secondary_the_role_stays_until_there_is_one() -> None:
    world = await World(3, 0).begin()
    assert await world.agents["h1"].hand_over("h2", is_in_maintenance=True) is None
    await world.rounds(2)
    assert world.primaries() == ["h1", "h2", "h3"]
    host = Host(name="h4", address="", role=S, ordinal=4, joined_at="")
    await world.registry.put("hosts/h4", host.model_dump_json().encode())
    await world.replicate()
    await world.rounds(1)
    assert world.primaries() == ["h1", "h2", "h3", "h4"], "a vacant place is taken first"


async def test_an_unknown_host_is_told() -> None:
    world = await World(1, 0).begin()
    with pytest.raises(NotFound):
        await world.agents["h1"].hand_over("h9", is_in_maintenance=True)
    with pytest.raises(NotFound):
        await world.agents["h1"].label("h9", "rack1")


async def test_static_promotes_nobody_and_adaptive_after_its_time() -> None:
    world = await World(5, 2).begin()
    world.verdicts["h1"] = Verdict.FAILED
    await world.rounds(700)
    assert world.primaries() == ["h1", "h2", "h3", "h4", "h5"]
    await world.inventory.set_setting("das.rolepolicy", "adaptive")
    await world.inventory.set_setting("das.rolepolicy.replaceafter", 60)
    world.verdicts = {"h3": Verdict.FAILED}
    await world.rounds(59)
    assert world.primaries() == ["h1", "h2", "h3", "h4", "h5"]
    world.verdicts.clear()
    await world.rounds(1)
    world.verdicts["h3"] = Verdict.FAILED
    await world.rounds(60)
    assert "h3" in world.primaries(), "its time begins anew when it was back"
    await world.rounds(2)
    assert world.primaries() == ["h1", "h2", "h4", "h5", "h6"]
    (told, *_) = await world.events.list(subject="h3")
    assert "has been failed for 60 s" in told.message


async def test_only_the_first_live_primary_acts() -> None:
    world = await World(5, 1).begin()
    await world.registry.delete("hosts/h1")
    await world.replicate()
    del world.agents["h1"]
    world.registry.writes.clear()
    for name in ("h6", "h5", "h4", "h3"):
        await world.agents[name].tick()
    assert world.registry.writes == []
    await world.agents["h2"].tick()
    await world.replicate()
    assert world.primaries() == ["h2", "h3", "h4", "h5", "h6"]


async def test_reconfigure_gives_the_roles_out_in_the_order_drawn() -> None:
    world = await World(5, 2).begin()
    assert await world.agents["h1"].reconfigure() == {"h1": S, "h2": S, "h6": P, "h7": P}
    await world.replicate()
    assert world.primaries() == ["h3", "h4", "h5", "h6", "h7"]


async def test_a_label_is_kept() -> None:
    world = await World(1, 0).begin()
    await world.agents["h1"].label("h1", "rack1")
    await world.replicate()
    assert world.inventory.host("h1").failure_domain == "rack1"


async def test_two_changes_at_once_do_not_take_the_same_heir() -> None:
    """The other one writes between the read and the write of this one."""
    world = await World(5, 2).begin()
    inner = world.registry.put_many
    has_met = False

    async def met(changes: dict[str, bytes], *, expect: dict[str, int]) -> None:
        nonlocal has_met
        if not has_met:
            has_met = True
            assert await world.agents["h2"].hand_over("h4", is_in_maintenance=True) == "h6"
        await inner(changes, expect=expect)

    world.registry.put_many = met  # type: ignore[method-assign]
    assert await world.agents["h1"].hand_over("h3", is_in_maintenance=True) == "h7"
    await world.replicate()
    assert world.primaries() == ["h1", "h2", "h5", "h6", "h7"]


async def test_it_gives_up_when_others_write_all_the_time() -> None:
    world = await World(5, 2).begin()

    async def always(changes: dict[str, bytes], *, expect: dict[str, int]) -> None:
        raise Conflict("changed")

    world.registry.put_many = always  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="all the time"):
        await world.agents["h1"].reconfigure()
