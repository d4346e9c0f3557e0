from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import pytest

from tests.fakes.registry import MemoryRegistry
from zugvogel.domain.task import Task, TaskState
from zugvogel.errors import NotFound, Refused
from zugvogel.services import tasks
from zugvogel.services.sortable_id import SortableIds
from zugvogel.services.tasks import TaskBoard, TaskCancelled, TaskContext


class FastClock:
    """The wall clock; sleeps are a hundred times shorter."""

    def monotonic(self) -> float:
        return monotonic() * 100

    def now_iso(self) -> str:
        return datetime.now(UTC).isoformat(timespec="milliseconds")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 100)


@asynccontextmanager
async def board_on(registry: MemoryRegistry, *, is_adopted: bool = True) -> AsyncIterator[TaskBoard]:
    board = TaskBoard("host1", registry, FastClock())
    if is_adopted:
        board.adopted()
    runner = asyncio.create_task(board.run())
    try:
        yield board
    finally:
        runner.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await runner


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - anything may be waited for
            await asyncio.sleep(0.005)


async def stored(registry: MemoryRegistry, task_id: str) -> Task | None:
    entry = await registry.get(tasks.PREFIX + task_id)
    return Task.model_validate_json(entry.value) if entry else None


async def ended(board: TaskBoard, task: Task) -> Task:
    async with asyncio.timeout(10):
        while not task.state.is_final:
            task = await board.wait(task.id, task.version, 1)
    return task


async def test_work_that_returns_is_done_with_its_report() -> None:
    async def work(ctx: TaskContext) -> dict[str, Any]:
        ctx.progress("copy", "copying", 0.5, {"a": 1})
        return {"vm": "web1"}

    async with board_on(MemoryRegistry()) as board:
        task = board.start("vm.create", "web1", work)
        assert task.state is TaskState.RUNNING
        end = await ended(board, task)
    assert (end.state, end.report, end.progress.detail) == (TaskState.DONE, {"vm": "web1"}, {"a": 1})


async def test_errors_become_the_tasks_error_and_keep_the_report() -> None:
    async def work(ctx: TaskContext) -> None:
        ctx.report({"result": "stayed"})
        raise Refused("host2 is full", "choose host3")

    async def broken(ctx: TaskContext) -> None:
        raise KeyError("x")

    async with board_on(MemoryRegistry()) as board:
        end = await ended(board, board.start("vm.migrate", "web1", work))
        defect = await ended(board, board.start("vm.migrate", "web1", broken))
    assert end.state is TaskState.FAILED
    assert end.error is not None
    assert (end.error.code, end.error.next_step, end.report) == ("refused", "choose host3", {"result": "stayed"})
    assert defect.error is not None
    assert "KeyError" in defect.error.cause


async def test_cancel_is_a_wish_the_work_fulfils() -> None:
    async def work(ctx: TaskContext) -> None:
        await ctx.cancel_requested.wait()
        raise TaskCancelled

    async with board_on(MemoryRegistry()) as board:
        task = board.start("vm.migrate", "web1", work, is_cancellable=True)
        board.cancel(task.id)
        end = await ended(board, task)
        assert end.state is TaskState.CANCELLED
        with pytest.raises(Refused, match="cancelled already"):
            board.cancel(task.id)
        stubborn = board.start("vm.kill", "web1", work)
        with pytest.raises(Refused, match="cannot be cancelled"):
            board.cancel(stubborn.id)


async def test_wait_answers_at_the_next_change_or_at_its_deadline() -> None:
    go = asyncio.Event()

    async def work(ctx: TaskContext) -> None:
        await go.wait()

    async with board_on(MemoryRegistry()) as board:
        task = board.start("vm.stop", "web1", work)
        assert (await board.wait(task.id, task.version, 0.01)).version == task.version
        waiting = asyncio.create_task(board.wait(task.id, task.version, 30))
        go.set()
        assert (await waiting).state is TaskState.DONE
        with pytest.raises(NotFound):
            await board.wait("nothing")


async def test_work_goes_on_without_the_registry_and_is_copied_later() -> None:
    registry = MemoryRegistry()
    registry.is_reachable = False

    async def work(ctx: TaskContext) -> dict[str, Any]:
        return {}

    async with board_on(registry) as board:
        end = await ended(board, board.start("vm.kill", "web1", work))
        assert [t.id for t in await board.list()] == [end.id]
        registry.is_reachable = True
        await until(lambda: tasks.PREFIX + end.id in registry.writes)
        assert await stored(registry, end.id) == end


async def test_progress_is_copied_seldom_and_the_end_at_once() -> None:
    registry = MemoryRegistry()

    async def work(ctx: TaskContext) -> dict[str, Any]:
        for i in range(500):
            ctx.progress("copy", str(i))
            if i % 50 == 0:
                await asyncio.sleep(0)
        return {}

    async with board_on(registry) as board:
        end = await ended(board, board.start("vm.create", "web1", work))
        await until(lambda: not board._dirty)
        assert await stored(registry, end.id) == end
    assert len(registry.writes) < 50


async def test_tasks_of_an_earlier_agent_fail_unless_it_goes_on_with_them() -> None:
    registry = MemoryRegistry()
    left_id, kept_id, foreign_id = (SortableIds(FastClock()).next() for _ in range(3))
    for task_id, owner in ((left_id, "host1"), (kept_id, "host1"), (foreign_id, "host2")):
        task = Task(id=task_id, kind="vm.migrate", subject="web1", owner=owner, state=TaskState.RUNNING, version=4)
        await registry.put(tasks.PREFIX + task_id, task.model_dump_json().encode())
    go = asyncio.Event()

    async def work(ctx: TaskContext) -> dict[str, Any]:
        await go.wait()
        return {"resumed": True}

    async with board_on(registry, is_adopted=False) as board:
        resumed = board.start("vm.migrate", "web1", work, task_id=kept_id)
        await until(lambda: registry.writes.count(tasks.PREFIX + kept_id) == 2)
        assert registry.writes.count(tasks.PREFIX + left_id) == 1  # nothing is settled while adoption runs
        board.adopted()
        await until(lambda: registry.writes.count(tasks.PREFIX + left_id) == 2)
        left, kept, foreign = [await stored(registry, i) for i in (left_id, kept_id, foreign_id)]
        assert left is not None
        assert left.error is not None
        assert (left.state, left.error.cause, left.version) == (TaskState.FAILED, "the agent restarted", 5)
        assert kept == resumed
        assert foreign is not None
        assert foreign.state is TaskState.RUNNING
        go.set()
        await ended(board, resumed)
        await board.drain()
    settled = await stored(registry, kept_id)
    assert settled is not None
    assert settled.report == {"resumed": True}


async def test_a_resumed_task_keeps_when_it_began_and_gets_a_higher_version() -> None:
    async def work(ctx: TaskContext) -> None:
        return None

    first = TaskBoard("host1", MemoryRegistry(), FastClock()).start("vm.migrate", "web1", work)
    await asyncio.sleep(0.01)
    resumed = TaskBoard("host1", MemoryRegistry(), FastClock()).start("a.b", "c", work, task_id=first.id)
    again = TaskBoard("host1", MemoryRegistry(), FastClock()).start("a.b", "c", work, task_id=first.id)
    assert resumed.created_at == resumed.started_at == first.created_at == first.started_at
    assert first.version < resumed.version <= again.version
    assert tasks.created_at("no!id") == ""


async def test_an_agent_that_stops_lets_work_put_back_and_cuts_off_the_rest() -> None:
    registry = MemoryRegistry()

    async def moving(ctx: TaskContext) -> None:
        await ctx.cancel_requested.wait()
        raise TaskCancelled("web1 runs on host1, untouched")

    async def endless(ctx: TaskContext) -> None:
        await asyncio.Event().wait()

    async with board_on(registry) as board:
        move = board.start("vm.migrate", "web1", moving, is_cancellable=True)
        stuck = board.start("vm.stop", "web2", endless)
        await board.stop(timeout_s=0.05)
        with pytest.raises(Refused, match="is stopping"):
            board.start("vm.kill", "web3", endless)
        await board.drain()
    moved, cut = await stored(registry, move.id), await stored(registry, stuck.id)
    assert moved is not None
    assert moved.error is not None
    assert moved.state is TaskState.CANCELLED
    assert moved.error.cause == "the agent was stopped; web1 runs on host1, untouched"
    assert cut is not None
    assert cut.state is TaskState.RUNNING  # the next agent settles it


async def test_an_agent_without_work_stops_at_once() -> None:
    await TaskBoard("host1", MemoryRegistry(), FastClock()).stop()


async def test_only_the_newest_ended_tasks_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "KEPT", 10)
    registry = MemoryRegistry()
    ids = SortableIds(FastClock())
    for number in range(30):
        state = TaskState.RUNNING if number == 0 else TaskState.DONE
        task = Task(id=ids.next(), kind="vm.start", subject="web1", owner="host2", state=state)
        await registry.put(tasks.PREFIX + task.id, task.model_dump_json().encode())
    before = [e.key for e in await registry.list(tasks.PREFIX)]

    async def work(ctx: TaskContext) -> None:
        return None

    async with board_on(registry) as board:
        await ended(board, board.start("vm.stop", "web1", work))
        await until(lambda: len(registry._entries) <= 11)
        kept = [e.key for e in await registry.list(tasks.PREFIX)]
        assert kept[0] == before[0]  # it has not ended
        assert set(before[-9:]) < set(kept)
        await ended(board, board.start("vm.stop", "web1", work))
        await board.drain()
        assert len(registry._entries) == 12  # trimmed once an hour


async def test_ids_sort_by_time() -> None:
    async def work(ctx: TaskContext) -> None:
        return None

    board = TaskBoard("host1", MemoryRegistry(), FastClock())
    ids = [board.start("a.b", "c", work).id for _ in range(50)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 50
