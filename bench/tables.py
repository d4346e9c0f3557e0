"""The tables of a run: for the terminal, and the same as Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from bench.idle import Idle
from bench.results import Results
from bench.sample import Sample
from bench.scenarios import TITLES, Scenario
from bench.targets import Check

MOVES = (
    *("medians", "wall", "total", "/ raw", "/ virsh", "/ goodput", "/ wire", "first byte", "down", "ping gap"),
    *("lost", "sent"),
)
TARGETS = ("guest", "row", "figure", "measured", "at most", "")
WORDS = {True: "met", False: "not met", None: "not measured"}
STYLES = {"met": "[green]met[/]", "not met": "[red]not met[/]", "not measured": "[yellow]not measured[/]"}


def show(console: Console, results: Results, checks: Sequence[Check]) -> None:
    for scenario in results.scenarios:
        table = _table(scenario.title, MOVES, texts=1)
        for row in move_rows(scenario, results):
            table.add_row(*row)
        console.print(table)
    if results.idle:
        console.print(idle_sentence(results.idle))
    table = _table("Targets", TARGETS, texts=3)
    for cells in target_rows(checks):
        table.add_row(*cells[:-1], STYLES[cells[-1]])
    console.print(table)


def markdown(results: Results, checks: Sequence[Check]) -> str:
    """The same tables, for `docs/explanation/measurements.md`."""
    parts = []
    for scenario in results.scenarios:
        parts += [f"**{scenario.title}**", _markdown(MOVES, list(move_rows(scenario, results)), texts=1)]
    if results.idle:
        parts.append(idle_sentence(results.idle))
    parts.append(_markdown(TARGETS, list(target_rows(checks)), texts=3))
    return "\n\n".join(parts) + "\n"


def move_rows(scenario: Scenario, results: Results) -> Iterator[list[str]]:
    for row, sample in results.medians(scenario.name).items():
        if sample.error:
            yield [TITLES[row], sample.error, *[""] * (len(MOVES) - 2)]
            continue
        ratios = results.ratios(scenario, row)
        yield [
            TITLES[row],
            _figure(sample.wall_s, "{:.2f} s"),
            _figure(sample.total_s, "{:.2f} s"),
            _figure(ratios.raw, "{:.2f}"),
            _figure(ratios.virsh, "{:.2f}"),
            _figure(ratios.goodput, "{:.2f}"),
            _figure(ratios.wire, "{:.2f}"),
            _figure(sample.first_byte_s, "{:.2f} s"),
            _figure(sample.downtime_ms, "{:.0f} ms"),
            _figure(sample.max_gap_ms, "{:.0f} ms"),
            _lost(sample),
            _figure(sample.sent_bytes and sample.sent_bytes / 1e6, "{:.0f} MB"),
        ]


def target_rows(checks: Sequence[Check]) -> Iterator[list[str]]:
    for check in checks:
        value = _figure(check.value, "{:.2f} " + check.unit).strip()
        limit = f"{check.limit:.2f} {check.unit}".strip()
        yield [check.scenario, check.row, check.what, value, limit, WORDS[check.is_met]]


def idle_sentence(idle: Idle) -> str:
    return (
        f"Idle agent (the dearest of {idle.agents}, over {idle.seconds:.0f} s): "
        f"{idle.core_percent:.2f} % of a core, {idle.rss_mb:.0f} MB; "
        f"its etcd: {idle.etcd_core_percent:.2f} %, {idle.etcd_rss_mb:.0f} MB."
    )


def _lost(sample: Sample) -> str:
    if sample.lost_10ms is None or sample.lost_1s is None:
        return "–"
    return f"{sample.lost_10ms:g} / {sample.lost_1s:g}"


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _table(title: str, columns: Sequence[str], texts: int) -> Table:
    """The first `texts` columns to the left, the others to the right."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < texts else "right")
    return table


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> str:
    ruler = ["---" if number < texts else "--:" for number in range(len(columns))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, ruler, *rows))
