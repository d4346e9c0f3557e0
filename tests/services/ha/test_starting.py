"""services.ha.starting: what runs by an order is handed on with what the judge knew of it."""

from __future__ import annotations

from tests.services.ha.conftest import Make, web_lost
from tests.services.ha.failover_world import World
from zugvogel.domain.ha import StartOrder


def orders(world: World, vm: str) -> list[tuple[str, StartOrder]]:
    return [(node.name, order) for node in world.nodes.values() for order, _ in node.ran if order.vm == vm]


async def test_a_vm_that_runs_is_told_once_with_the_time_it_was_down(make: Make) -> None:
    world = await web_lost(make)
    world.beat_ages_s["h1"] = 15.5
    await world.pass_time(30)
    ((host, order),) = orders(world, "web")
    assert [host] == world.running("web")
    assert order.down_s is not None
    assert 15.5 <= order.down_s <= 17.5


async def test_the_time_goes_on_while_the_start_fails(make: Make) -> None:
    world = await make()
    await world.add("web")
    for node in world.nodes.values():
        node.start_failure = "no"
    world.fail("h1")
    await world.pass_time(100)
    assert orders(world, "web") == []
    for node in world.nodes.values():
        node.start_failure = ""
    await world.pass_time(60)
    ((_, order),) = orders(world, "web")
    assert order.down_s is not None
    assert 100 <= order.down_s <= 160


async def test_a_vm_that_failed_again_is_down_since_then(make: Make) -> None:
    world = await web_lost(make)
    await world.pass_time(100)
    world.machine("web").end()
    await world.pass_time(20)
    first, second = orders(world, "web")
    assert first[0] == second[0]
    assert second[1].down_s is not None
    assert second[1].down_s < 5


async def test_an_order_that_starts_nothing_is_not_told(make: Make) -> None:
    world = await make()
    await world.add("web")
    world.locks.add("web")
    world.fail("h1")
    await world.pass_time(60)
    assert orders(world, "web") == []


async def test_the_host_is_told_how_long_it_took_itself(make: Make) -> None:
    world = await make()
    await world.add("web")
    world.locks.add("web")
    world.fail("h1")
    await world.pass_time(2)
    world.locks.clear()
    await world.pass_time(3)
    ((_, took_s),) = [ran for node in world.nodes.values() for ran in node.ran]
    assert 0 < took_s <= 3
