"""Datastores: how each host sees them, which leases lie there, and what proves a failed host dead."""

from __future__ import annotations

from collections import Counter

from zugvogel.console.actions import Action, Call, Told
from zugvogel.console.i18n import marked
from zugvogel.console.mirror import Fields, Mirror
from zugvogel.console.page import Look, Page, Variables
from zugvogel.console.pages.vms import STATES, state_of
from zugvogel.console.silence import OF_BEATS, beat, marks_of
from zugvogel.console.tables import natural, shown
from zugvogel.domain.cluster import Access
from zugvogel.errors import NotFound, Unreachable

KEYS = {
    "name": lambda vm: vm["name"],
    "holder": lambda vm: vm["host"],
    "epoch": lambda vm: vm["epoch"],
    "state": lambda vm: STATES.index(state_of(vm)),
}


async def list_view(look: Look) -> Variables:
    mirror = look.mirror
    vms = Counter(vm["datastore"] for vm in mirror.all("vms"))
    stores = sorted(mirror.all("datastores"), key=lambda store: natural(store["name"]))
    return {
        "stores": [{**store, "vm_count": vms[store["name"]], **_usable(mirror, store)} for store in stores],
        "judges": mirror.ha["active_primaries"] if mirror.ha else {},
    }


def _usable(mirror: Mirror, store: Fields) -> Fields:
    """`not_on`: host -> why. What a host told before it failed does not count any more."""
    not_on: dict[str, str] = {}
    for name in sorted(store["hosts"], key=natural):
        report, host = store["hosts"][name], mirror.one("hosts", name)
        if host and host["verdict"] == "failed":
            not_on[name] = str(host["why"])
        elif not report["is_usable"]:
            not_on[name] = str(report["why"])
    return {
        "host_count": len(store["hosts"]),
        "usable_count": len(store["hosts"]) - len(not_on),
        "not_on": not_on,
    }


async def view(look: Look) -> Variables:
    mirror, store = look.mirror, its(look)
    name, ha = store["name"], mirror.ha
    detection_s = ha["detection_time_ms"] / 1000 if ha else 0.0
    vms = [vm for vm in mirror.all("vms") if vm["datastore"] == name]
    return {
        "store": {**store, **_usable(mirror, store)},
        "judge": ha["active_primaries"].get(name) if ha else None,
        "places": places(mirror, store, detection_s),
        "marks": [mark for mark in marks_of(detection_s) if mark.name in OF_BEATS] if ha else [],
        "table": shown(vms, look.query, KEYS, "name"),
        "vm_count": len(vms),
    }


def its(look: Look) -> Fields:
    """The datastore of the page. Raises NotFound, and Unreachable while nothing is known."""
    name = look.path["name"]
    store = look.mirror.one("datastores", name)
    if store is None:
        if not look.mirror.is_ready.is_set():
            raise Unreachable(
                look.mirror.trouble.get("", marked("the agent has not told anything yet")), marked("try again")
            )
        raise NotFound(
            look.language.text("there is no datastore %(name)s", name=name),
            marked("it was removed; see the list of datastores"),
        )
    return store


def places(mirror: Mirror, store: Fields, detection_s: float) -> list[Fields]:
    """By host: what it reports of the datastore (None: nothing), and its beat there as the judge reads it."""
    name = store["name"]
    return [
        {
            "host": host["name"],
            "verdict": host["verdict"],
            "report": store["hosts"].get(host["name"]),
            "beat": beat(name, host["beat_ages_s"].get(name), detection_s),
        }
        for host in sorted(mirror.all("hosts"), key=lambda host: natural(host["name"]))
    ]


# changing ------------------------------------------------------------------------------------------------


async def add(call: Call) -> Told:
    body = {
        "name": call.form.get("name", ""),
        "path": call.form.get("path", ""),
        "is_local_allowed": bool(call.form.get("is_local_allowed")),
    }
    task = await call.api.request("POST", "/datastores", json=body)
    return Told(goto=f"/tasks/{task['id']}")


async def change(call: Call) -> Told:
    name = call.path["name"]
    changed = await call.api.request("PATCH", f"/datastores/{name}", json={"proof": call.form.get("proof", "")})
    says = call.language.text
    return Told(
        says("A failed host is proven dead on %(store)s by: %(proof)s.", store=name, proof=changed["proof"])
    )


async def remove(call: Call) -> Told:
    await call.api.request("DELETE", f"/datastores/{call.path['name']}")
    return Told(goto="/datastores")


PAGES = (
    Page("/datastores", "datastores.html", list_view),
    Page("/datastores/{name}", "datastore.html", view),
)
ACTIONS = (
    Action("/datastores/_add", Access.ADMIN, add),
    Action("/datastores/{name}/proof", Access.ADMIN, change),
    Action("/datastores/{name}/remove", Access.ADMIN, remove),
)
