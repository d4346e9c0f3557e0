"""Maintenance: a host is emptied by the moves a user has, and filled again on request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.core.facts import definition, status
from tests.fakes.registry import MemoryRegistry
from tests.services.test_tasks import FastClock
from zugvogel.domain.host import HostStatus, Role, Verdict
from zugvogel.domain.requests import ChangeHost, Maintenance, MigrateVm
from zugvogel.domain.task import Task, TaskState
from zugvogel.domain.vm import VmRecord, VmState, VmView
from zugvogel.errors import NotFound, Refused, Unreachable
from zugvogel.services.events import EventLog
from zugvogel.services.ha.maintenance import Evacuation
from zugvogel.services.ha.roles import Roles
from zugvogel.services.inventory import Inventory
from zugvogel.services.operations.hosts import HostOperations
from zugvogel.services.operations.world import World
from zugvogel.services.tasks import TaskBoard, TaskCancelled, TaskContext

ON, OFF = Maintenance(is_on=True), Maintenance(is_on=False)


class Moving:
    """Vms and the moves of them. `refused`, `failing`: (vm, mode) -> cause. `gate`: moves wait for it.
    `verdict_of`: of a target that is named, as the agent that plans the move sees it."""

    def __init__(self, board: TaskBoard) -> None:
        self.board = board
        self.at: dict[str, str] = {}
        self.refused: dict[tuple[str, str], str] = {}
        self.failing: dict[tuple[str, str], str] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun: list[tuple[str, str, str | None]] = []
        self.now: set[str] = set()
        self.most = 0
        self.away = 0
        self.verdict_of: Callable[[str], Awaitable[Verdict]] | None = None

    def _view(self, name: str) -> VmView:
        return VmView(
            name=name, host=self.at[name], state=VmState.RUNNING, memory_bytes=1, cpus=1, datastore="nfs1",
            addresses=(), mac="", macs=(), networks=(), wanted="running", epoch=1, why="",
            definition=definition(name=name),
        )  # fmt: skip

    async def vms(self) -> list[VmView]:
        return [self._view(n) for n in sorted(self.at)]

    async def vm(self, name: str) -> VmView:
        if name not in self.at:
            raise NotFound(f"there is no vm {name}")
        return self._view(name)

    async def migrate_vm(self, name: str, request: MigrateVm) -> Task:
        self.begun.append((name, request.mode, request.target))
        if cause := self.refused.get((name, request.mode)):
            raise Refused(cause)
        if self.verdict_of and request.target and (verdict := await self.verdict_of(request.target)) != "live":
            raise Refused(f"{request.target} is {verdict}", "choose a live host")

        async def work(ctx: TaskContext) -> dict[str, Any]:
            self.now.add(name)
            self.most = max(self.most, len(self.now))
            try:
                await self._wait(ctx)
            finally:
                self.now.discard(name)
            if cause := self.failing.get((name, request.mode)):
                raise Refused(cause)
            self.at[name] = request.target or "host2"
            return {}

        return self.board.start("vm.migrate", name, work, is_cancellable=True)

    async def _wait(self, ctx: TaskContext) -> None:
        opened = asyncio.ensure_future(self.gate.wait())
        called_off = asyncio.ensure_future(ctx.cancel_requested.wait())
        await asyncio.wait({opened, called_off}, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (opened, called_off):
            waiting.cancel()
        if not self.gate.is_set():
            raise TaskCancelled("untouched")
        await asyncio.sleep(0)

    async def task(self, task_id: str, *, since: int = -1, wait_s: float = 0.0) -> Task:
        if self.away:
            self.away -= 1
            raise Unreachable("its owner does not answer")
        return await self.board.wait(task_id, since, wait_s)

    async def cancel_task(self, task_id: str) -> Task:
        return self.board.cancel(task_id)


class Site:
    """host1 to host6, five of them primaries, all live; this agent is host2's. `lags`: so many more looks at the
    hosts show host1 in maintenance; the fifth from the end finds no primary."""

    def __init__(self) -> None:
        clock = FastClock()
        self.registry = MemoryRegistry()
        self.inventory = Inventory(self.registry, clock, [])
        self.tasks = TaskBoard("host2", self.registry, clock)
        self.events = EventLog("host2", self.registry, clock)
        self.verdicts: dict[str, Verdict] = {}
        self.lags = 0.0
        self.moving = Moving(self.tasks)
        self.calls: list[tuple[str, str]] = []
        self.world = World(
            me="host2", registry=self.registry, inventory=self.inventory, tasks=self.tasks, events=self.events,
            peers=self, clock=clock, vms=cast(Any, SimpleNamespace()), datastores=cast(Any, SimpleNamespace()),
            mounted=cast(Any, None), statuses=self.statuses,
        )  # fmt: skip
        roles = Roles(
            "host2", registry=self.registry, inventory=self.inventory, events=self.events, clock=clock,
            statuses=self.statuses,
        )  # fmt: skip
        self.operations = HostOperations(self.world, self.moving, roles)
        self.evacuation = Evacuation(self.moving, self.registry, clock, lambda: 2)

    async def begin(self, *vms: str) -> Site:
        for number in range(1, 7):
            host = status(f"host{number}", number).host
            if number == 6:
                host = host.model_copy(update={"role": Role.SECONDARY})
            await self.inventory.put(f"hosts/{host.name}", host)
        self.moving.at = dict.fromkeys(vms, "host1")
        return self

    async def verdict_of(self, name: str) -> Verdict:
        return (await self.world.status_of(name)).verdict

    async def statuses(self) -> list[HostStatus]:
        if self.lags > 0:
            self.lags -= 1
            if self.lags == 4:
                raise Unreachable("no primary answers")
            return [status("host1", 1).model_copy(update={"verdict": Verdict.MAINTENANCE})]
        return [
            status(h.name, h.ordinal).model_copy(
                update={"host": h, "verdict": self.verdicts.get(h.name, Verdict.LIVE)}
            )
            for h in self.inventory.hosts()
        ]

    async def call(self, host: Any, command: str, payload: dict[str, Any], *, timeout_s: float = 10.0) -> Any:
        self.calls.append((host.name, command))
        return {}

    async def ended(self, task: Task) -> Task:
        while not task.state.is_final:
            task = await self.tasks.wait(task.id, task.version, 10.0)
        await self.inventory._load()
        return task

    async def maintain(self, request: Maintenance) -> Task:
        return await self.ended(await self.operations.maintain_host("host1", request))

    def outcome(self, task: Task) -> dict[str, tuple[str, str]]:
        assert task.report is not None
        return {m["vm"]: (m["result"], m["how"]) for m in task.report["vms"]}

    async def remembered(self) -> tuple[str, ...]:
        return (await self.evacuation.remembered("host1")).vms


async def come_true(condition: Callable[[], bool]) -> None:
    while True:
        if condition():
            return
        await asyncio.sleep(0)


async def test_the_host_is_emptied_and_hands_its_role_over() -> None:
    site = await Site().begin("web1", "web2", "web3")
    site.moving.at["web4"] = "host3"
    task = await site.maintain(ON)
    assert task.state is TaskState.DONE
    assert task.report is not None
    assert (task.report["successor"], task.report["is_in_maintenance"]) == ("host6", True)
    assert site.outcome(task) == dict.fromkeys(("web1", "web2", "web3"), ("moved", "live"))
    assert site.inventory.host("host1").is_in_maintenance
    assert site.inventory.host("host1").role is Role.SECONDARY
    assert sorted(await site.remembered()) == ["web1", "web2", "web3"]
    assert site.moving.at["web4"] == "host3"
    assert task.progress.fraction == 1.0
    assert task.progress.message == "3 of 3 vms moved"
    assert (task.progress.detail["done"], task.progress.detail["total"]) == (3, 3)


async def test_no_more_than_allowed_move_at_a_time_and_the_task_tells_which() -> None:
    site = await Site().begin(*(f"web{n}" for n in range(1, 6)))
    site.moving.gate.clear()
    task = await site.operations.maintain_host("host1", ON)
    await come_true(lambda: len(site.moving.now) == 2)
    shown = site.tasks.local(task.id).progress
    assert shown.message == "0 of 5 vms moved; now web1, web2"
    assert {vm: m["how"] for vm, m in shown.detail["moving"].items()} == {"web1": "live", "web2": "live"}
    site.moving.gate.set()
    await site.ended(task)
    assert site.moving.most == 2


async def test_what_cannot_be_moved_stays_and_is_reported() -> None:
    site = await Site().begin("web1", "web2")
    site.moving.refused["web1", "live"] = "no host can take it: host2 lacks 3.00 GiB of memory"
    task = await site.maintain(ON)
    assert task.state is TaskState.FAILED
    assert task.error is not None
    assert "1 of 2 vms stay on host1: web1: live: no host can take it" in task.error.cause
    assert site.outcome(task) == {"web1": ("stayed", ""), "web2": ("moved", "live")}
    assert site.inventory.host("host1").is_in_maintenance, "it stays in maintenance: nothing is placed there"
    del site.moving.refused["web1", "live"]
    again = await site.maintain(ON)
    assert (again.state, site.outcome(again)) == (TaskState.DONE, {"web1": ("moved", "live")})
    assert sorted(await site.remembered()) == ["web1", "web2"], "going on forgets nothing"


@pytest.mark.parametrize("how", ["refused", "failing"])
async def test_the_fallback_is_the_users_choice(how: str) -> None:
    site = await Site().begin("web1")
    getattr(site.moving, how)["web1", "live"] = "its link runs at 100 Mbit/s"
    task = await site.maintain(Maintenance(is_on=True, is_quick_fallback=True))
    assert site.outcome(task) == {"web1": ("moved", "quick")}
    assert [mode for _, mode, _ in site.moving.begun] == ["live", "live", "quick"]


async def test_called_off_it_takes_vms_again_and_what_has_moved_stays_away() -> None:
    site = await Site().begin("web1", "web2", "web3")
    task = await site.operations.maintain_host("host1", ON)
    await come_true(lambda: site.moving.at["web1"] != "host1")
    site.moving.gate.clear()
    site.tasks.cancel(task.id)
    task = await site.ended(task)
    assert task.state is TaskState.CANCELLED
    assert not site.inventory.host("host1").is_in_maintenance
    assert "web1" in await site.remembered()
    assert not site.moving.now


async def test_a_call_off_ends_the_moves_under_way() -> None:
    site = await Site().begin("web1", "web2", "web3")
    site.moving.gate.clear()
    task = await site.operations.maintain_host("host1", ON)
    await come_true(lambda: len(site.moving.now) == 2)
    site.tasks.cancel(task.id)
    task = await site.ended(task)
    assert task.error is not None
    assert task.error.cause == "called off; 0 of 3 vms had moved; host1 is not in maintenance"
    assert len(site.moving.begun) == 2
    assert set(site.moving.at.values()) == {"host1"}


async def test_a_move_whose_owner_is_silent_for_a_while_is_waited_for() -> None:
    site = await Site().begin("web1")
    site.moving.away = 5
    assert site.outcome(await site.maintain(ON)) == {"web1": ("moved", "live")}


async def test_vms_come_back_on_request() -> None:
    site = await Site().begin("web1", "web2", "web3")
    await site.maintain(ON)
    del site.moving.at["web2"]
    site.moving.refused["web3", "live"] = "host1 lacks 1.00 GiB of memory"
    task = await site.maintain(Maintenance(is_on=False, is_return=True))
    assert not site.inventory.host("host1").is_in_maintenance
    assert site.outcome(task) == {"web1": ("moved", "live"), "web2": ("stayed", ""), "web3": ("stayed", "")}
    assert site.moving.at == {"web1": "host1", "web3": "host2"}
    assert await site.remembered() == ("web3",)
    del site.moving.refused["web3", "live"]
    task = await site.maintain(Maintenance(is_on=False, is_return=True))
    assert (task.state, site.moving.at["web3"], await site.remembered()) == (TaskState.DONE, "host1", ())


async def test_they_come_back_though_the_end_of_maintenance_is_seen_later_than_it_is_written() -> None:
    site = await Site().begin("web1", "web2", "web3")
    await site.maintain(ON)
    site.moving.verdict_of = site.verdict_of
    site.lags = 12
    task = await site.maintain(Maintenance(is_on=False, is_return=True))
    assert site.outcome(task) == dict.fromkeys(("web1", "web2", "web3"), ("moved", "live"))
    assert site.lags == 0


async def test_a_view_that_never_follows_is_not_waited_for_without_end() -> None:
    site = await Site().begin("web1")
    await site.maintain(ON)
    site.moving.verdict_of = site.verdict_of
    site.lags = float("inf")
    task = await site.maintain(Maintenance(is_on=False, is_return=True))
    assert task.error is not None
    assert "web1: live: host1 is maintenance" in task.error.cause
    assert await site.remembered() == ("web1",)


async def test_without_the_request_they_stay_and_are_remembered_until_the_next_time() -> None:
    site = await Site().begin("web1")
    await site.maintain(ON)
    assert (await site.maintain(OFF)).state is TaskState.DONE
    assert site.moving.at == {"web1": "host2"}
    assert await site.remembered() == ("web1",)
    await site.maintain(ON)
    assert await site.remembered() == ()


async def test_a_failed_host_is_marked_and_what_it_held_is_told() -> None:
    site = await Site().begin()
    record = VmRecord(
        definition=definition(),
        datastore="nfs1",
        host="host1",
        observed=VmState.RUNNING,
        epoch=1,
        wanted="running",
    )
    await site.inventory.put("vms/web1", record)
    site.verdicts["host1"] = Verdict.FAILED
    task = await site.maintain(ON)
    assert task.error is not None
    assert "host1 is failed, so nothing can be moved away from it" in task.error.cause
    assert site.inventory.host("host1").is_in_maintenance
    assert site.inventory.host("host6").role is Role.PRIMARY


async def test_one_change_of_maintenance_at_a_time_and_no_end_without_a_beginning() -> None:
    site = await Site().begin("web1")
    with pytest.raises(Refused, match="is not in maintenance"):
        await site.operations.maintain_host("host1", OFF)
    with pytest.raises(NotFound):
        await site.operations.maintain_host("host9", ON)
    site.moving.gate.clear()
    task = await site.operations.maintain_host("host1", ON)
    with pytest.raises(Refused, match=f"zv task watch {task.id}"):
        await site.operations.maintain_host("host1", ON)
    site.moving.gate.set()
    await site.ended(task)


async def test_a_label_and_roles_anew_and_a_registry_formed_anew() -> None:
    site = await Site().begin()
    changed = await site.operations.change_host("host3", ChangeHost(failure_domain="rack1"))
    assert changed.host.failure_domain == "rack1"
    await site.inventory._load()
    assert site.inventory.host("host3").failure_domain == "rack1"
    assert (await site.operations.change_host("host3", ChangeHost())).host.failure_domain == "rack1"
    found = await site.operations.reconfigure_roles()
    assert list(found.values()).count(Role.PRIMARY) == list(found.values()).count(Role.SECONDARY)
    await site.operations.reform_registry("host4")
    assert site.calls == [("host4", "registry.reform")]
