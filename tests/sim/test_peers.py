"""RPC and heartbeats between simulated agents, and the wires between them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.small_world import agent, begin, does, small_world
from zugvogel.errors import DeadlineExceeded, NotFound, Unreachable
from zugvogel.sim.network import GATEWAY, GATEWAY_ADDRESS, SimPinger, Wires
from zugvogel.sim.peers import Noise, SimPeers
from zugvogel.sim.world import World


@pytest.fixture
def world() -> World:
    world = small_world(begins=True)
    world.run_until(5.0)
    return world


def call(world: World, source: str, target: str, command: str, timeout_s: float = 10.0) -> dict[str, Any]:
    peers = SimPeers(world.hosts[source])
    return does(world, peers.call(world.record_of(target), command, {"x": 1}, timeout_s=timeout_s))


def answer(world: World, host: str, command: str, told: dict[str, Any] | Exception) -> None:
    async def handler(payload: dict[str, Any]) -> dict[str, Any]:
        if isinstance(told, Exception):
            raise told
        return {**payload, **told}

    agent(world, host).services.world.handlers[command] = handler


def test_a_call_is_answered_by_the_other_agent(world: World) -> None:
    answer(world, "h2", "test", {"y": 2})
    assert call(world, "h1", "h2", "test") == {"x": 1, "y": 2}


def test_what_the_other_raises_reaches_the_caller_as_itself(world: World) -> None:
    answer(world, "h2", "test", NotFound("there is no such thing", "look elsewhere"))
    with pytest.raises(NotFound, match="no such thing"):
        call(world, "h1", "h2", "test")


def test_a_host_that_is_cut_off_is_not_reached(world: World) -> None:
    world.wires.cut(["h2"])
    with pytest.raises(Unreachable):
        call(world, "h1", "h2", "test")


def test_without_an_agent_the_connection_is_refused_at_once(world: World) -> None:
    world.hosts["h2"].kill_agent()
    began = world.loop.now
    with pytest.raises(Unreachable):
        call(world, "h1", "h2", "test")
    assert world.loop.now - began < 0.1


def test_a_paused_agent_takes_the_call_and_carries_it_out_late(world: World) -> None:
    done: list[float] = []

    async def handler(payload: dict[str, Any]) -> dict[str, Any]:
        done.append(world.loop.now)
        return {}

    agent(world, "h2").services.world.handlers["test"] = handler
    world.hosts["h2"].pause_agent()
    with pytest.raises(DeadlineExceeded):
        call(world, "h1", "h2", "test", 5.0)
    assert done == []
    world.hosts["h2"].resume_agent()
    world.run_until(world.loop.now + 1)
    assert len(done) == 1


def test_an_agent_that_is_killed_breaks_the_calls_it_was_serving(world: World) -> None:
    async def handler(payload: dict[str, Any]) -> dict[str, Any]:
        await world.hosts["h2"].clock.sleep(60)
        return {}

    agent(world, "h2").services.world.handlers["test"] = handler
    peers = SimPeers(world.hosts["h1"])
    calling = begin(world, peers.call(world.record_of("h2"), "test", {}, timeout_s=30))
    world.run_until(world.loop.now + 1)
    world.hosts["h2"].kill_agent()
    world.run_until(world.loop.now + 1)
    assert isinstance(calling.exception(), Unreachable)


def heard(world: World, by: str) -> tuple[str, ...]:
    return agent(world, by).services.heartbeats.hears()


def test_heartbeats_are_heard_and_silence_shows(world: World) -> None:
    assert heard(world, "h1") == ("h2", "h3")
    world.wires.block(["h2"], ["h1"])
    world.run_until(world.loop.now + 10)
    assert (heard(world, "h1"), heard(world, "h2")) == (("h3",), ("h1", "h3"))


def test_lost_doubled_and_late_heartbeats_are_borne() -> None:
    world = small_world(begins=True)
    world.noise = Noise(loss=0.2, duplication=0.2, delay=0.2)
    seen = 0
    for second in range(5, 60):
        world.run_until(float(second))
        seen += len(heard(world, "h1"))
    assert seen > 0.95 * 2 * 55
    assert (world.defects, world.loop.defects) == ([], [])


def test_the_figures_count_what_went_over_the_wires(world: World) -> None:
    before = world.traffic.heartbeats
    world.run_until(world.loop.now + 10)
    assert world.traffic.heartbeats - before == 60
    assert 100 < world.traffic.heartbeat_bytes / world.traffic.heartbeats < 1500


# wires -----------------------------------------------------------------------------------------------


def test_groups_reach_only_themselves_and_the_rest_has_the_gateway() -> None:
    wires = Wires()
    wires.part([["a", "b"]])
    assert wires.connected("a", "b")
    assert not wires.reaches("a", "c")
    assert wires.connected("c", GATEWAY)
    assert not wires.reaches("a", GATEWAY)
    wires.join()
    assert wires.is_whole


def test_one_way_is_one_way() -> None:
    wires = Wires()
    wires.block(["a"], ["b"])
    assert (wires.reaches("a", "b"), wires.reaches("b", "a"), wires.connected("a", "b")) == (False, True, False)


def test_changes_are_told() -> None:
    wires, told = Wires(), list[int]()
    wires.on_change.append(lambda: told.append(1))
    wires.cut(["a"])
    wires.heal(["a"])
    wires.part([["a"]])
    wires.join()
    assert len(told) == 4


def test_the_gateway_answers_unless_the_cable_is_cut(world: World) -> None:
    pinger = SimPinger(world.wires, "h1", world.hosts["h1"].clock, world.is_up_at)
    assert does(world, pinger.ping(GATEWAY_ADDRESS, 0.8)) is True
    assert does(world, pinger.ping(world.hosts["h2"].address, 0.8)) is True
    assert does(world, pinger.ping("198.51.100.99", 0.8)) is False
    world.wires.cut(["h1"])
    assert does(world, pinger.ping(GATEWAY_ADDRESS, 0.8)) is False
