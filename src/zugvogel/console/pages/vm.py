"""One vm: its state and why, its settings, what was done with it, its logs."""

from __future__ import annotations

from typing import Any

from zugvogel.console.actions import Action, Call, Told
from zugvogel.console.fields import chosen, size_bytes, sizes_bytes, whole
from zugvogel.console.i18n import marked
from zugvogel.console.mirror import Fields, Mirror
from zugvogel.console.page import Look, Page, Variables
from zugvogel.console.pages.why import explained
from zugvogel.console.tables import natural
from zugvogel.domain.cluster import Access
from zugvogel.errors import InvalidInput, NotFound, Unreachable

WHY_S = 3.0
LOG_S = 5.0
LINES = (100, 500, 2000, 10_000)
LATEST_TASKS, LATEST_EVENTS = 8, 12
ON = ("running", "frozen")
"""States in which a vm has a QEMU."""


async def view(look: Look) -> Variables:
    vm = its(look)
    name = vm["name"]
    tasks = [t for t in look.mirror.all("tasks") if t["kind"].startswith("vm.") and t["subject"] == name]
    events = [e for e in look.mirror.all("events") if e["vm"] == name]
    return {
        "vm": vm,
        "is_on": vm["state"] in ON,
        "why": await look.now_and_then("why", WHY_S, lambda: explained(look, name, "vm")),
        "tasks": sorted(tasks, key=lambda t: str(t["created_at"]), reverse=True)[:LATEST_TASKS],
        "events": sorted(events, key=lambda e: str(e["id"]), reverse=True)[:LATEST_EVENTS],
        "targets": targets(look.mirror),
    }


def its(look: Look) -> Fields:
    """The vm of the page. Raises NotFound, and Unreachable while nothing is known."""
    name = look.path["name"]
    vm = look.mirror.one("vms", name)
    if vm is None:
        if not look.mirror.is_ready.is_set():
            raise Unreachable(
                look.mirror.trouble.get("", marked("the agent has not told anything yet")), marked("try again")
            )
        raise NotFound(
            look.language.text("there is no vm %(name)s", name=name),
            marked("it was deleted or unregistered; see the list of VMs"),
        )
    return vm


def targets(mirror: Mirror, *, but: str = "") -> list[Fields]:
    """Hosts that take vms, with what is free there."""
    hosts = [h for h in mirror.all("hosts") if h["verdict"] == "live" and h["name"] != but]
    return sorted(hosts, key=lambda host: natural(host["name"]))


# logs --------------------------------------------------------------------------------------------------


async def log_view(look: Look) -> Variables:
    vm = its(look)
    asked = look.query.get("lines", "")
    lines = int(asked) if asked.isdecimal() and int(asked) in LINES else LINES[0]
    path, params = f"/vms/{vm['name']}/log", {"lines": lines}
    log = await look.now_and_then("log", LOG_S, lambda: look.api.request("GET", path, params=params))
    return {"vm": vm, "log": log, "lines": lines, "choices": LINES}


# changing ----------------------------------------------------------------------------------------------


async def change_view(look: Look) -> Variables:
    vm = its(look)
    return {
        "vm": vm,
        "is_open": vm["state"] in ("stopped", "failed"),
        "host_names": sorted((h["name"] for h in look.mirror.all("hosts")), key=natural),
        "network_names": sorted((n["name"] for n in look.mirror.all("networks")), key=natural),
        "groups": sorted({v["definition"]["ha"]["anti_affinity"] for v in look.mirror.all("vms")} - {""}),
    }


async def change(call: Call) -> Told:
    name = call.path["name"]
    body = changes(call.form, call.lists)
    if not body:
        raise InvalidInput(marked("nothing was changed"), marked("change a field, or go back"))
    await call.api.request("PATCH", f"/vms/{name}", json=body)
    return Told(goto=f"/vms/{name}")


def changes(form: Any, lists: Any) -> dict[str, Any]:
    """A `ChangeVm` of those fields that differ from what the page showed, which is beside each as ``was_...``; so
    what somebody else changed meanwhile is not put back."""
    body: dict[str, Any] = {}
    for field, read in _READ.items():
        if field in form and form[field] != form.get(f"was_{field}", ""):
            body[field] = read(form[field])
    policy = {f: form[f] for f in _POLICY if f in form and form[f] != form.get(f"was_{f}", "")}
    preferred = chosen(lists.get("preferred_hosts", ()))
    if "was_preferred_hosts" in form and preferred != form["was_preferred_hosts"].split():
        policy["preferred_hosts"] = preferred
    if policy:
        body["ha"] = policy
    if disks := sizes_bytes(form.get("add_disks", "")):
        body["add_disks"] = [{"size_bytes": size} for size in disks]
    if networks := chosen(lists.get("add_networks", ())):
        body["add_networks"] = networks
    return body


_READ: dict[str, Any] = {
    "memory_bytes": size_bytes,
    "cpus": lambda text: whole(text, "CPUs"),
    "cpu_model": str,
    "display": str,
    "append": str,
    "description": str,
}
_POLICY = ("restart_priority", "isolation_response", "anti_affinity", "monitoring")

PAGES = (
    Page("/vms/{name}", "vm.html", view, every_s=WHY_S),
    Page("/vms/{name}/log", "vm_log.html", log_view, every_s=LOG_S),
    Page("/vms/{name}/change", "vm_change.html", change_view, needs=Access.OPERATOR),
)
ACTIONS = (Action("/vms/{name}/change", Access.OPERATOR, change),)
