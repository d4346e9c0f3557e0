"""The list of vms."""

from __future__ import annotations

from collections import Counter

from zugvogel.console.actions import Action
from zugvogel.console.mirror import Fields
from zugvogel.console.page import Look, Page, Variables
from zugvogel.console.tables import changed, holds, natural, shown

STATES = ("running", "migrating", "stopped", "suspended", "frozen", "failed", "unknown")
PRIORITIES = ("high", "medium", "low", "disabled")


def state_of(vm: Fields) -> str:
    """Its state, or that it is on its way."""
    return "migrating" if vm["is_migrating"] else str(vm["state"])


KEYS = {
    "name": lambda vm: vm["name"],
    "state": lambda vm: STATES.index(state_of(vm)),
    "host": lambda vm: vm["host"],
    "memory": lambda vm: vm["memory_bytes"],
    "cpus": lambda vm: vm["cpus"],
    "datastore": lambda vm: vm["datastore"],
    "priority": lambda vm: PRIORITIES.index(vm["definition"]["ha"]["restart_priority"]),
}


async def view(look: Look) -> Variables:
    query = look.query
    state, host, datastore = (query.get(name, "") for name in ("state", "host", "datastore"))
    text, priority = query.get("q", ""), query.get("priority", "")
    others = [
        vm
        for vm in look.mirror.all("vms")
        if host in ("", vm["host"])
        and datastore in ("", vm["datastore"])
        and priority in ("", vm["definition"]["ha"]["restart_priority"])
        and holds(text, *told_of(vm))
    ]
    counts = Counter(state_of(vm) for vm in others)
    found = [vm for vm in others if state in ("", state_of(vm))]
    return {
        "table": shown(found, query, KEYS, "name"),
        "all_count": len(look.mirror.all("vms")),
        "counts": [(name, counts[name]) for name in STATES if counts[name] or name == state],
        "with_state": lambda name: changed(query, state="" if name == state else name),
        "text": text,
        "state": state,
        "chosen_host": host,
        "chosen_datastore": datastore,
        "priority": priority,
        "host_names": sorted((h["name"] for h in look.mirror.all("hosts")), key=natural),
        "datastore_names": sorted((d["name"] for d in look.mirror.all("datastores")), key=natural),
    }


def told_of(vm: Fields) -> tuple[object, ...]:
    """What a search looks in."""
    definition = vm["definition"]
    return (
        *(vm["name"], vm["host"], vm["datastore"], definition["description"], definition["ha"]["anti_affinity"]),
        *(*vm["addresses"], *vm["macs"], *vm["networks"]),
    )


PAGES = (Page("/vms", "vms.html", view),)
ACTIONS: tuple[Action, ...] = ()
