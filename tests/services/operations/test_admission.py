"""Starts and new vms that would take the room kept for failures of hosts (das.failoverlevel)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.facts import GIB, definition
from tests.services.operations.cluster_of_two import ClusterOfTwo
from zugvogel.domain.host import HostStatus
from zugvogel.domain.requests import CreateVm, StartVm
from zugvogel.domain.task import TaskState
from zugvogel.errors import Refused, Unreachable


@pytest.fixture
async def cluster(tmp_path: Path) -> ClusterOfTwo:
    """Three hosts with 16 GiB each."""
    found = ClusterOfTwo(tmp_path)
    await found.begin()
    await found.add(definition(name="huge", nics=(), memory_bytes=15 * GIB))
    for node in found.nodes.values():
        await node.inventory.set_setting("das.enabled", True)
        await node.inventory.set_setting("das.failoverlevel", 3)
    return found


async def test_a_start_that_takes_it_is_refused_with_the_figures(cluster: ClusterOfTwo) -> None:
    one = cluster.nodes["host1"]
    with pytest.raises(Refused, match=r"huge has 15\.00 GiB of memory, and no vm may be started") as refused:
        await one.operations.start_vm("huge", StartVm())
    assert "--force" in refused.value.next_step


async def test_a_forced_start_is_told(cluster: ClusterOfTwo) -> None:
    one = cluster.nodes["host1"]
    await one.operations.start_vm("huge", StartVm(is_forced=True))
    (told,) = [e for e in await one.events.list() if e.kind == "ha.admission-overridden"]
    assert "huge was started although" in told.message


@pytest.mark.parametrize("setting", ["das.enabled", "das.failoverlevel"])
async def test_without_it_nothing_is_refused(cluster: ClusterOfTwo, setting: str) -> None:
    one = cluster.nodes["host1"]
    await one.inventory.set_setting(setting, False if setting == "das.enabled" else 0)
    await one.operations.start_vm("huge", StartVm())
    assert [e for e in await one.events.list() if e.kind == "ha.admission-overridden"] == []


async def test_what_leaves_enough_is_started(cluster: ClusterOfTwo) -> None:
    one = cluster.nodes["host1"]
    await one.inventory.set_setting("das.failoverlevel", 1)
    await one.operations.start_vm("huge", StartVm())


# new vms --------------------------------------------------------------------------------------------------


def new(gib: int, *, is_forced: bool = False) -> CreateVm:
    return CreateVm(name="new", memory_bytes=gib * GIB, cpus=1, networks=(), is_forced=is_forced)


@pytest.mark.parametrize(
    ("gib", "told"),
    [
        (15, "new has 15.00 GiB of memory, and no vm may be started now"),
        (500, "new cannot be started: no host can take it: host1 lacks 484.06 GiB of memory"),
    ],
)
async def test_a_vm_that_could_not_be_kept_restartable_is_not_made(
    cluster: ClusterOfTwo, gib: int, told: str
) -> None:
    one = cluster.nodes["host1"]
    with pytest.raises(Refused) as refused:
        await one.operations.create_vm(new(gib))
    assert told in refused.value.cause
    assert "zv vm create new --force" in refused.value.next_step
    assert await one.tasks.list() == []


@pytest.mark.parametrize("gib", [15, 500])
async def test_a_forced_one_is_made_and_this_is_told(cluster: ClusterOfTwo, gib: int) -> None:
    one = cluster.nodes["host1"]
    task = await one.end_of(await one.operations.create_vm(new(gib, is_forced=True)))
    assert task.state is TaskState.DONE
    (told,) = [e for e in await one.events.list() if e.kind == "ha.admission-overridden"]
    assert told.message.startswith("new was created although new ")


async def test_one_that_leaves_enough_is_made(cluster: ClusterOfTwo) -> None:
    one = cluster.nodes["host1"]
    await one.inventory.set_setting("das.failoverlevel", 1)
    task = await one.end_of(await one.operations.create_vm(new(15)))
    assert task.state is TaskState.DONE
    assert [e for e in await one.events.list() if e.kind == "ha.admission-overridden"] == []


async def test_without_high_availability_nothing_is_asked(cluster: ClusterOfTwo) -> None:
    one = cluster.nodes["host1"]
    await one.inventory.set_setting("das.enabled", False)
    assert (await one.end_of(await one.operations.create_vm(new(500)))).state is TaskState.DONE


async def test_where_nobody_tells_of_the_hosts_only_a_forced_one_is_made(cluster: ClusterOfTwo) -> None:
    one = cluster.nodes["host1"]

    async def statuses() -> list[HostStatus]:
        raise Unreachable("no primary answers")

    one.world.statuses = statuses
    with pytest.raises(Unreachable):
        await one.operations.create_vm(new(1))
    assert (await one.end_of(await one.operations.create_vm(new(1, is_forced=True)))).state is TaskState.DONE
