"""One host: its verdict and why, its signs of life, what it has and runs, what was done with it."""

from __future__ import annotations

from typing import Any

from zugvogel.console.actions import Action
from zugvogel.console.i18n import marked
from zugvogel.console.mirror import Fields
from zugvogel.console.page import Look, Page, Variables
from zugvogel.console.pages.networks import on_host
from zugvogel.console.pages.vm import targets
from zugvogel.console.pages.vms import PRIORITIES, STATES, state_of
from zugvogel.console.pages.why import explained
from zugvogel.console.silence import scale
from zugvogel.console.tables import natural, shown
from zugvogel.core.fencing import MASK
from zugvogel.domain.cluster import Access
from zugvogel.errors import NotFound, SessionEnded, Unreachable, ZugvogelError

WHY_S = 2.0
FENCE_S = 5.0
LATEST = 8
MAINTENANCE = "host.maintenance"
KEYS = {
    "name": lambda vm: vm["name"],
    "state": lambda vm: STATES.index(state_of(vm)),
    "memory": lambda vm: vm["memory_bytes"],
    "priority": lambda vm: PRIORITIES.index(vm["definition"]["ha"]["restart_priority"]),
}


async def view(look: Look) -> Variables:
    mirror, host, ha = look.mirror, its(look), look.mirror.ha
    name = host["name"]
    vms = [vm for vm in mirror.all("vms") if vm["host"] == name]
    on = [vm for vm in vms if vm["state"] in ("running", "frozen")]
    tasks = [t for t in mirror.all("tasks") if t["kind"].startswith("host.") and t["subject"] == name]
    return {
        "its": host,
        "why": await look.now_and_then("why", WHY_S, lambda: explained(look, name, "host")),
        "fence": await look.now_and_then("fence", FENCE_S, lambda: fence_of(look, name)),
        "mask": MASK,
        "scale": scale(ha["detection_time_ms"] / 1000, host["heartbeat_age_s"], host["beat_ages_s"])
        if ha
        else None,
        "protections": [p for p in (ha["protections"] if ha else []) if p["subject"] == name],
        "judged": sorted(s for s, judge in (ha["active_primaries"] if ha else {}).items() if judge == name),
        "judges": ha["active_primaries"] if ha else {},
        "table": shown(vms, look.query, KEYS, "name"),
        "moving": {"count": len(on), "bytes": sum(vm["memory_bytes"] for vm in on)},
        "others": targets(mirror, but=name),
        "networks": [
            on_host(network, host) for network in sorted(mirror.all("networks"), key=lambda n: natural(n["name"]))
        ],
        "emptying": next(
            (t for t in tasks if t["kind"] == MAINTENANCE and t["state"] in ("pending", "running")), None
        ),
        "tasks": sorted(tasks, key=lambda t: str(t["created_at"]), reverse=True)[:LATEST],
        "events": sorted(_events(look, name), key=lambda e: str(e["id"]), reverse=True)[:LATEST],
        "domains": sorted({h["failure_domain"] for h in mirror.all("hosts")} - {""}, key=natural),
    }


def its(look: Look) -> Fields:
    """The host of the page. Raises NotFound, and Unreachable while nothing is known."""
    name = look.path["name"]
    host = look.mirror.one("hosts", name)
    if host is None:
        if not look.mirror.is_ready.is_set():
            raise Unreachable(
                look.mirror.trouble.get("", marked("the agent has not told anything yet")), marked("try again")
            )
        raise NotFound(
            look.language.text("there is no host %(name)s", name=name),
            marked("it was removed, or never joined; see the list of hosts"),
        )
    return host


async def fence_of(look: Look, name: str) -> dict[str, Any]:
    """Only admins may see it. `trouble`: why it is not known."""
    nothing: dict[str, Any] = {"agent": "", "parameters": {}, "trouble": ""}
    if not look.person.may(Access.ADMIN):
        return nothing
    try:
        return {**nothing, **await look.api.request("GET", f"/hosts/{name}/fence")}
    except NotFound:
        return nothing
    except SessionEnded:
        raise
    except ZugvogelError as error:
        return {**nothing, "trouble": error.cause}


def _events(look: Look, name: str) -> list[Fields]:
    """Those that tell of the host, and of others what it saw or did with its vms."""
    return [
        e
        for e in look.mirror.all("events")
        if e["host"] == name or (e["event"].startswith("host.") and e["subject"] == name)
    ]


PAGES = (Page("/hosts/{name}", "host.html", view, every_s=WHY_S),)
ACTIONS: tuple[Action, ...] = ()
