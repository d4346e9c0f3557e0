"""A host that is cut off, over real heartbeats of several nodes on a manual clock; the pinger is a fake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from tests.services.liveness_world import Node, World
from zugvogel.domain.task import Event
from zugvogel.services.events import EventLog
from zugvogel.services.ha.isolation import Isolation

GATEWAY = "192.0.2.254"


class Network:
    """A pinger. `answers`: whether an address answers now."""

    def __init__(self, answers: Callable[[str], bool]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.gateway: str | None = GATEWAY
        self.waits: asyncio.Event | None = None

    async def ping(self, address: str, timeout_s: float) -> bool:
        assert timeout_s < 1.0
        self.asked.append(address)
        if self.waits is not None:
            await self.waits.wait()
        return self.answers(address)

    def default_gateway(self) -> str | None:
        return self.gateway


class IsolationWorld(World):
    """h3 judges itself. While it is cut off no address answers it, unless `answering`."""

    def __init__(self, hosts: int = 3, primaries: int = 5, further: tuple[str, ...] = ()) -> None:
        super().__init__(hosts, primaries)
        self.name = f"h{hosts}"
        self.further = further
        self.uses_gateway = self.is_ticking = True
        self.answering: set[str] = {GATEWAY, *further}
        self.pinger = Network(lambda address: address in self.answering and self.name not in self.cut)
        self.events = EventLog(self.name, cast(Any, None), self.clock)
        self.isolation = Isolation(
            self.name, self.clock, pinger=self.pinger, heartbeats=self.nodes[self.name].heartbeats,
            events=self.events, hosts=lambda: self.hosts, interval_s=lambda: 1.0,
            detection_time_ms=lambda: 15000, addresses=lambda: self.further,
            uses_gateway=lambda: self.uses_gateway,
        )  # fmt: skip

    async def tick(self, node: Node) -> None:
        await super().tick(node)
        if node.name == self.name and self.is_ticking:
            node.is_isolated = self.isolation.is_isolated()
            await self.isolation.tick()

    def told(self) -> list[Event]:
        return list(self.events._recent)

    async def until_isolated(self, most_s: int = 40) -> int:
        for passed in range(most_s):
            if self.isolation.is_isolated():
                return passed
            await self.pass_time(1)
        raise AssertionError(self.isolation.why())


@pytest.mark.parametrize("primaries", [5, 1])
async def test_a_host_that_is_cut_off_is_isolated_at_twelve_fifteenths_of_t(primaries: int) -> None:
    """A secondary too: it hears the primaries."""
    world = IsolationWorld(primaries=primaries)
    await world.pass_time(10)
    world.cut = {"h3"}
    assert await world.until_isolated() == 12
    await world.pass_time(100)
    assert world.isolation.is_isolated()
    (event,) = world.told()
    assert (event.kind, event.subject, event.evidence["quiet_s"]) == ("host.isolated", "h3", 12.0)
    assert event.evidence["ever_answered"] == [GATEWAY]
    assert event.message == f"h3 is isolated: {event.message.split(': ', 1)[1]}"
    assert world.nodes["h1"].beats.seen("ds")["h3"].beat.is_isolated


async def test_back_just_before_the_threshold_it_never_was() -> None:
    world = IsolationWorld()
    await world.pass_time(10)
    world.cut = {"h3"}
    await world.pass_time(11)
    world.cut = set()
    await world.pass_time(30)
    assert world.told() == []
    assert not world.isolation.is_isolated()


async def test_one_heartbeat_ends_it_at_once() -> None:
    world = IsolationWorld()
    await world.pass_time(10)
    world.cut = {"h3"}
    await world.until_isolated()
    world.answering = set()
    world.cut = set()
    world.clock.now += 0.5
    await world.nodes["h1"].heartbeats.tick()
    assert not world.isolation.is_isolated()
    await world.pass_time(1)
    assert [e.kind for e in world.told()] == ["host.isolated", "host.isolation-ended"]
    assert world.told()[-1].evidence["sign"] == "an agent was heard"


async def test_one_answer_of_one_address_ends_it_at_once() -> None:
    world = IsolationWorld(further=("192.0.2.200", "192.0.2.201"))
    await world.pass_time(10)
    world.dead = {"h1", "h2"}
    world.answering = set()
    assert await world.until_isolated() == 12
    world.answering = {"192.0.2.201"}
    await world.pass_time(1)
    assert not world.isolation.is_isolated()
    await world.pass_time(1)
    assert world.told()[-1].evidence["sign"] == "an isolation address answered"


async def test_while_an_address_answers_the_last_host_alive_is_not_isolated() -> None:
    world = IsolationWorld()
    await world.pass_time(10)
    world.dead = {"h1", "h2"}
    await world.pass_time(100)
    assert not world.isolation.is_isolated()
    assert "the last sign from outside came" in world.isolation.why()
    world.answering = set()
    assert await world.until_isolated() == 12


@pytest.mark.parametrize("never", ["nothing answers", "no address"])
async def test_without_an_address_that_ever_answered_it_never_is(never: str) -> None:
    world = IsolationWorld()
    if never == "nothing answers":
        world.answering = set()
    else:
        world.uses_gateway = False
    await world.pass_time(40)
    world.cut = {"h3"}
    await world.pass_time(100)
    assert not world.isolation.is_isolated()
    assert "no isolation address has ever answered" in world.isolation.why()


async def test_a_gateway_that_was_turned_off_in_the_settings_tells_nothing() -> None:
    world = IsolationWorld()
    await world.pass_time(10)
    world.uses_gateway = False
    world.cut = {"h3"}
    await world.pass_time(60)
    assert not world.isolation.is_isolated()


async def test_a_route_that_vanished_with_the_interface_is_remembered() -> None:
    world = IsolationWorld()
    await world.pass_time(10)
    world.cut = {"h3"}
    world.pinger.gateway = None
    assert await world.until_isolated() == 12


async def test_alone_in_the_cluster_it_asks_nobody_and_is_not_isolated() -> None:
    world = IsolationWorld(hosts=1)
    await world.pass_time(60)
    assert world.pinger.asked == []
    assert not world.isolation.is_isolated()


async def test_a_paused_agent_begins_to_count_when_it_wakes_up() -> None:
    world = IsolationWorld()
    await world.pass_time(10)
    world.paused = {"h3"}
    world.cut = {"h3"}
    await world.pass_time(60)
    world.paused = set()
    assert not world.isolation.is_isolated()
    await world.pass_time(1)
    assert await world.until_isolated() == 12


async def test_a_gap_of_its_own_ticks_alone_begins_the_count_anew() -> None:
    world = IsolationWorld()
    await world.pass_time(10)
    world.is_ticking = False
    world.cut = {"h3"}
    await world.pass_time(11)
    world.is_ticking = True
    await world.pass_time(1)
    assert await world.until_isolated() == 12


async def test_an_isolated_host_that_is_paused_does_not_go_by_what_it_found_before() -> None:
    world = IsolationWorld()
    await world.pass_time(10)
    world.cut = {"h3"}
    await world.until_isolated()
    world.paused = {"h3"}
    await world.pass_time(20)
    assert not world.isolation.is_isolated()
    world.paused = set()
    await world.pass_time(1)
    assert "did not run" in world.told()[-1].evidence["sign"]
    assert await world.until_isolated() == 12


async def test_it_asks_seldom_while_agents_are_heard_and_each_interval_when_not() -> None:
    world = IsolationWorld(further=("192.0.2.200",))
    await world.pass_time(95)
    assert world.pinger.asked == [GATEWAY, "192.0.2.200"] * 4
    world.pinger.asked.clear()
    world.cut = {"h3"}
    await world.pass_time(12)
    assert world.pinger.asked == [GATEWAY, "192.0.2.200"] * 10


async def test_a_round_that_does_not_end_is_not_doubled_and_proves_nothing() -> None:
    world = IsolationWorld()
    await world.pass_time(10)
    world.pinger.asked.clear()
    world.pinger.waits = asyncio.Event()
    world.cut = {"h3"}
    await world.pass_time(30)
    assert world.pinger.asked == [GATEWAY]
    assert not world.isolation.is_isolated()
    world.pinger.waits.set()
    await world.until_isolated()
