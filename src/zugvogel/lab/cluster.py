"""One cluster of all lab hosts, with datastore, network, guest image and CLI context.

Everything goes the way a user would go: the product's commands on each host, then its API.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

from zugvogel.errors import ProcedureFailed, Unreachable
from zugvogel.lab import api_calls, context_file, door, guest, host, overrides
from zugvogel.lab.layout import BRIDGE, CLIENT, SHARED_IN_HOST, LabHost, LabState, Layout

Progress = Callable[[str], None]
IMAGE = "lab-guest"
AGENT_IMAGE = "lab-guest-agent"
CONSOLE_USER = "admin"
_CLUSTER_NAME = "lab"
_LIVE_S = 120.0


def form(layout: Layout, state: LabState, progress: Progress) -> None:
    """Returns when every host is live and the lab is ready for vms. Raises ProcedureFailed."""
    install_guest(layout, progress)
    first, *others = state.hosts
    progress(f"cluster init on {first.name}")
    _init_first(layout, first)
    wait_until_live(layout, [first])
    for other in others:
        progress(f"{other.name} joins")
        _join(layout, first, other)
    progress(f"waiting until {len(state.hosts)} hosts are live")
    wait_until_live(layout, state.hosts)
    progress("datastore shared, network lan")
    _furnish(layout)
    progress("web console")
    _open_console(layout)
    context_file.add(
        context_file.NAME,
        urls=api_calls.urls(layout),
        token=layout.token_file.read_text().strip(),
        ca_file=str(layout.ca_file),
        netns=layout.netns(CLIENT),
    )


def install_guest(layout: Layout, progress: Progress) -> None:
    """Puts kernel, initrd and append of the lab guest where `zv vm create --image lab-guest` looks, and another
    with a guest agent."""
    progress(f"images {IMAGE} and {AGENT_IMAGE}")
    image = guest.build()
    for name, initrd in ((IMAGE, image.initrd), (AGENT_IMAGE, image.agent_initrd)):
        folder = layout.shared / ".zugvogel" / "images" / name
        folder.mkdir(parents=True)
        shutil.copyfile(image.kernel, folder / "kernel")
        shutil.copyfile(initrd, folder / "initrd")
        (folder / "append").write_text(image.append)


def _zv(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "zugvogel.cli.main", *arguments]


def _init_first(layout: Layout, first: LabHost) -> None:
    answer = host.execute(
        layout,
        first.name,
        _zv(
            "cluster", "init", "--name", _CLUSTER_NAME, "--host", first.name, "--address", first.address, "--json"
        ),
    )
    layout.token_file.touch(mode=0o600)
    layout.token_file.write_text(json.loads(answer)["token"])
    shutil.copyfile(layout.host(first.name).var / "pki" / "ca.crt", layout.ca_file)
    _release(layout, first)


def _join(layout: Layout, first: LabHost, other: LabHost) -> None:
    token = api_calls.call(layout, "POST", "/join-tokens")["token"]
    url = f"https://{first.address}:{api_calls.API_PORT}"
    host.execute(
        layout,
        other.name,
        _zv("host", "join", url, "--token", token, "--name", other.name, "--address", other.address),
    )
    _release(layout, other)


def _release(layout: Layout, lab_host: LabHost) -> None:
    """Its overrides first, so that the agent never reports anything else; then the agent."""
    wanted = {
        "cores": lab_host.cores or None,
        "memory_bytes": lab_host.memory_bytes or None,
        "link_mbit": lab_host.link_mbit or None,
    }
    if any(wanted.values()):
        overrides.write(layout, lab_host.name, wanted)
    host.start_agent(layout, lab_host.name)


def wait_until_live(layout: Layout, hosts: list[LabHost]) -> None:
    """By the cluster's own word. Raises ProcedureFailed with each missing host's evidence."""
    wanted, deadline = {h.name for h in hosts}, time.monotonic() + _LIVE_S
    why: dict[str, str] = {}
    while True:
        try:
            seen = api_calls.call(layout, "GET", "/hosts", timeout_s=5, only=[_url(hosts[0])])
            why = {h["name"]: f"{h['verdict']}: {h['why']}" for h in seen if h["verdict"] != "live"}
            live = {h["name"] for h in seen if h["verdict"] == "live"}
            if wanted <= live:
                return
        except Unreachable as error:
            why, live = {hosts[0].name: error.cause}, set()
        if time.monotonic() > deadline:
            missing = "; ".join(f"{n}: {why.get(n, 'unknown to the cluster')}" for n in sorted(wanted - live))
            raise ProcedureFailed(f"not live after {_LIVE_S:.0f} s: {missing}", f"read {layout.root}/hosts/*/log")
        time.sleep(0.2)


def _url(lab_host: LabHost) -> str:
    return f"https://{lab_host.address}:{api_calls.API_PORT}"


def _open_console(layout: Layout) -> None:
    """With a user who may do everything, and a way in from this machine."""
    password = secrets.token_urlsafe(9)
    wish = {"name": CONSOLE_USER, "access": "admin", "password": password}
    api_calls.call(layout, "POST", "/users", wish)
    door.open_door(layout, CONSOLE_USER, password)


def _furnish(layout: Layout) -> None:
    wish: dict[str, Any] = {"name": "shared", "path": str(SHARED_IN_HOST)}
    task = api_calls.call(layout, "POST", "/datastores", wish, timeout_s=30)
    task = api_calls.wait_for_task(layout, task, seconds=60)
    if task["state"] != "done":
        error = task.get("error") or {"cause": task["state"]}
        raise ProcedureFailed(f"datastore shared was not added: {error['cause']}", error.get("next_step", ""))
    api_calls.call(layout, "POST", "/networks", {"name": "lan", "bridge": BRIDGE})
