"""One task: while it runs, and its report for ever after. A migration is shown as what it is: phases, rounds, and
the blackout on a time axis."""

from __future__ import annotations

from typing import Any

from zugvogel.console.actions import Action
from zugvogel.console.mirror import Fields
from zugvogel.console.page import Look, Page, Variables
from zugvogel.console.pages.events import flat
from zugvogel.console.samples import Sample, from_rounds

RUNNING = ("pending", "running")
OFTEN_S = 0.4
BLACKOUT = {"live": ("switchover",), "quick": ("suspend", "durable", "hand-over", "load")}
"""Phases in which the guest stands still, by the kind of migration."""
WIDTH = 1000.0
"""Of the time axes, in their own units."""


async def view(look: Look) -> Variables:
    task = await _task(look)
    is_running = task["state"] in RUNNING
    report, detail = task["report"] or {}, task["progress"]["detail"] or {}
    mode = _mode(task, report)
    shown = report or detail
    look.mirror.samples.add(task)
    events = [event for event in look.mirror.all("events") if event["task"] == task["id"]]
    return {
        "task": task,
        "is_running": is_running,
        "every_s": OFTEN_S if is_running else None,
        "mode": mode,
        "report": report,
        "detail": detail,
        "rounds": shown.get("rounds", []),
        "chart": chart(_samples(look, task, report, detail)) if mode else None,
        "axis": axis(report, mode) if mode and report.get("phases") else None,
        "events": sorted(events, key=lambda event: str(event["id"])),
        "facts": [] if mode else plain(report),
    }


async def _task(look: Look) -> Fields:
    """From whoever does it while it runs: the watch tells of other hosts' tasks a second later."""
    kept: Fields | None = look.keep.get("task")
    if kept is not None and kept["state"] not in RUNNING:
        return kept
    task: Fields = await look.api.request("GET", f"/tasks/{look.path['id']}")
    look.keep["task"] = task
    return task


def _mode(task: Fields, report: Fields) -> str:
    """ "live", "quick" (also of a suspend or a resume), or empty: no migration."""
    if task["kind"] in ("vm.suspend", "vm.resume"):
        return "quick"
    if task["kind"] != "vm.migrate":
        return ""
    return str(
        report.get("mode") or ("live" if "downtime_limit_ms" in (task["progress"]["detail"] or {}) else "quick")
    )


def _samples(look: Look, task: Fields, report: Fields, detail: Fields) -> list[Sample]:
    seen = look.mirror.samples.of(task["id"])
    phases = {phase["name"]: phase for phase in report.get("phases", [])}
    first = phases.get("precopy") or phases.get("stream")
    rounds: list[Fields] = report.get("rounds") or detail.get("rounds") or []
    memory = report.get("memory_bytes") or detail.get("total_bytes") or 0
    of_rounds = from_rounds(rounds, first["start_s"] if first else 0.0, memory)
    if seen and not report:
        return [sample for sample in of_rounds if sample.at_s < seen[0].at_s] + seen
    return max(seen, of_rounds, key=len)


def chart(samples: list[Sample]) -> dict[str, Any] | None:
    """Columns for the chart's script; None: nothing to draw yet."""
    if len(samples) < 2:
        return None
    return {
        "x": [round(sample.at_s, 3) for sample in samples],
        "remaining_bytes": [sample.remaining_bytes for sample in samples],
        "throughput_bps": [sample.throughput_bps for sample in samples],
        "dirty_rate_bps": [sample.dirty_rate_bps for sample in samples],
    }


def axis(report: Fields, mode: str) -> dict[str, Any]:
    """Phases as bars, `x` and `width` in units of `WIDTH`; and marks: instants seen from outside."""
    phases = report["phases"]
    end_s = max([report["total_s"], *(p["start_s"] + p["duration_s"] for p in phases)]) or 1.0
    is_move = report["result"] == "moved" and bool(report.get("outage_ms", 1))
    bars = [
        {
            **phase,
            "x": round(WIDTH * phase["start_s"] / end_s, 1),
            "width": round(max(3.0, WIDTH * phase["duration_s"] / end_s), 1),
            "is_blackout": is_move and phase["name"] in BLACKOUT[mode],
        }
        for phase in phases
    ]
    return {"bars": bars, "end_s": end_s, "marks": _marks(report, end_s)}


def _marks(report: Fields, end_s: float) -> list[dict[str, Any]]:
    found = [
        {"name": name, "mac": check["mac"], "at_s": at_s, "x": round(WIDTH * at_s / end_s, 1)}
        for check in report.get("network", [])
        for name in ("rarp_at_s", "answered_at_s")
        if (at_s := check.get(name)) is not None and at_s <= end_s
    ]
    return sorted(found, key=lambda mark: mark["at_s"])


def plain(report: Fields) -> list[tuple[str, str]]:
    """A report that has no picture: its figures by name."""
    return [(name, text) for name, text in flat("", report) if text]


PAGES = (Page("/tasks/{id}", "task.html", view, every_s=OFTEN_S),)
ACTIONS: tuple[Action, ...] = ()
