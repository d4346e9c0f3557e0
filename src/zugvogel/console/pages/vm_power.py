"""What is done with one vm: power, memory, folder."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from zugvogel.console.actions import Action, Call, Told
from zugvogel.console.fields import whole
from zugvogel.console.i18n import Language
from zugvogel.console.page import Page
from zugvogel.domain.cluster import Access

Says = Callable[[Language, str], str]
"""The message for the person; of the vm's name."""


def _task(verb: str, says: Says, body: Callable[[Call], Mapping[str, Any]] | None = None) -> Action:
    """Long work: the API answers with the task that began."""

    async def perform(call: Call) -> Told:
        name = call.path["name"]
        task = await call.api.request("POST", f"/vms/{name}/{verb}", json=body(call) if body else None)
        return Told(says(call.language, name), task=task["id"])

    return _action(verb, perform)


def _action(verb: str, perform: Callable[[Call], Awaitable[Told]]) -> Action:
    return Action(f"/vms/{{name}}/{verb}", Access.OPERATOR, perform)


def _on(call: Call) -> dict[str, Any]:
    return {"host": call.form.get("host") or None}


def _start(call: Call) -> dict[str, Any]:
    return {**_on(call), "is_forced": bool(call.form.get("is_forced"))}


def _stop(call: Call) -> dict[str, Any]:
    return {"timeout_s": whole(call.form.get("timeout_s") or "0", "s")}


def _suspend(call: Call) -> dict[str, Any]:
    return {"is_compressed": bool(call.form.get("is_compressed"))}


async def _reset(call: Call) -> Told:
    name = call.path["name"]
    await call.api.request("POST", f"/vms/{name}/reset")
    return Told(call.language.text("%(vm)s was reset.", vm=name))


async def _discard(call: Call) -> Told:
    name = call.path["name"]
    await call.api.request("POST", f"/vms/{name}/discard")
    return Told(call.language.text("The saved memory of %(vm)s was thrown away.", vm=name))


async def _delete(call: Call) -> Told:
    name = call.path["name"]
    task = await call.api.request("DELETE", f"/vms/{name}")
    return Told(call.language.text("%(vm)s is being deleted.", vm=name), task=task["id"])


async def _unregister(call: Call) -> Told:
    await call.api.request("POST", f"/vms/{call.path['name']}/unregister")
    return Told(goto="/vms")


PAGES: tuple[Page, ...] = ()
ACTIONS = (
    _task("start", lambda language, vm: language.text("%(vm)s is being started.", vm=vm), _start),
    _task("stop", lambda language, vm: language.text("The power button of %(vm)s was pressed.", vm=vm), _stop),
    _task("kill", lambda language, vm: language.text("The power of %(vm)s is being cut.", vm=vm)),
    _task("suspend", lambda language, vm: language.text("%(vm)s is being suspended.", vm=vm), _suspend),
    _task("resume", lambda language, vm: language.text("%(vm)s is being resumed.", vm=vm), _on),
    _action("reset", _reset),
    _action("discard", _discard),
    _action("delete", _delete),
    _action("unregister", _unregister),
)
