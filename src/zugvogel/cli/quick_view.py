"""Suspend, resume and quick migration on a terminal: while they run, forecast, and the report afterwards."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from zugvogel.cli import output
from zugvogel.cli.columns import folded, shorten
from zugvogel.cli.migration_view import Fitted, network_line, phases_picture, rounds_picture
from zugvogel.cli.watch import bar

OUTAGE_PHASES = ("suspend", "durable", "hand-over", "load")


def live_view(task: dict[str, Any]) -> RenderableType:
    progress, detail = task["progress"], task["progress"]["detail"] or {}
    head = Text("● ", style="green")
    what = {"vm.suspend": "suspend", "vm.resume": "resume"}.get(task["kind"], "quick migration")
    head.append(f"{what} of {shorten(task['subject'], 24)}", style="bold")
    head.append(f"  {progress['phase']}", style="cyan")
    if "elapsed_s" in detail:
        head.append(f"  {output.seconds(detail['elapsed_s'])}", style="dim")
    lines: list[RenderableType] = [head, Text(f"  {progress['message']}", style="dim")]
    if progress["fraction"] is not None:
        lines.append(Text(f"  {bar(progress['fraction'], 40)} {progress['fraction']:.0%}", style="cyan"))
    return Group(*lines)


def forecast_lines(forecast: dict[str, Any]) -> list[str]:
    """What is to be written and how long nobody can use the vm; and by which method, where there was a choice."""
    said = f"forecast: {output.size(forecast['size_bytes'])} to write"
    if forecast["write_bps"]:
        said += f" at {output.rate(forecast['write_bps'])}, outage about {output.seconds(forecast['outage_s'])}"
    else:
        said += "; the datastore was not measured"
    how = forecast.get("how", "")
    if forecast.get("dirty_bps") is not None and forecast["is_streamed"]:
        how += f"; it changes {output.rate(forecast['dirty_bps'])}"
    return [said, how] if how else [said]


def report_view(report: dict[str, Any]) -> RenderableType:
    """The picture of a QuickReport."""
    parts: list[RenderableType] = [
        Fitted(lambda width: _verdict(report, width)),
        Text(""),
        Fitted(lambda width: phases_picture(_marked(report), report["total_s"], width)),
    ]
    if report.get("rounds"):
        parts += [Text(""), Fitted(lambda width: rounds_picture(report["rounds"], width))]
    if report.get("forecast"):
        parts.append(Text(""))
        parts.extend(Text(f"  {line}", style="dim") for line in forecast_lines(report["forecast"]))
    parts.extend(network_line(check) for check in report.get("network", []))
    return Group(*parts)


def _marked(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Phases in which nobody can use the vm are drawn as the outage."""
    is_move = report["result"] == "moved" and report["outage_ms"]
    return [{**p, "is_outage": bool(is_move and p["name"] in OUTAGE_PHASES)} for p in report.get("phases", [])]


def _format(report: dict[str, Any]) -> str:
    """As people say it."""
    named = "streamed" if report.get("is_streamed") else report["format"]
    return f"{named}, zstd" if report.get("is_compressed") else str(named)


def _verdict(report: dict[str, Any], width: int) -> list[RenderableType]:
    vm, source, target = report["vm"], report["source"], report["target"]
    is_resume = report["result"] == "moved" and not report["outage_ms"]
    told = {
        "moved": f"{vm} resumed on {target}" if is_resume else f"{vm} moved from {source} to {target}",
        "stayed": f"{vm} stayed on {source}",
        "suspended": f"{vm} is suspended",
        "died": f"{vm} ended",
    }[report["result"]]
    is_good = report["result"] == "moved" or (report["result"] == "suspended" and not target)
    said = f"{'✓' if is_good else '✗'} {told} in {output.seconds(report['total_s'])}"
    if report["outage_ms"]:
        said += f", outage {output.seconds(report['outage_ms'] / 1000)}"
    verb = "loaded" if is_resume else "written"
    said += f", {output.size(report['transferred_bytes'])} {verb}"
    said += f" ({_format(report)})" if report["format"] else ""
    text = Text("\n  ".join(folded(said, width - 2)))
    text.stylize("bold green" if is_good else "bold red", 0, 1)
    text.stylize("bold", 2, len(told) + 2)
    text.highlight_regex(r"outage\s+[0-9.]+ m?s", "bold cyan")
    return [text, *(Text(f"  {line}") for line in folded(report.get("why", ""), width - 2))]
