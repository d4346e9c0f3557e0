"""services.ha.held_locks, and failover with it: a vm whose image lock is held keeps its host, and its memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.core.facts import definition
from tests.services.ha.conftest import Make
from tests.services.ha.failover_world import DS, World
from zugvogel.domain.ha import Proof
from zugvogel.domain.lease import LeaseState
from zugvogel.domain.vm import Disk
from zugvogel.errors import DeadlineExceeded, StorageError
from zugvogel.services.ha.held_locks import is_any_held

DISKS = (Disk(file="a.raw", format="raw", size_bytes=1),)


async def hanging(make: Make, **more: Any) -> World:
    """h1 gives no sign of life; its QEMU stands still and holds the lock of its disk."""
    world: World = await make(**more)
    await world.add("web", disks=DISKS)
    world.machine("web").is_frozen = True
    world.locks.add("web")
    world.judge_failed("h1")
    return world


def states(world: World) -> list[LeaseState]:
    return [lease.state for lease in world.files.leases["web"]]


async def test_a_host_that_hangs_keeps_its_vm_until_it_goes_on(make: Make) -> None:
    world = await hanging(make)
    await world.pass_time(200)
    assert states(world) == [LeaseState.RUNNING]
    (waits,) = await world.told("vm.restart-waits")
    assert "there is no sign of life of h1 on nfs1, but a process has a disk of it open" in waits.message
    assert waits.evidence == {"waits_for": "the lock of its disk", "datastore": DS}
    assert world.nodes["h2"].failover.why_waiting("web") in waits.message
    del world.verdicts["h1"]
    world.silent.clear()
    world.machine("web").is_frozen = False
    await world.pass_time(30)
    assert states(world) == [LeaseState.RUNNING]
    assert world.running("web") == ["h1"]
    assert await world.told("vm.restart-ordered") == []


async def test_it_is_restarted_as_soon_as_the_lock_is_gone(make: Make) -> None:
    world = await hanging(make)
    await world.pass_time(30)
    world.power_off("h1")
    world.locks.clear()
    await world.pass_time(5)
    assert world.running("web") == ["h2"]
    assert states(world) == [LeaseState.RUNNING, LeaseState.RELEASED, LeaseState.RUNNING]


@pytest.mark.parametrize("proof", [Proof.GUARD, Proof.LOCK])
async def test_a_lock_counts_only_where_it_is_the_proof(make: Make, proof: Proof) -> None:
    world = await hanging(make, proof=proof)
    await world.pass_time(3)
    assert (states(world) == [LeaseState.RUNNING]) is (proof is Proof.LOCK)


async def test_a_lock_that_cannot_be_looked_at_is_left_to_the_start(make: Make) -> None:
    world = await hanging(make)
    world.lock_failure = StorageError("it does not permit this")
    await world.pass_time(30)
    assert LeaseState.RELEASED in states(world)
    assert world.running("web") == ["h1"]
    world.locks.clear()
    world.power_off("h1")
    await world.pass_time(30)
    assert len(world.running("web")) == 1


async def test_a_lock_that_is_not_told_in_time_is_asked_for_again(make: Make) -> None:
    world = await hanging(make)
    world.power_off("h1")
    world.locks.clear()
    world.lock_failure = DeadlineExceeded("the datastore hangs")
    await world.pass_time(30)
    assert states(world) == [LeaseState.RUNNING]
    world.lock_failure = None
    await world.pass_time(5)
    assert len(world.running("web")) == 1


@pytest.mark.parametrize(
    ("held", "is_held", "asked"),
    [
        ({"a.raw"}, True, ["a.raw"]),
        ({"b.raw"}, True, ["a.raw", "b.raw"]),
        ({"seed.raw"}, False, ["a.raw", "b.raw"]),
    ],
)
async def test_each_disk_that_is_written_to_is_looked_at_until_one_is_held(
    held: set[str], is_held: bool, asked: list[str]
) -> None:
    seen: list[str] = []

    async def may_be_written(vm: str, file: str) -> bool:
        assert vm == "web"
        seen.append(file)
        return file in held

    disks = [
        Disk(file=file, format="raw", size_bytes=1, is_readonly=file == "seed.raw")
        for file in ("a.raw", "seed.raw", "b.raw")
    ]
    folders: Any = SimpleNamespace(may_be_written=may_be_written)
    assert await is_any_held(folders, definition(name="web", disks=disks)) is is_held
    assert seen == asked
