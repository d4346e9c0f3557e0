"""The simulated registry: majorities, conflicts, watches."""

from __future__ import annotations

import pytest

from tests.sim.small_world import begin, does, small_world
from zugvogel.errors import Conflict, Unreachable
from zugvogel.ports.registry import Change
from zugvogel.sim.registry import MANY_WATCHES, SimRegistry
from zugvogel.sim.world import World


@pytest.fixture
def world() -> World:
    """Three primaries whose agents run."""
    world = small_world(begins=True)
    world.run_until(3.0)
    return world


def of(world: World, host: str) -> SimRegistry:
    return SimRegistry(world.registry, host)


def test_what_one_writes_the_others_read(world: World) -> None:
    revision = does(world, of(world, "h1").put("a/b", b"1"))
    found = does(world, of(world, "h2").get("a/b"))
    assert found is not None
    assert (found.value, found.revision) == (b"1", revision)
    assert [e.key for e in does(world, of(world, "h3").list("a/"))] == ["a/b"]


def test_only_what_was_read_is_changed(world: World) -> None:
    registry = of(world, "h1")
    revision = does(world, registry.put("k", b"1", revision=0))
    with pytest.raises(Conflict):
        does(world, registry.put("k", b"2", revision=0))
    does(world, registry.put("k", b"2", revision=revision))
    with pytest.raises(Conflict):
        does(world, registry.put_many({"k": b"3", "l": b"3"}, expect={"k": revision}))
    assert does(world, registry.get("l")) is None
    assert does(world, registry.delete("k")) is True
    assert does(world, registry.delete("k")) is False


def test_without_a_majority_nothing_is_written_and_stale_reads_go_on(world: World) -> None:
    does(world, of(world, "h1").put("k", b"1"))
    world.wires.part([["h1"]])
    with pytest.raises(Unreachable):
        does(world, of(world, "h1").put("k", b"2"))
    does(world, of(world, "h2").put("k", b"3"))
    stale = does(world, of(world, "h1").get("k", stale_ok=True))
    assert stale is not None
    assert stale.value == b"1"
    world.wires.join()
    fresh = does(world, of(world, "h1").get("k"))
    assert fresh is not None
    assert fresh.value == b"3"


def test_killed_members_count_as_voters(world: World) -> None:
    world.registry.killed.update({"h1", "h2"})
    world.topology_changed()
    with pytest.raises(Unreachable):
        does(world, of(world, "h3").get("k"))


def test_a_watch_tells_changes_in_order_and_breaks_with_the_majority(world: World) -> None:
    seen: list[Change] = []

    async def follow() -> None:
        _, revision = await of(world, "h1").snapshot("")
        async for change in of(world, "h1").watch("w/", after=revision):
            seen.append(change)  # noqa: PERF401 - it never ends

    task = begin(world, follow())
    world.run_until(world.loop.now + 0.5)
    for number in range(20):
        world.registry.write("h2", f"w/{number}", b"x")
    world.run_until(world.loop.now + 1.0)
    assert [c.key for c in seen] == [f"w/{n}" for n in range(20)]
    world.wires.cut(["h1"])
    world.run_until(world.loop.now + 10.0)
    assert isinstance(task.exception(), Unreachable)


def test_many_who_follow_get_changes_in_batches_in_order_and_nothing_twice(world: World) -> None:
    registry = of(world, "h1")
    does(world, registry.put("k0", b""))
    _, revision = does(world, registry.snapshot(""))
    heard: list[list[str]] = [[] for _ in range(MANY_WATCHES)]

    async def follow(number: int) -> None:
        async for change in of(world, "h2").watch("k", after=revision):
            heard[number].append(change.key)

    agent = world.hosts["h2"].agent
    assert agent is not None
    for number in range(MANY_WATCHES):
        agent.domain.spawn(follow(number))
    world.run_until(world.loop.now + 0.001)
    keys = [f"k{number}" for number in range(1, 8)]
    for key in keys:
        does(world, registry.put(key, b""))
    world.run_until(world.loop.now + 1.0)
    assert heard == [keys] * MANY_WATCHES


def test_one_of_many_who_is_cut_off_hears_that_its_watch_broke(world: World) -> None:
    _, revision = does(world, of(world, "h1").snapshot(""))
    ended: list[str] = []

    async def follow(host: str) -> None:
        try:
            async for _ in of(world, host).watch("k", after=revision):
                pass
        except Unreachable:
            ended.append(host)

    for number in range(MANY_WATCHES):
        agent = world.hosts["h3" if number == 0 else "h2"].agent
        assert agent is not None
        agent.domain.spawn(follow(agent.name))
    world.run_until(world.loop.now + 0.001)
    world.wires.part([["h3"]])
    does(world, of(world, "h1").put("k", b""))
    world.run_until(world.loop.now + 1.0)
    assert ended == ["h3"]
