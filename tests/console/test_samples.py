from __future__ import annotations

from typing import Any

import pytest

from tests.console.api_fields import ROUNDS, live_progress, task
from zugvogel.console import samples as samples_module
from zugvogel.console.samples import Sample, Samples, from_rounds


def at(elapsed_s: float, task_id: str = "t1") -> dict[str, Any]:
    return task(task_id, progress=live_progress(elapsed_s))


def test_what_a_migration_tells_is_kept_in_order() -> None:
    kept = Samples()
    for elapsed_s in (0.5, 1.0, 1.0, 0.7, 2.0):
        kept.add(at(elapsed_s))
    assert [sample.at_s for sample in kept.of("t1")] == [0.5, 1.0, 2.0]
    assert kept.of("t1")[0] == Sample(0.5, float(2**25), 1e9, 1e6)


@pytest.mark.parametrize(
    "told",
    [
        {"id": "t1"},
        {"id": "t1", "progress": {}},
        {"id": "t1", "progress": {"detail": None}},
        {"id": "t1", "progress": {"detail": {"elapsed_s": 1.0}}},
        {"id": "t1", "progress": {"detail": {"elapsed_s": 0.0, "total_bytes": 5}}},
    ],
)
def test_what_is_no_migration_is_passed_over(told: dict[str, Any]) -> None:
    kept = Samples()
    kept.add(told)
    assert kept.of("t1") == []


def test_a_long_migration_is_kept_from_its_start_to_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples_module, "MAX_SAMPLES", 10)
    kept = Samples()
    for number in range(1, 1001):
        kept.add(at(float(number)))
        assert len(kept.of("t1")) <= 10
    times = [sample.at_s for sample in kept.of("t1")]
    assert times == sorted(times)
    assert (times[0], times[-1]) == (1.0, 1000.0)


def test_the_latest_tasks_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples_module, "MAX_TASKS", 2)
    kept = Samples()
    for name in ("a", "b", "c"):
        kept.add(at(1.0, name))
    assert [bool(kept.of(name)) for name in ("a", "b", "c")] == [False, True, True]


def test_nobody_changes_what_is_kept() -> None:
    kept = Samples()
    kept.add(at(1.0))
    kept.of("t1").clear()
    assert len(kept.of("t1")) == 1


def test_rounds_begin_with_all_of_the_memory() -> None:
    found = from_rounds([each.model_dump() for each in ROUNDS], 0.1, 2**30)
    assert found[0] == Sample(0.1, 2**30, None, None)
    assert [round(sample.at_s, 6) for sample in found] == [0.1, 1.2, 1.4]
    assert found[-1].remaining_bytes == 2**20
