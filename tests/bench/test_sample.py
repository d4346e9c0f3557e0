"""Medians and shares of a move's figures."""

from __future__ import annotations

import pytest

from bench.sample import Sample, middle, ratio, typical


def test_medians_leave_failed_moves_out() -> None:
    samples = [Sample(wall_s=1.0), Sample(wall_s=3.0), Sample(wall_s=2.0), Sample(wall_s=90.0, error="cut")]
    found = typical(samples)
    assert found.wall_s == 2.0
    assert found.error == ""


def test_a_figure_nobody_tells_stays_unknown() -> None:
    assert typical([Sample(wall_s=1.0)]).downtime_ms is None


def test_when_every_move_failed_the_causes_are_told() -> None:
    assert typical([Sample(error="b"), Sample(error="a"), Sample(error="b")]).error == "a; b"
    assert typical([]).error == "not measured"


def test_share_of_goodput_is_total_over_the_time_the_bytes_take() -> None:
    assert Sample(total_s=2.1, sent_bytes=200, goodput_bps=100.0).share_of_goodput == pytest.approx(1.05)
    assert Sample(total_s=2.1, sent_bytes=200).share_of_goodput is None


def test_share_of_the_wire_counts_the_non_zero_ram() -> None:
    sample = Sample(total_s=1.5, nonzero_bytes=125_000_000)
    assert sample.share_of_wire(1000) == pytest.approx(1.5)
    assert sample.share_of_wire(0) is None


def test_middle_and_ratio_know_nothing_of_missing_figures() -> None:
    assert middle([None, 3.0, 1.0, 2.0]) == 2.0
    assert middle([None]) is None
    assert ratio(1.0, 2.0) == 0.5
    assert ratio(None, 2.0) is None
    assert ratio(1.0, None) is None
