from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.core.facts import definition
from tests.services.operations.cluster_of_two import ClusterOfTwo
from tests.services.operations.test_ha import World
from zugvogel.domain.figures import BeatFigures
from zugvogel.domain.host import Role, Verdict
from zugvogel.domain.task import TaskState
from zugvogel.domain.vm import VmState
from zugvogel.services.operations import figures
from zugvogel.services.operations.figures import FigureOperations
from zugvogel.services.tasks import TaskContext


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    await made.begin()
    for node in made.nodes:
        node.inventory.is_loaded.set()
    return made


def operations(world: World, host: str = "host1") -> FigureOperations:
    node = world.cluster.nodes[host]
    return FigureOperations(node.world, node.operations, world.ha[host], world.known[host].knowledge())


async def test_a_primary_tells_of_the_cluster(world: World) -> None:
    world.cluster.verdicts["host3"] = Verdict.FAILED
    world.known["host1"].owed = {"web1": "waits for room"}
    await world.cluster.add(definition())
    found = await operations(world).figures()
    assert found.is_primary
    assert found.active_primaries == {"nfs1": "host1"}
    assert found.beats == (BeatFigures(datastore="nfs1", is_usable=True, age_s=0.5, latency_s=0.02),)
    assert found.judged is not None
    assert found.judged.verdicts == {"host1": "live", "host2": "live", "host3": "failed"}
    assert found.judged.vms == {VmState.STOPPED: 1}
    assert found.judged.waiting == 1
    assert found.judged.capacity.used_bytes + found.judged.capacity.free_bytes > 0
    assert found.registry.is_loaded
    assert found.registry.is_reachable


async def test_a_secondary_judges_nobody(world: World) -> None:
    await world.make_secondary("host2")
    found = await operations(world, "host2").figures()
    assert not found.is_primary
    assert found.judged is None


async def test_a_registry_out_of_reach_is_told_and_one_that_hangs_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "REGISTRY_S", 0.01)
    world.cluster.registry.is_reachable = False
    assert not (await operations(world).figures()).registry.is_reachable

    async def hang(key: str, *, stale_ok: bool = False) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(world.cluster.registry, "get", hang)
    assert not (await operations(world).figures()).registry.is_reachable


async def test_an_agent_that_knows_no_cluster_yet_has_figures(tmp_path: Path) -> None:
    cluster = ClusterOfTwo(tmp_path)
    world = World(tmp_path)
    node = cluster.nodes["host1"]
    operations = FigureOperations(node.world, node.operations, world.ha["host1"], world.known["host1"].knowledge())
    found = await operations.figures()
    assert not found.is_primary
    assert not found.registry.is_loaded
    assert (await operations.readiness()).causes == ("it has not read the registry yet",)


async def test_tasks_under_way_are_told_by_state_and_as_recent_ones(world: World) -> None:
    go_on = asyncio.Event()

    async def work(ctx: TaskContext) -> None:
        await go_on.wait()

    made, node = operations(world), world.cluster.nodes["host1"]
    task = node.tasks.start("vm.start", "web1", work)
    assert (await made.figures()).tasks == {TaskState.RUNNING: 1}
    assert [t.id for t in await made.recent_tasks()] == [task.id]
    go_on.set()
    await node.end_of(task)
    found = await made.figures()
    assert found.tasks == {}
    assert [(t.kind, t.count) for t in found.counted.tasks] == [("vm.start", 1)]


async def test_recent_events_are_those_of_all_hosts(world: World) -> None:
    one, two = world.cluster.nodes["host1"].events, world.cluster.nodes["host2"].events
    one.emit("vm.started", "web1", "it runs")
    two.emit("vm.stopped", "web2", "it ended")
    await two.drain()
    assert {e.kind for e in await operations(world).recent_events()} == {"vm.started", "vm.stopped"}


@pytest.mark.parametrize(
    ("is_secondary", "heard", "trouble", "causes"),
    [
        (False, ("host2",), "", ()),
        (False, (), "", ("it hears no other host",)),
        (True, ("host1",), "", ()),
        (True, (), "", ("it hears no primary",)),
        (True, (), "it hangs", ("datastore nfs1: it hangs", "it hears no primary")),
    ],
)
async def test_it_is_ready_when_it_beats_and_hears_a_primary(
    world: World, is_secondary: bool, heard: tuple[str, ...], trouble: str, causes: tuple[str, ...]
) -> None:
    me = "host2" if is_secondary else "host1"
    if is_secondary:
        await world.make_secondary("host2")
    world.known[me].heard, world.known[me].trouble = heard, trouble
    found = await operations(world, me).readiness()
    assert found.causes == causes
    assert found.is_ready == (not causes)


async def test_a_secondary_that_hears_only_secondaries_is_not_ready(world: World) -> None:
    await world.make_secondary("host2")
    node = world.cluster.nodes["host2"]
    host3 = node.inventory.host("host3").model_copy(update={"role": Role.SECONDARY})
    await node.inventory.put("hosts/host3", host3)
    world.known["host2"].heard = ("host3",)
    assert (await operations(world, "host2").readiness()).causes == ("it hears no primary",)
