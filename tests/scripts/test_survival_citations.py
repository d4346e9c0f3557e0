"""Below the README's table of failures stands which tests prove each row: they are there, and fit it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from zugvogel.sim.scenario import load, shipped

ROOT = Path(__file__).resolve().parents[2]
E2E = ROOT / "tests" / "e2e"
CITED = re.compile(r"(?:(?P<where>[\w./]+) )?`(?P<name>[^`]+)`|all of (?P<all>\w+)")
SCENARIOS = shipped()

Citation = tuple[str, str]
"""Where, and the name there: ("sim", scenario), ("ha", test), ("cuts", "") for all of its tests."""


def _section() -> tuple[str, str]:
    text = (ROOT / "README.md").read_text().split("## What survives which failure", 1)[1]
    table, _, rest = text.partition("<details>")
    return table, rest.partition("</details>")[0]


def _rows(table: str) -> dict[int, list[str]]:
    cells = [[c.strip() for c in line.strip("| ").split(" | ")] for line in table.splitlines() if line[:1] == "|"]
    return {int(row[0]): row[1:] for row in cells if row[0].isdecimal()}


def _citations(cell: str) -> list[Citation]:
    """A word before a name says where it and those after it are."""
    found, where = [], ""
    for match in CITED.finditer(cell):
        if match["all"]:
            found.append((match["all"], ""))
            continue
        where = match["where"] or where
        found.append((where, match["name"]))
    return found


PROVEN = _rows(_section()[1])
CELLS = [(row, column) for row in _rows(_section()[0]) for column in ("on", "off")]


def _cell(row: int, column: str) -> str:
    return PROVEN[row][("on", "off").index(column)]


def _tests_of(where: str) -> set[str]:
    file = ROOT / where if "/" in where else E2E / f"test_{where}.py"
    assert file.is_file(), f"there is no {file}"
    functions = (
        n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return {function.name for function in functions if function.name.startswith("test_")}


def test_every_row_of_the_table_has_its_proofs() -> None:
    assert sorted(PROVEN) == sorted({row for row, _ in CELLS})
    assert {len(cells) for cells in PROVEN.values()} == {2}


@pytest.mark.parametrize(("row", "column"), CELLS)
def test_every_cell_cites_what_there_is(row: int, column: str) -> None:
    cell = _cell(row, column)
    citations = _citations(cell)
    assert citations, f"row {row} {column} cites nothing: {cell}"
    left = re.sub(r"[,;\s]|\band\b", "", CITED.sub("", cell))
    assert left == "", f"row {row} {column} says more than it cites: {left}"
    for where, name in citations:
        known = set(SCENARIOS) if where == "sim" else _tests_of(where)
        assert known, f"{where} has no tests"
        assert not name or name in known, f"row {row} {column}: {where} has no {name}"


@pytest.mark.parametrize(("row", "column"), CELLS)
def test_a_scenario_is_cited_for_what_it_has_switched_on(row: int, column: str) -> None:
    for where, name in _citations(_cell(row, column)):
        if where == "sim":
            is_on = load(SCENARIOS[name]).settings.get("das.enabled", True)
            assert is_on == (column == "on"), f"row {row}: {name} has high availability {'on' if is_on else 'off'}"
        elif column == "off":
            assert where != "ha", "test_ha.py has high availability on"


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("ha `test_a`, `test_b`; sim `a-b`", [("ha", "test_a"), ("ha", "test_b"), ("sim", "a-b")]),
        ("all of cuts; sim `a`", [("cuts", ""), ("sim", "a")]),
        ("as 3", []),
    ],
)
def test_citations_are_read(cell: str, found: list[Citation]) -> None:
    assert _citations(cell) == found
