"""Figures of running migrations over time, for their charts: the API tells the finished rounds and this moment,
and a page that is opened later is to show more than that."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

MAX_TASKS = 100
MAX_SAMPLES = 1000
"""Of a task; of a longer migration every second one goes."""
FIGURES = ("remaining_bytes", "throughput_bps", "dirty_rate_bps")


class Sample(NamedTuple):
    """`at_s` counts from the start of the migration. None: not known yet."""

    at_s: float
    remaining_bytes: float
    throughput_bps: float | None
    dirty_rate_bps: float | None


class Samples:
    """By task, the latest tasks only."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, list[Sample]] = OrderedDict()

    def add(self, task: dict[str, Any]) -> None:
        """What a task tells of this moment, if it is a migration that tells something new."""
        detail = task.get("progress", {}).get("detail") or {}
        if not detail.get("elapsed_s") or not detail.get("total_bytes"):
            return
        sample = Sample(float(detail["elapsed_s"]), *(float(detail.get(name, 0)) for name in FIGURES))
        kept = self._of.setdefault(task["id"], [])
        if not kept or sample.at_s > kept[-1].at_s:
            kept.append(sample)
        if len(kept) > MAX_SAMPLES:
            del kept[1:-1:2]
        while len(self._of) > MAX_TASKS:
            self._of.popitem(last=False)

    def of(self, task_id: str) -> list[Sample]:
        return list(self._of.get(task_id, ()))


def from_rounds(rounds: list[dict[str, Any]], start_s: float, memory_bytes: float) -> list[Sample]:
    """All of the memory at the start, then one sample at the end of each finished round."""
    found, at_s = [Sample(start_s, memory_bytes, None, None)], start_s
    for each in rounds:
        at_s += each["duration_s"]
        found.append(Sample(at_s, each["remaining_bytes"], each["throughput_bps"], each["dirty_rate_bps"]))
    return found
