"""What was seen and done, with its evidence."""

from __future__ import annotations

from typing import Any

from zugvogel.console.actions import Action
from zugvogel.console.page import Look, Page, Variables
from zugvogel.console.tables import holds, shown

KEYS = {"at": lambda event: event["id"].encode()}
"""Ids rise with time, letter by letter; texts are sorted by the numbers in them."""
SEVERITIES = {"info": ("info", "warning", "error"), "warning": ("warning", "error"), "error": ("error",)}
"""Chosen -> what is shown: that and worse."""


async def view(look: Look) -> Variables:
    query = look.query
    text, severity = query.get("q", ""), query.get("severity", "info")
    kind, host = query.get("kind", ""), query.get("host", "")
    wanted = SEVERITIES.get(severity, SEVERITIES["info"])
    all_events = look.mirror.all("events")
    found = [
        event
        for event in all_events
        if event["severity"] in wanted
        and (not kind or event["event"].partition(".")[0] == kind)
        and host in ("", event["host"])
        and holds(text, event["event"], event["subject"], event["cause"], event["host"])
    ]
    return {
        "table": shown(found, query, KEYS, "at", down=True),
        "all_count": len(all_events),
        "text": text,
        "severity": severity,
        "kind": kind,
        "chosen_host": host,
        "kinds": sorted({event["event"].partition(".")[0] for event in all_events}),
        "host_names": sorted(h["name"] for h in look.mirror.all("hosts")),
        "evidence": evidence,
    }


def evidence(event: dict[str, Any]) -> list[tuple[str, str]]:
    """What it tells, flat: ``("downtime_ms", "12.5")``; nested values by their path."""
    return [(name, text) for name, text in flat("", event["evidence"]) if text]


def flat(path: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for name, inner in value.items() for pair in flat(f"{path}.{name}" if path else name, inner)]
    if isinstance(value, list):
        if all(not isinstance(each, dict | list) for each in value):
            return [(path, ", ".join(str(each) for each in value))]
        return [pair for number, inner in enumerate(value, 1) for pair in flat(f"{path}[{number}]", inner)]
    if isinstance(value, float):
        return [(path, f"{value:.6g}")]
    return [(path, "" if value is None else str(value))]


PAGES = (Page("/events", "events.html", view),)
ACTIONS: tuple[Action, ...] = ()
