from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.registry import MemoryRegistry
from tests.services.test_tasks import FastClock
from zugvogel.domain.figures import EventCount, MoveCount, TaskCount
from zugvogel.domain.task import Severity, Task, TaskState
from zugvogel.errors import ProcedureFailed
from zugvogel.services.events import EventLog
from zugvogel.services.tally import BLACKOUTS_S, DURATIONS_S, Tally
from zugvogel.services.tasks import TaskBoard, TaskContext


class World:
    def __init__(self) -> None:
        registry, clock = MemoryRegistry(), FastClock()
        self.events, self.tasks = EventLog("host1", registry, clock), TaskBoard("host1", registry, clock)
        self.tally = Tally(self.events, self.tasks)

    async def ended(self, kind: str, report: dict[str, Any] | None = None, error: Exception | None = None) -> Task:
        async def work(ctx: TaskContext) -> dict[str, Any] | None:
            if report is not None:
                ctx.report(report)
            if error is not None:
                raise error
            return None

        task = self.tasks.start(kind, "web1", work)
        while not task.state.is_final:
            task = await self.tasks.wait(task.id, task.version, 10.0)
        return task


def test_events_are_counted_by_kind_and_severity() -> None:
    world = World()
    for _ in range(2):
        world.events.emit("vm.restarted", "web1", "it runs again", severity=Severity.WARNING)
    world.events.emit("vm.started", "web2", "it runs")
    assert world.tally.counted().events == (
        EventCount(kind="vm.restarted", severity=Severity.WARNING, count=2),
        EventCount(kind="vm.started", severity=Severity.INFO, count=1),
    )


async def test_tasks_are_counted_when_they_end() -> None:
    world = World()
    await world.ended("vm.start")
    await world.ended("vm.start", error=ProcedureFailed("its QEMU ended"))
    assert world.tally.counted().tasks == (
        TaskCount(kind="vm.start", state=TaskState.DONE, count=1),
        TaskCount(kind="vm.start", state=TaskState.FAILED, count=1),
    )
    assert {move.count for move in world.tally.counted().moves} == {0}


async def test_moves_are_counted_by_their_result_and_those_that_moved_are_measured() -> None:
    world = World()
    live = {"mode": "live", "result": "moved", "total_s": 2.6, "downtime_ms": 31.0}
    await world.ended("vm.migrate", live)
    await world.ended("vm.migrate", {**live, "total_s": 9999.0, "downtime_ms": 5.0})
    quick = {"mode": "quick", "result": "moved", "total_s": 8.0, "downtime_ms": 1.0, "outage_ms": 6000.0}
    await world.ended("vm.migrate", quick)
    await world.ended("vm.migrate", {**live, "result": "stayed"}, ProcedureFailed("it stayed"))
    await world.ended("vm.migrate", error=ProcedureFailed("refused by the target"))
    counted = world.tally.counted()
    assert tuple(move for move in counted.moves if move.count) == (
        MoveCount(mode="live", result="moved", count=2),
        MoveCount(mode="live", result="stayed", count=1),
        MoveCount(mode="quick", result="moved", count=1),
        MoveCount(mode="unknown", result="failed", count=1),
    )
    durations, blackouts = counted.durations_s["live"], counted.blackouts_s["live"]
    assert sum(durations.counts) == sum(blackouts.counts) == 2
    assert durations.counts[DURATIONS_S.index(5.0)] == 1
    assert durations.counts[-1] == 1, "above all bounds"
    assert durations.total == pytest.approx(10001.6)
    assert blackouts.counts[BLACKOUTS_S.index(0.05)] == 1
    assert blackouts.counts[BLACKOUTS_S.index(0.005)] == 1, "what equals a bound is within it"
    assert blackouts.total == pytest.approx(0.036)
    assert counted.blackouts_s["quick"].total == pytest.approx(6.0)


def test_what_will_be_counted_is_told_as_nothing_before_the_first() -> None:
    counted = World().tally.counted()
    told = {(move.mode, move.result) for move in counted.moves}
    assert {("live", "moved"), ("quick", "died"), ("unknown", "failed")} <= told
    assert sum(counted.blackouts_s["live"].counts) == 0
    assert counted.durations_s.keys() == counted.blackouts_s.keys() == {"live", "quick"}
