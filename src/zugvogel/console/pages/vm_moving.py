"""Moving a vm: the plan first, with every check, its cause and the next step; then the move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zugvogel.console.actions import Action, Call, Told
from zugvogel.console.fields import whole
from zugvogel.console.mirror import Fields
from zugvogel.console.page import Look, Page, Variables
from zugvogel.console.pages.vm import its, targets
from zugvogel.domain.cluster import Access
from zugvogel.errors import InvalidInput, SessionEnded, ZugvogelError

PLAN_S = 5.0
MEASURED_S = 60.0
"""A plan of a quick migration writes to the datastore, to measure it."""
FIGURES = ("max_downtime_ms", "bandwidth_mib", "channels", "timeout_s")
STREAMED = {"quick": None, "streamed": True, "stop-first": False}
MODES = ("live", *STREAMED)
FIELDS = ("mode", "target", "tls", "is_compressed", *FIGURES)
WORST_FIRST = ("refused", "warning", "ok")


async def view(look: Look) -> Variables:
    vm = its(look)
    form = {name: look.query.get(name, "") for name in FIELDS}
    form["mode"] = form["mode"] if form["mode"] in MODES else MODES[0]
    every_s = PLAN_S if form["mode"] == "live" else MEASURED_S
    plan = await look.now_and_then("plan", every_s, lambda: _plan(look, vm["name"], form))
    return {
        "vm": vm,
        "targets": targets(look.mirror, but=vm["host"] or ""),
        "form": form,
        "plan": plan,
        "findings": sorted(plan["findings"], key=lambda f: WORST_FIRST.index(f["level"])),
        "is_refused": bool(plan["trouble"])
        or plan["target"] is None
        or any(f["level"] == "refused" for f in plan["findings"]),
    }


async def _plan(look: Look, name: str, form: Mapping[str, str]) -> Fields:
    nothing: Fields = {
        "findings": [],
        "candidates": [],
        "forecast": None,
        "target": None,
        "reason": "",
        "next_step": "",
    }
    try:
        found = await look.api.request("POST", f"/vms/{name}/migration-plan", json=asked(form))
    except SessionEnded:
        raise
    except ZugvogelError as error:
        return {**nothing, "trouble": error.cause, "next_step": error.next_step}
    return {**nothing, "trouble": "", **found}


async def move(call: Call) -> Told:
    task = await call.api.request("POST", f"/vms/{call.path['name']}/migrate", json=asked(call.form))
    return Told(goto=f"/tasks/{task['id']}")


def asked(form: Mapping[str, str]) -> dict[str, Any]:
    """A `MigrateVm`. Raises InvalidInput."""
    mode = form.get("mode") or "live"
    if mode not in MODES:
        raise InvalidInput(f"there is no way to move it called {mode}", f"choose one of {', '.join(MODES)}")
    body: dict[str, Any] = {"mode": "live" if mode == "live" else "quick", "target": form.get("target") or None}
    if mode == "live":
        options: dict[str, Any] = {name: whole(form[name], name) for name in FIGURES if form.get(name)}
        if form.get("tls") in ("yes", "no"):
            options["is_encrypted"] = form["tls"] == "yes"
        body["options"] = options
    else:
        body["save"] = {"is_streamed": STREAMED[mode], "is_compressed": bool(form.get("is_compressed"))}
    return body


PAGES = (Page("/vms/{name}/migrate", "vm_migrate.html", view, needs=Access.OPERATOR, every_s=PLAN_S),)
ACTIONS = (Action("/vms/{name}/migrate", Access.OPERATOR, move),)
