"""The tables of docs/explanation/high-availability.md say when what happens: the simulator has it happen then."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from zugvogel.sim.run import Result, run
from zugvogel.sim.scenario import load, shipped

PAGES = Path(__file__).resolve().parents[2] / "docs" / "explanation"
HOST = "host2"
FAULT_S = 20.0
RANGE = re.compile(r"\+?([\d.]+) (?:to|bis) \+?([\d.]+)")


class Row(NamedTuple):
    """`from_s`, `to_s`: seconds after the fault, or after it ended; None: it only comes after those above.
    `by_host`, `by_others`: kinds of events."""

    from_s: float | None
    to_s: float | None
    is_after_end: bool
    by_host: list[str]
    by_others: list[str]


class Case(NamedTuple):
    """`ended_s`: after the fault."""

    number: int
    scenario: str
    ended_s: float | None = None


CASES = (
    Case(0, "a-host-loses-its-power"),
    Case(1, "an-isolated-host-suspends-its-vms-and-they-go-on-elsewhere"),
    Case(2, "storage-hangs-for-16-s-on-one-host", ended_s=16.0),
    Case(2, "storage-hangs-for-300-s-on-one-host"),
)


def tables(page: str) -> list[list[Row]]:
    """Those that begin with the second."""
    text = (PAGES / page).read_text()
    found = re.findall(r"^\| (?:second|Sekunde) \|.*\n\|---.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [[_row(line) for line in table.splitlines()] for table in found]


def _row(line: str) -> Row:
    at, host, *others = (cell.strip() for cell in line.strip("|").split("|"))
    within = RANGE.match(at.replace(",", "."))
    from_s, to_s = (float(within[1]), float(within[2])) if within else (None, None)
    return Row(from_s, to_s, at.startswith("+"), _kinds(host), _kinds(" ".join(others)))


def _kinds(cell: str) -> list[str]:
    return re.findall(r"`((?:host|vm)\.[a-z-]+)`", cell)


@cache
def _result(scenario: str) -> Result:
    return run(load(shipped()[scenario]))


def _seconds(result: Result, kind: str, *, is_by_host: bool) -> list[float]:
    """After the fault."""
    told = [d for d in result.decisions if d.event == kind and (d.host == HOST) is is_by_host]
    return [d.at_s - FAULT_S for d in told if d.at_s >= FAULT_S]


@pytest.mark.parametrize("page", ["high-availability.md", "high-availability.de.md"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.scenario)
def test_what_the_table_says_happens_then(page: str, case: Case) -> None:
    result, before_s, seen = _result(case.scenario), 0.0, 0
    for row in tables(page)[case.number]:
        if row.is_after_end and case.ended_s is None:
            continue
        if case.ended_s is not None and row.from_s is not None and row.from_s > case.ended_s:
            break
        offset_s = case.ended_s if row.is_after_end and case.ended_s is not None else 0.0
        for kinds, is_by_host in ((row.by_host, True), (row.by_others, False)):
            for kind in kinds:
                at = _seconds(result, kind, is_by_host=is_by_host)
                assert at, f"{kind} is not told"
                if row.from_s is not None and row.to_s is not None:
                    assert all(row.from_s <= s - offset_s <= row.to_s for s in at), f"{kind} comes at {at} s"
                assert min(at) >= before_s, f"{kind} comes before what stands above it"
                seen += 1
        before_s = max(before_s, (row.from_s or before_s) + offset_s)
    assert seen >= 3


def test_both_pages_say_the_same() -> None:
    assert tables("high-availability.md") == tables("high-availability.de.md")
    assert len(tables("high-availability.md")) == 3
