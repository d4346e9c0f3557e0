from __future__ import annotations

import asyncio
from collections.abc import Generator

import pytest

from tests.core.facts import GIB, definition, status
from tests.fakes.registry import MemoryRegistry
from tests.services.liveness_world import ManualClock
from zugvogel.core import admission
from zugvogel.core.failure_plan import Load
from zugvogel.domain.ha import Capacity
from zugvogel.domain.host import HostStatus, Verdict, VmReport
from zugvogel.domain.vm import VmRecord, VmState
from zugvogel.services.ha.admission import KEPT, Admission
from zugvogel.services.inventory import Inventory

STEP_S = 0.1
Steps = Generator[None, None, Capacity]


class World:
    """Three hosts, and a clock by which each step takes a while."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = ManualClock()
        self.inventory = Inventory(MemoryRegistry(), self.clock, [])
        self.room = Admission(self.inventory, self.clock)
        self.statuses = [status(f"host{n}", n) for n in (1, 2, 3)]
        self.found = 0
        find = admission.capacity_steps

        def counted(load: Load, level: int) -> Steps:
            self.found += 1
            self.clock.now += STEP_S
            return find(load, level)

        monkeypatch.setattr(admission, "capacity_steps", counted)

    async def begin(self) -> World:
        await self.inventory.set_setting("das.enabled", True)
        await self.inventory.set_setting("das.failoverlevel", 1)
        record = VmRecord(definition=definition(nics=()), datastore="nfs1")
        await self.inventory.put("vms/web1", record)
        return self

    async def used_gib(self) -> float:
        return (await self.room.capacity(self.statuses)).used_bytes / GIB

    def run(self, host: int, *vms: str) -> None:
        before: HostStatus = self.statuses[host - 1]
        assert before.report is not None
        seen = tuple(VmReport(name=vm, state=VmState.RUNNING, epoch=1, memory_bytes=2 * GIB, cpus=1) for vm in vms)
        self.statuses[host - 1] = before.model_copy(
            update={"report": before.report.model_copy(update={"vms": seen})}
        )


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return await World(monkeypatch).begin()


async def test_it_is_the_same_as_found_at_once(world: World) -> None:
    world.run(1, "web1")
    found = await world.room.capacity(world.statuses)
    assert found == admission.capacity(world.room._load(world.statuses), 1)
    assert found.used_bytes > 2 * GIB


async def test_while_nothing_changes_it_is_found_once(world: World) -> None:
    for _ in range(3):
        await world.used_gib()
        world.clock.now += 1000
    assert world.found == 1


async def test_changed_vms_count_after_a_while_and_changed_hosts_at_once(world: World) -> None:
    before = await world.used_gib()
    world.run(1, "web1")
    assert await world.used_gib() == before
    world.clock.now += (KEPT + 1) * STEP_S
    assert await world.used_gib() > before
    world.run(2, "web1")
    world.statuses[2] = world.statuses[2].model_copy(update={"verdict": Verdict.FAILED})
    await world.used_gib()
    assert world.found == 3


async def test_a_changed_setting_counts_at_once(world: World) -> None:
    assert (await world.room.capacity(world.statuses)).reserved_bytes > 0
    await world.inventory.set_setting("das.enabled", False)
    assert (await world.room.capacity(world.statuses)).reserved_bytes == 0


async def test_all_who_ask_at_once_get_one_answer(world: World) -> None:
    one, other = await asyncio.gather(world.room.capacity(world.statuses), world.room.capacity(world.statuses))
    assert one is other
    assert world.found == 1


async def test_others_get_their_turn_between_the_steps(world: World) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    await world.used_gib()
    beside.cancel()
    assert turns >= 3, "one for each failure that is tried"
