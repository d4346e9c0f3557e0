"""A new vm. No vm can have the name of this page, whose sign no name begins with."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from zugvogel.console.actions import Action, Call, Told
from zugvogel.console.fields import chosen, size_bytes, sizes_bytes, whole
from zugvogel.console.i18n import marked
from zugvogel.console.page import Look, Page, Variables
from zugvogel.console.tables import natural
from zugvogel.domain.cluster import Access
from zugvogel.errors import InvalidInput

PATH = "/vms/_new"
RUNNING = ("pending", "running")
MADE_WITHIN_S = 15.0
"""So long a person waits for the vm to be made, before it is started for them."""


async def view(look: Look) -> Variables:
    mirror = look.mirror
    return {
        "datastores": sorted(mirror.all("datastores"), key=lambda d: natural(d["name"])),
        "network_names": sorted((n["name"] for n in mirror.all("networks")), key=natural),
        "groups": sorted({v["definition"]["ha"]["anti_affinity"] for v in mirror.all("vms")} - {""}),
    }


async def make(call: Call) -> Told:
    body = asked(call.form, call.lists)
    task = await call.api.request("POST", "/vms", json=body)
    if not call.form.get("is_started"):
        return Told(goto=f"/tasks/{task['id']}")
    task = await _ended(call, task)
    if task["state"] in RUNNING:
        told = call.language.text(
            "It is still being made. Start %(vm)s on its page when it is there.", vm=body["name"]
        )
        return Told(told, task=task["id"])
    if task["state"] != "done":
        return Told(goto=f"/tasks/{task['id']}")
    forced = {"is_forced": True} if body.get("is_forced") else {}
    started = await call.api.request("POST", f"/vms/{body['name']}/start", json=forced)
    return Told(goto=f"/tasks/{started['id']}")


async def _ended(call: Call, task: Mapping[str, Any]) -> Mapping[str, Any]:
    """The task, as soon as it ended or its time is over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + MADE_WITHIN_S
    while task["state"] in RUNNING and (left := deadline - loop.time()) > 0:
        params = {"since": task["version"], "wait_s": round(left, 1)}
        task = await call.api.request("GET", f"/tasks/{task['id']}", params=params)
    return task


def asked(form: Mapping[str, str], lists: Mapping[str, list[str]]) -> dict[str, Any]:
    """A `CreateVm`. Raises InvalidInput."""
    image, kernel = form.get("image", ""), form.get("kernel", "")
    disks = [
        {"size_bytes": size, "format": form.get("disk_format") or "qcow2"}
        for size in sizes_bytes(form.get("disks", ""))
    ]
    if not (image or kernel or disks):
        raise InvalidInput(
            marked("it would have nothing to start from"), marked("give it an image, a disk or a kernel")
        )
    policy = {name: form[name] for name in ("restart_priority", "anti_affinity") if form.get(name)}
    texts = (
        "datastore",
        "image",
        "kernel",
        "initrd",
        "append",
        "cloud_init",
        "cpu_model",
        "display",
        "description",
    )
    return {
        "name": form.get("name", ""),
        "memory_bytes": size_bytes(form.get("memory", "")),
        "cpus": whole(form.get("cpus", ""), "CPUs"),
        "networks": chosen(lists.get("networks", ())),
        "disks": disks,
        **{name: form[name] for name in texts if form.get(name)},
        **({"ha": policy} if policy else {}),
        **({"is_forced": True} if form.get("is_forced") else {}),
    }


PAGES = (Page(PATH, "vm_new.html", view, needs=Access.OPERATOR),)
ACTIONS = (Action(PATH, Access.OPERATOR, make),)
