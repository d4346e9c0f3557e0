"""The cluster at a glance: hosts, failover capacity, what happens now and what if a host fails."""

from __future__ import annotations

from collections import Counter
from typing import Any

from zugvogel.console.actions import Action
from zugvogel.console.mirror import Fields, Mirror
from zugvogel.console.page import Look, Page, Variables
from zugvogel.console.pages.cluster_doing import is_majority_lost
from zugvogel.console.tables import changed, holds, natural, shown
from zugvogel.errors import ZugvogelError

LATEST = 8
PLAN_S = 5.0
HOSTS_AT_ONCE = 100
VERDICTS = ("failed", "storage-lost", "isolated", "partitioned", "maintenance", "live")
"""The worst first."""
KEYS = {
    "name": lambda host: host["name"],
    "verdict": lambda host: VERDICTS.index(host["verdict"]),
    "role": lambda host: (host["role"], not host["is_active_primary"]),
    "memory": lambda host: _share(
        host["memory_total_bytes"] - host["memory_available_bytes"], host["memory_total_bytes"]
    ),
    "load": lambda host: _share(host["load1"], host["cores"]),
    "vms": lambda host: host["vm_count"],
    "heartbeat": lambda host: host["heartbeat_age_s"],
    "beat": lambda host: max(host["beat_ages_s"].values(), default=None),
}


async def view(look: Look) -> Variables:
    mirror, query, failing = look.mirror, look.query, look.query.get("fail", "")
    hosts = hosts_shown(mirror)
    if not any(host["name"] == failing for host in hosts):
        failing = ""
    plan = await look.now_and_then(f"plan {failing}", PLAN_S, lambda: _plan(look, failing)) if failing else None
    verdict, text = query.get("verdict", ""), query.get("q", "")
    others = [h for h in hosts if holds(text, h["name"], h["address"], h["failure_domain"], h["role"], h["cpu"])]
    found = [host for host in others if verdict in ("", host["verdict"])]
    counts = Counter(host["verdict"] for host in others)
    return {
        "hosts": hosts,
        "table": shown(found, query, KEYS, "name", at_once=HOSTS_AT_ONCE),
        "counts": [(name, counts[name]) for name in VERDICTS if counts[name] or name == verdict],
        "with_verdict": lambda name: changed(query, verdict="" if name == verdict else name),
        "verdict": verdict,
        "text": text,
        "query": query,
        "is_majority_lost": is_majority_lost(hosts),
        "verdicts": Counter(host["verdict"] for host in hosts),
        "vm_states": Counter(vm["state"] for vm in mirror.all("vms")),
        "ha": mirror.ha,
        "capacity": capacity(mirror.ha),
        "failing": failing,
        "plan": plan,
        "running": [t for t in reversed(mirror.all("tasks")) if t["state"] in ("pending", "running")][:LATEST],
        "events": sorted(mirror.all("events"), key=lambda e: str(e["id"]), reverse=True)[:LATEST],
    }


def hosts_shown(mirror: Mirror) -> list[Fields]:
    """By name, each with what its page and the list need beside the API's fields."""
    vms = Counter(
        vm["host"] for vm in mirror.all("vms") if vm["host"] and vm["state"] in ("running", "frozen", "unknown")
    )
    found = [{**host, "vm_count": vms[host["name"]]} for host in mirror.all("hosts")]
    return sorted(found, key=lambda host: natural(host["name"]))


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def capacity(ha: Fields | None) -> list[dict[str, Any]]:
    """Parts of the memory of hosts that can take vms: name, bytes, start and width as shares of 100."""
    if ha is None:
        return []
    admission = ha["admission"]
    total = sum(admission[name] for name in ("used", "reserved", "free")) or 1
    parts, start = [], 0.0
    for name in ("used", "reserved", "free"):
        width = 100 * admission[name] / total
        parts.append({"name": name, "bytes": admission[name], "start": round(start, 2), "width": round(width, 2)})
        start += width
    return parts


async def _plan(look: Look, failing: str) -> dict[str, Any]:
    try:
        found = await look.api.request("GET", "/ha/plan", params={"fail": failing})
    except ZugvogelError as error:
        return {"cause": error.cause, "placed": [], "is_complete": False}
    return {"cause": "", **found}


PAGES = (Page("/", "cluster.html", view, every_s=PLAN_S),)
ACTIONS: tuple[Action, ...] = ()
