"""A live migration on the terminal: while it runs, and afterwards as a picture of its phases and rounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from zugvogel.cli import output
from zugvogel.cli.watch import bar

SHOWN_ROUNDS = 12
AXIS = 60
BLACKOUT_WORDS = ("blackout", "switchover")
LEVEL_SIGNS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "refused": ("✗", "bold red")}


def live_view(task: dict[str, Any]) -> RenderableType:
    """`task["progress"]["detail"]`: a MigrationProgress. Missing figures count as zero."""
    progress, detail = task["progress"], task["progress"]["detail"]
    head = Text()
    head.append("● ", style="green")
    head.append(f"live migration of {task['subject']}", style="bold")
    head.append(f"  {detail.get('phase') or progress['phase']}", style="cyan")
    head.append(f"  {output.seconds(detail.get('elapsed_s', 0.0))}", style="dim")
    if progress["message"]:
        head.append(f"\n  {progress['message']}", style="dim")
    figures = Text(
        f"  {bar(_fraction(progress, detail), 40)}  {output.size(detail.get('transferred_bytes', 0))} sent, "
        f"{output.size(detail.get('remaining_bytes', 0))} left, {output.rate(detail.get('throughput_bps', 0.0))}\n"
        f"  dirtied {output.rate(detail.get('dirty_rate_bps', 0.0))}, "
        f"expected downtime {_downtime(detail.get('expected_downtime_ms', 0.0))} "
        f"(limit {_downtime(detail.get('downtime_limit_ms', 0.0))})"
    )
    return Group(head, figures, rounds_table(detail.get("rounds", [])[-SHOWN_ROUNDS:]))


def _downtime(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds else "not known yet"


def _fraction(progress: dict[str, Any], detail: dict[str, Any]) -> float:
    if progress["fraction"] is not None:
        return float(progress["fraction"])
    total = detail.get("total_bytes", 0)
    return 1 - detail.get("remaining_bytes", 0) / total if total else 0.0


def rounds_table(rounds: Sequence[dict[str, Any]]) -> RenderableType:
    if not rounds:
        return Text("")
    table = Table(box=None, header_style="dim", padding=(0, 2))
    for heading in ("round", "sent", "left", "dirty rate", "throughput", "exp. downtime", "took"):
        table.add_column(heading, justify="right")
    for r in rounds:
        table.add_row(
            str(r["number"]),
            output.size(r["transferred_bytes"]),
            output.size(r["remaining_bytes"]),
            output.rate(r["dirty_rate_bps"]),
            output.rate(r["throughput_bps"]),
            f"{r['expected_downtime_ms']:.0f} ms",
            output.seconds(r["duration_s"]),
        )
    return table


def report_view(report: dict[str, Any]) -> RenderableType:
    """The picture of a MigrationReport."""
    return Group(
        _verdict(report),
        Text(""),
        *phases_picture(report.get("phases", []), report.get("total_s", 0.0)),
        Text(""),
        *rounds_picture(report.get("rounds", [])),
        *(_network(check) for check in report.get("network", [])),
    )


def _verdict(report: dict[str, Any]) -> Text:
    text = Text()
    moved = report["result"] == "moved"
    text.append("✓ " if moved else "✗ ", style="bold green" if moved else "bold red")
    told = {
        "moved": f"{report['vm']} moved from {report['source']} to {report['target']}",
        "stayed": f"{report['vm']} stayed on {report['source']}",
        "died": f"{report['vm']} died during its move from {report['source']} to {report['target']}",
    }
    text.append(told[report["result"]], style="bold")
    text.append(f" in {output.seconds(report['total_s'])}")
    if moved:
        text.append(f", downtime {report['downtime_ms']:.0f} ms", style="bold cyan")
    text.append(f", {output.size(report['transferred_bytes'])} sent in {len(report['rounds'])} rounds")
    text.append(f" ({report['channels']} channels, {'TLS' if report['is_encrypted'] else 'not encrypted'})")
    if report.get("why"):
        text.append(f"\n  {report['why']}")
    return text


def phases_picture(phases: Sequence[dict[str, Any]], total_s: float) -> list[RenderableType]:
    """Each phase as a bar on one time axis. The blackout is red and at least one cell wide."""
    end = max([total_s, *(p["start_s"] + p["duration_s"] for p in phases)], default=0.0)
    if end <= 0:
        return []
    width = max(len(p["name"]) for p in phases) if phases else 0
    lines: list[RenderableType] = []
    for phase in phases:
        start = min(AXIS - 1, int(phase["start_s"] / end * AXIS))
        cells = max(1, min(AXIS - start, round(phase["duration_s"] / end * AXIS)))
        is_blackout = any(word in phase["name"] for word in BLACKOUT_WORDS)
        line = Text(f"  {phase['name']:<{width}} ")
        line.append("·" * start, style="dim")
        line.append(("█" if is_blackout else "▆") * cells, style="bold red" if is_blackout else "green")
        line.append("·" * (AXIS - start - cells), style="dim")
        line.append(f" {output.seconds(phase['duration_s'])}", style="bold red" if is_blackout else "")
        lines.append(line)
    axis = f"0{output.seconds(end):>{AXIS - 1}}"
    lines.append(Text(f"  {'':<{width}} {axis}", style="dim"))
    return lines


def rounds_picture(rounds: Sequence[dict[str, Any]]) -> list[RenderableType]:
    """What each round sent, as bars of one scale; a long middle part is left out and counted."""
    if not rounds:
        return []
    most = max(r["transferred_bytes"] for r in rounds) or 1
    shown = list(rounds)
    left_out = len(shown) - SHOWN_ROUNDS
    if left_out > 0:
        shown = [*shown[: SHOWN_ROUNDS // 2], *shown[-SHOWN_ROUNDS // 2 :]]
    lines: list[RenderableType] = []
    for position, r in enumerate(shown):
        if left_out > 0 and position == SHOWN_ROUNDS // 2:
            lines.append(Text(f"  ... {left_out} more rounds", style="dim"))
        line = Text(f"  round {r['number']:<3} ")
        line.append(bar(r["transferred_bytes"] / most, 30), style="cyan")
        line.append(f" {output.size(r['transferred_bytes']):>9} at {output.rate(r['throughput_bps'])}")
        line.append(f", dirtied {output.rate(r['dirty_rate_bps'])}", style="dim")
        lines.append(line)
    return lines


def _network(check: dict[str, Any]) -> Text:
    sign, style = {True: LEVEL_SIGNS["ok"], False: LEVEL_SIGNS["refused"]}.get(
        check["is_verified"], ("?", "yellow")
    )
    text = Text()
    text.append(f"\n  {sign} ", style=style)
    text.append(f"network of {check['mac']}: ")
    said = []
    if check["rarp_seen"] is not None:
        said.append("announcement seen" if check["rarp_seen"] else "announcement not seen")
    if check["answers_after"]:
        said.append(f"{', '.join(check['answers_after'])} answers")
    if check["why"]:
        said.append(check["why"])
    text.append("; ".join(said) or "could not be looked at")
    return text


def plan_view(plan: dict[str, Any]) -> RenderableType:
    """The answer of --dry-run: target, all findings, the hosts weighed."""
    text = Text()
    target = plan["target"] or "nowhere"
    text.append(f"{plan['vm']}: {plan['source']} → {target}", style="bold")
    text.append(f"  ({plan['reason']})\n")
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
