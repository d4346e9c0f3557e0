"""The table of `bench.console`."""

from __future__ import annotations

from bench.console import Row, _cells


def test_the_api_is_told_as_a_ratio_to_nobody_looking() -> None:
    nobody = Row("nobody looks", 0, api_percent=4.0)
    cells = _cells(Row("vms", 5, api_percent=6.0, shown_ms=612.4), nobody)
    assert "1.50" in cells
    assert "612 ms" in cells


def test_what_a_row_has_not_is_a_dash() -> None:
    assert _cells(Row("nobody looks", 0), Row("nobody looks", 0)).count("–") == 7
