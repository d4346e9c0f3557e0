"""What an agent has counted since it started: its events, the ends of its tasks, and its moves of vms."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Any

from zugvogel.domain.figures import Counted, EventCount, MoveCount, Spread, TaskCount
from zugvogel.domain.task import Event, Severity, Task, TaskState
from zugvogel.services.events import EventLog
from zugvogel.services.tasks import TaskBoard

MOVE = "vm.migrate"
UNKNOWN = "unknown"
"""Mode of a move that ended before it had a report."""
MOVED = "moved"
MODES = ("live", "quick")
KNOWN_MOVES = (
    *((mode, result) for mode in MODES for result in (MOVED, "stayed", "died")),
    (UNKNOWN, TaskState.FAILED.value),
    (UNKNOWN, TaskState.CANCELLED.value),
)
"""Told as 0 before the first: what grows from nothing to 1 is seen to grow only then."""
DURATIONS_S = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
BLACKOUTS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Tally:
    """Listens from its making on."""

    def __init__(self, events: EventLog, tasks: TaskBoard) -> None:
        self._events: Counter[tuple[str, Severity]] = Counter()
        self._tasks: Counter[tuple[str, TaskState]] = Counter()
        self._moves: Counter[tuple[str, str]] = Counter(dict.fromkeys(KNOWN_MOVES, 0))
        self._durations = {mode: _Spread(DURATIONS_S) for mode in MODES}
        self._blackouts = {mode: _Spread(BLACKOUTS_S) for mode in MODES}
        events.on_event.append(self._count_event)
        tasks.on_end.append(self._count_task)

    def counted(self) -> Counted:
        return Counted(
            events=tuple(EventCount(kind=k, severity=s, count=n) for (k, s), n in sorted(self._events.items())),
            tasks=tuple(TaskCount(kind=k, state=s, count=n) for (k, s), n in sorted(self._tasks.items())),
            moves=tuple(MoveCount(mode=m, result=r, count=n) for (m, r), n in sorted(self._moves.items())),
            durations_s={mode: spread.shown() for mode, spread in self._durations.items()},
            blackouts_s={mode: spread.shown() for mode, spread in self._blackouts.items()},
        )

    def _count_event(self, event: Event) -> None:
        self._events[event.kind, event.severity] += 1

    def _count_task(self, task: Task) -> None:
        self._tasks[task.kind, task.state] += 1
        if task.kind == MOVE:
            self._count_move(task.report or {}, task.state)

    def _count_move(self, report: dict[str, Any], state: TaskState) -> None:
        mode, result = str(report.get("mode", UNKNOWN)), str(report.get("result", state))
        self._moves[mode, result] += 1
        if result == MOVED:
            blackout_ms = report.get("outage_ms", report.get("downtime_ms", 0.0))
            self._durations.setdefault(mode, _Spread(DURATIONS_S)).add(float(report.get("total_s", 0.0)))
            self._blackouts.setdefault(mode, _Spread(BLACKOUTS_S)).add(float(blackout_ms) / 1000)


class _Spread:
    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def shown(self) -> Spread:
        return Spread(bounds=self._bounds, counts=tuple(self._counts), total=self._total)
