"""A live migration on the terminal: while it runs, and afterwards as a picture of its phases and rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from zugvogel.cli import output
from zugvogel.cli.columns import folded, shorten
from zugvogel.cli.watch import bar

SHOWN_ROUNDS = 12
AXIS = 60
SHORTEST_AXIS = 8
WIDEST_NAME = 16
BLACKOUT_WORDS = ("blackout", "switchover")
LEVEL_SIGNS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "refused": ("✗", "bold red")}


class Fitted:
    """Drawn for the width there is."""

    def __init__(self, draw: Callable[[int], Sequence[RenderableType]]) -> None:
        self._draw = draw

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._draw(options.max_width)


def live_view(task: dict[str, Any]) -> RenderableType:
    """`task["progress"]["detail"]`: a MigrationProgress. Missing figures count as zero."""
    progress, detail = task["progress"], task["progress"]["detail"]
    head = _line("● ", style="green")
    head.append(f"live migration of {shorten(task['subject'], 24)}", style="bold")
    head.append(f"  {detail.get('phase') or progress['phase']}", style="cyan")
    head.append(f"  {output.seconds(detail.get('elapsed_s', 0.0))}", style="dim")
    return Group(head, Fitted(lambda width: _figures(progress, detail, width)))


def _figures(progress: dict[str, Any], detail: dict[str, Any], width: int) -> list[RenderableType]:
    """The last word, a bar and figures; a line breaks only between figures."""
    said = [
        f"{output.size(detail.get('transferred_bytes', 0))} sent",
        f"{output.size(detail.get('remaining_bytes', 0))} left",
        output.rate(detail.get("throughput_bps", 0.0)),
        f"dirtied {output.rate(detail.get('dirty_rate_bps', 0.0))}",
        f"expected downtime {_downtime(detail.get('expected_downtime_ms', 0.0))}",
        f"limit {_downtime(detail.get('downtime_limit_ms', 0.0))}",
    ]
    shown = bar(_fraction(progress, detail), max(SHORTEST_AXIS, min(40, width - 4)))
    return [
        *(Text(f"  {line}", style="dim") for line in folded(progress["message"], width - 2)),
        Text(f"  {shown}"),
        *flowing(said, width),
        rounds_table(detail.get("rounds", [])[-SHOWN_ROUNDS:], width),
    ]


def flowing(parts: Sequence[str], width: int) -> list[RenderableType]:
    """The parts in lines of at most `width`, broken between them only."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 2 + len(part) <= width - 1:
            lines[-1] += f", {part}"
        else:
            lines.append(f"  {part}")
    return [Text(line, no_wrap=True, overflow="ellipsis") for line in lines]


def _downtime(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds else "not known yet"


def _fraction(progress: dict[str, Any], detail: dict[str, Any]) -> float:
    if progress["fraction"] is not None:
        return float(progress["fraction"])
    total = detail.get("total_bytes", 0)
    return 1 - detail.get("remaining_bytes", 0) / total if total else 0.0


ROUND_FIGURES: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("round", lambda r: str(r["number"])),
    ("sent", lambda r: output.size(r["transferred_bytes"])),
    ("took", lambda r: output.seconds(r["duration_s"])),
    ("left", lambda r: output.size(r["remaining_bytes"])),
    ("throughput", lambda r: output.rate(r["throughput_bps"])),
    ("dirty rate", lambda r: output.rate(r["dirty_rate_bps"])),
    ("exp. downtime", lambda r: f"{r['expected_downtime_ms']:.0f} ms"),
)
"""Most telling first: the last ones are left out where there is no room."""


def rounds_table(rounds: Sequence[dict[str, Any]], width: int) -> RenderableType:
    if not rounds:
        return Text("")
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    left = width - 2
    for heading, figure in ROUND_FIGURES:
        cells = [figure(r) for r in rounds]
        left -= max(len(c) for c in (heading, *cells)) + 2
        if left < 0:
            break
        table.add_column(heading, justify="right", no_wrap=True)
    shown = ROUND_FIGURES[: len(table.columns)]
    for r in rounds:
        table.add_row(*(figure(r) for _, figure in shown))
    return Padding(table, (0, 0, 0, 2))


def report_view(report: dict[str, Any]) -> RenderableType:
    """The picture of a MigrationReport."""
    return Group(
        Fitted(lambda width: _verdict(report, width)),
        Text(""),
        Fitted(lambda width: phases_picture(report.get("phases", []), report.get("total_s", 0.0), width)),
        Text(""),
        Fitted(lambda width: rounds_picture(report.get("rounds", []), width)),
        *(network_line(check) for check in report.get("network", [])),
    )


def _verdict(report: dict[str, Any], width: int) -> list[RenderableType]:
    moved = report["result"] == "moved"
    told = {
        "moved": f"{report['vm']} moved from {report['source']} to {report['target']}",
        "stayed": f"{report['vm']} stayed on {report['source']}",
        "died": f"{report['vm']} died during its move from {report['source']} to {report['target']}",
    }[report["result"]]
    said = f"{'✓' if moved else '✗'} {told} in {output.seconds(report['total_s'])}"
    if moved:
        said += f", downtime {report['downtime_ms']:.0f} ms"
    said += f", {output.size(report['transferred_bytes'])} sent in {_count(len(report['rounds']), 'round')}"
    how = "TLS" if report["is_encrypted"] else "not encrypted"
    said += f" ({_count(report['channels'], 'channel')}, {how})"
    text = Text("\n  ".join(folded(said, width - 2)))
    text.stylize("bold green" if moved else "bold red", 0, 1)
    text.stylize("bold", 2, len(told) + 2)
    text.highlight_regex(r"downtime\s+\d+ ms", "bold cyan")
    return [text, *(Text(f"  {line}") for line in folded(report.get("why", ""), width - 2))]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def phases_picture(phases: Sequence[dict[str, Any]], total_s: float, width: int) -> list[RenderableType]:
    """Each phase as a bar on one time axis. The blackout is red and at least one cell wide."""
    end = max([total_s, *(p["start_s"] + p["duration_s"] for p in phases)], default=0.0)
    if end <= 0:
        return []
    figures = max((len(output.seconds(p["duration_s"])) for p in phases), default=0)
    room = width - figures - 4
    name = min(max((len(p["name"]) for p in phases), default=0), WIDEST_NAME, max(4, room // 3))
    axis = max(SHORTEST_AXIS, min(AXIS, room - name))
    lines: list[RenderableType] = [_phase(phase, end, name, axis) for phase in phases]
    lines.append(_line(f"  {'':<{name}} 0{output.seconds(end):>{axis - 1}}", style="dim"))
    return lines


def _phase(phase: dict[str, Any], end: float, name: int, axis: int) -> Text:
    start = min(axis - 1, int(phase["start_s"] / end * axis))
    cells = max(1, min(axis - start, round(phase["duration_s"] / end * axis)))
    is_blackout = phase.get("is_outage", any(word in phase["name"] for word in BLACKOUT_WORDS))
    line = _line(f"  {shorten(phase['name'], name):<{name}} ")
    line.append("·" * start, style="dim")
    line.append(("█" if is_blackout else "▆") * cells, style="bold red" if is_blackout else "green")
    line.append("·" * (axis - start - cells), style="dim")
    line.append(f" {output.seconds(phase['duration_s'])}", style="bold red" if is_blackout else "")
    return line


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def rounds_picture(rounds: Sequence[dict[str, Any]], width: int) -> list[RenderableType]:
    """What each round sent, as bars of one scale; a long middle part is left out and counted."""
    if not rounds:
        return []
    shown = list(rounds)
    left_out = len(shown) - SHOWN_ROUNDS
    if left_out > 0:
        shown = [*shown[: SHOWN_ROUNDS // 2], *shown[-SHOWN_ROUNDS // 2 :]]
    most = max(r["transferred_bytes"] for r in rounds) or 1
    figures = [_round_figures(r) for r in shown]
    room = width - 13
    sent = max(len(said) for said, _ in figures)
    dirtied = max(len(said) for _, said in figures)
    has_dirtied = room - sent - dirtied >= SHORTEST_AXIS
    cells = max(SHORTEST_AXIS, min(30, room - sent - (dirtied if has_dirtied else 0)))
    lines: list[RenderableType] = []
    for position, (r, (said, dirty)) in enumerate(zip(shown, figures, strict=True)):
        if left_out > 0 and position == SHOWN_ROUNDS // 2:
            lines.append(_line(f"  ... {left_out} more rounds", style="dim"))
        line = _line(f"  round {r['number']:<3} ")
        line.append(bar(r["transferred_bytes"] / most, cells), style="cyan")
        line.append(f" {said}")
        line.append(dirty if has_dirtied else "", style="dim")
        lines.append(line)
    return lines


def _round_figures(r: dict[str, Any]) -> tuple[str, str]:
    sent = f"{output.size(r['transferred_bytes']):>8} at {output.rate(r['throughput_bps'])}"
    return sent, f", dirtied {output.rate(r['dirty_rate_bps'])}"


def network_line(check: dict[str, Any]) -> Text:
    sign, style = {True: LEVEL_SIGNS["ok"], False: LEVEL_SIGNS["refused"]}.get(
        check["is_verified"], ("?", "yellow")
    )
    text = Text()
    text.append(f"\n  {sign} ", style=style)
    text.append(f"network of {check['mac']}: ")
    text.append(check["why"] or "could not be looked at")
    return text


def plan_view(plan: dict[str, Any]) -> RenderableType:
    """The answer of --dry-run: target, all findings, the hosts weighed."""
    text = Text()
    target = plan["target"] or "nowhere"
    text.append(f"{plan['vm']}: {plan['source']} → {target}", style="bold")
    text.append(f"  ({plan['reason']})\n")
    if plan.get("forecast"):
        from zugvogel.cli.quick_view import forecast_lines

        text.append("".join(f"  {line}\n" for line in forecast_lines(plan["forecast"])))
    for finding in plan["findings"]:
        sign, style = LEVEL_SIGNS[finding["level"]]
        text.append(f"  {sign} ", style=style)
        text.append(f"{finding['code']:<9} {finding['cause']}")
        text.append(f"; {finding['next_step']}\n" if finding["next_step"] else "\n")
    for candidate in plan["candidates"]:
        text.append(
            f"  {'+' if candidate['is_fit'] else '-'} {candidate['host']}: {candidate['why']}\n", style="dim"
        )
    text.rstrip()
    return text
