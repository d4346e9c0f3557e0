"""Targets judged from samples."""

from __future__ import annotations

import pytest

from bench.idle import Idle
from bench.sample import Sample
from bench.scenarios import LIBVIRT, RAW, ZUGVOGEL_TLS
from bench.targets import Check, Samples, judge

IDLE = Idle(core_percent=0.8, rss_mb=95.0, etcd_core_percent=1.0, etcd_rss_mb=30.0, seconds=30.0, agents=3)


def found(samples: Samples, idle: Idle | None = None) -> dict[str, Check]:
    return {check.what: check for check in judge(samples, idle)}


def move(**figures: float) -> Sample:
    return Sample(**{"wall_s": 1.0, "total_s": 0.8, "downtime_ms": 30.0, "max_gap_ms": 60.0, **figures})  # type: ignore[arg-type]


def test_downtime_may_be_15_ms_over_raw_qmp() -> None:
    checks = found({"dirtying": {ZUGVOGEL_TLS: [move(downtime_ms=45.0)], RAW: [move(downtime_ms=30.0)]}})
    assert checks["downtime, raw QMP + 15 ms"].is_met
    checks = found({"dirtying": {ZUGVOGEL_TLS: [move(downtime_ms=45.1)], RAW: [move(downtime_ms=30.0)]}})
    assert checks["downtime, raw QMP + 15 ms"].is_met is False


def test_the_worst_move_counts_for_lost_packets() -> None:
    samples = [move(lost_10ms=0, lost_1s=0), move(lost_10ms=4, lost_1s=0), move(lost_10ms=0, lost_1s=0)]
    checks = found({"idle": {ZUGVOGEL_TLS: samples}})
    assert checks["lost at 10 ms, worst move"].value == 4
    assert checks["lost at 10 ms, worst move"].is_met is False
    assert checks["lost at 1 s, worst move"].is_met


@pytest.mark.parametrize(("scenario", "is_met"), [("idle", False), ("idle-1g", True)])
def test_wall_against_libvirt_has_a_limit_for_each_link(scenario: str, is_met: bool) -> None:
    checks = found({scenario: {ZUGVOGEL_TLS: [move(wall_s=0.6)], LIBVIRT: [move(wall_s=1.0)]}})
    assert checks["wall / libvirt, default"].is_met is is_met
    assert checks["ping gap / libvirt, default"].is_met is False


def test_goodput_is_judged_only_with_enough_bytes() -> None:
    name = "total / (bytes sent / goodput)"
    enough = {"total_s": 3.0, "sent_bytes": 300_000_000, "goodput_bps": 110e6}
    few = {**enough, "sent_bytes": 100_000_000}
    assert found({"idle-1g": {ZUGVOGEL_TLS: [move(**enough)]}})[name].value == pytest.approx(1.1)
    assert name not in found({"idle-1g": {ZUGVOGEL_TLS: [move(**few)]}})


def test_the_idle_agent_is_judged_by_cpu_and_memory() -> None:
    checks = found({}, IDLE)
    assert checks["CPU"].is_met
    assert checks["memory"].is_met is False
    assert found({})["CPU"].is_met is None


def test_a_row_whose_moves_all_failed_is_not_measured() -> None:
    checks = found({"idle": {ZUGVOGEL_TLS: [Sample(error="cut")], RAW: [move()]}})
    assert {check.is_met for check in checks.values()} == {None}
