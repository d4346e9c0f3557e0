"""zugvogel.services.suspend.orders, over real files: what a target makes of the orders it finds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.adapters.datastore.conftest import datastore_at, opened
from zugvogel.adapters.clock import SystemClock
from zugvogel.adapters.datastore.store import FileDatastores
from zugvogel.core import lease_rules
from zugvogel.domain.lease import Holder, Lease, LeaseState
from zugvogel.domain.memory import ResumeAnswer, ResumeOrder
from zugvogel.domain.vm import VmDefinition
from zugvogel.errors import Refused
from zugvogel.services.suspend.orders import ResumeOrders

A = Holder(host="host1", boot_id="1")
WEB = VmDefinition(
    name="web",
    uuid="7f2c9a52-64a4-4d6c-9a57-0e6f5f1b8a11",
    memory_bytes=128 << 20,
    cpus=2,
    machine="pc-q35-7.2",
    cpu_model="x86-64-v2",
)
ORDER = ResumeOrder(id="m1", vm="web", source="host1", definition=WEB)
OTHER = ORDER.model_copy(update={"vm": "other"}).model_dump_json().encode()


class Machine:
    def __init__(self) -> None:
        self.is_alive = True

    async def kill(self) -> None:
        self.is_alive = False


class Resumer:
    def __init__(self) -> None:
        self.machines: list[Machine] = []
        self.resumed: list[Any] = []
        self.refusal = ""
        self.before_spawn: Awaitable[None] | None = None

    async def spawn(self, *_of: Any) -> Machine:
        if self.before_spawn is not None:
            await self.before_spawn
        if self.refusal:
            raise Refused(self.refusal)
        self.machines.append(Machine())
        return self.machines[-1]

    async def resume(
        self, vm: str, _datastore: str, _progress: Any, *, machine: Machine, reader: Any, why: str
    ) -> None:
        assert why
        assert reader is None
        self.resumed.append((vm, machine))


class Target:
    """host2 with host1's datastore, and what host1 does there."""

    @classmethod
    async def at(cls, path: Path) -> Target:
        made = cls()
        made.source = await opened(path)
        made.store = FileDatastores("host2", os.getuid(), os.getgid()).open(datastore_at(path))
        made.resumer, made.silent, made.in_care = Resumer(), set[str](), set[str]()
        vms: Any = SimpleNamespace(
            clock=SystemClock(),
            host="host2",
            guests={},
            is_in_care=lambda vm: vm in made.in_care,
            mounted=lambda _name: made.store,
        )
        resumer: Any = made.resumer
        made.orders = ResumeOrders(
            vms, resumer, resumer, lambda: [made.store], lambda _store, host: host in made.silent, _pass
        )
        await made.source.folders.create(WEB)
        await made.source.leases.claim(made.running)
        return made

    source: Any
    store: Any
    resumer: Resumer
    silent: set[str]
    in_care: set[str]
    orders: ResumeOrders
    running = Lease(vm="web", epoch=1, state=LeaseState.RUNNING, holder=A)

    async def order(self, order: ResumeOrder = ORDER) -> None:
        await self.source.orders.give("host2", order.vm, order.model_dump_json().encode())
        await self.look()

    async def look(self) -> None:
        await self.orders.tick()
        await self.orders.looks.over()

    async def answer(self) -> ResumeAnswer:
        async def told() -> bool:
            return await self.source.orders.answer_of("host2", "web") is not None

        await until(told)
        return ResumeAnswer.model_validate_json(await self.source.orders.answer_of("host2", "web"))

    async def suspend(self, memory_id: str) -> None:
        await self.source.leases.claim(lease_rules.suspend(self.running, "web", A, memory_id, why="test"))

    async def ended(self) -> None:
        """The order is carried out or given up."""

        async def is_idle() -> bool:
            return self.orders.reserved() == (0, 0)

        await until(is_idle)


async def _pass(_step: str) -> None:
    """No failpoint."""


async def until(is_so: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not await is_so():  # noqa: ASYNC110 - files are asked
            await asyncio.sleep(0.01)


async def test_an_ordered_vm_is_loaded_when_its_lease_says_suspended(tmp_path: Path) -> None:
    target = await Target.at(tmp_path)
    await target.order()
    assert target.orders.reserved()[0] >= WEB.memory_bytes
    assert target.orders.reserved()[1] == 2
    assert target.orders.reserved(but="web") == (0, 0)
    assert target.orders.reserved(but="other") == target.orders.reserved()
    assert await target.answer() == ResumeAnswer(id="m1")
    assert not target.resumer.resumed
    await target.suspend("m1")
    await target.ended()
    assert target.resumer.resumed == [("web", target.resumer.machines[0])]


async def test_an_order_is_taken_up_once(tmp_path: Path) -> None:
    target = await Target.at(tmp_path)
    await target.order()
    await target.answer()
    await target.suspend("m1")
    await target.ended()
    await target.look()
    assert target.orders.reserved() == (0, 0)
    assert len(target.resumer.machines) == 1


async def test_other_memory_than_the_ordered_is_not_loaded(tmp_path: Path) -> None:
    target = await Target.at(tmp_path)
    await target.order()
    await target.answer()
    await target.suspend("m2")
    await asyncio.sleep(0.2)
    assert not target.resumer.resumed
    await target.source.orders.take_back("host2", "web")
    await target.ended()
    assert not target.resumer.resumed


async def test_an_order_taken_back_ends_the_waiting_qemu(tmp_path: Path) -> None:
    target = await Target.at(tmp_path)
    await target.order()
    await target.answer()
    await target.source.orders.take_back("host2", "web")
    await target.ended()
    assert not target.resumer.machines[0].is_alive
    assert not target.resumer.resumed


async def test_an_answer_after_its_order_was_taken_back_does_not_stay(tmp_path: Path) -> None:
    target = await Target.at(tmp_path)
    target.resumer.before_spawn = target.source.orders.take_back("host2", "web")
    await target.order()
    await target.ended()
    assert await target.source.orders.answer_of("host2", "web") is None
    assert not target.resumer.machines[0].is_alive


async def test_a_source_that_falls_silent_is_not_waited_for(tmp_path: Path) -> None:
    target = await Target.at(tmp_path)
    await target.order()
    await target.answer()
    target.silent.add("host1")
    await target.ended()
    assert not target.resumer.machines[0].is_alive
    assert await target.store.orders.given("host2") == {}


async def test_what_stands_in_the_way_is_answered(tmp_path: Path) -> None:
    target = await Target.at(tmp_path)
    target.resumer.refusal = "no room for it"
    await target.order()
    assert "no room" in (await target.answer()).why
    await target.ended()
    target.in_care.add("web")
    target.resumer.refusal = ""
    await target.source.orders.take_back("host2", "web")
    await target.order(ORDER.model_copy(update={"id": "m2"}))
    assert "still has something of web" in (await target.answer()).why
    assert not target.resumer.machines


@pytest.mark.parametrize("raw", [b"{}", b"no json", OTHER])
async def test_an_order_that_is_not_understood_is_left_alone(tmp_path: Path, raw: bytes) -> None:
    target = await Target.at(tmp_path)
    await target.source.orders.give("host2", "web", raw)
    await target.look()
    assert target.orders.reserved() == (0, 0)
    assert not target.resumer.machines
