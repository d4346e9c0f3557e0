"""What the lab is now, read from the kernel."""

from __future__ import annotations

from typing import Any

from zugvogel.lab import host as lab_host
from zugvogel.lab import storage
from zugvogel.lab.layout import LabHost, Layout


def lab_status(layout: Layout) -> dict[str, Any]:
    """JSON of ``zv lab status``. Raises Refused when there is no lab."""
    state = layout.load()
    return {
        "root": str(layout.root),
        "is_complete": state.is_complete,
        "is_cluster": state.is_cluster,
        "hosts": [host_status(layout, host) for host in state.hosts],
    }


def host_status(layout: Layout, host: LabHost) -> dict[str, Any]:
    is_on = lab_host.init_pid(layout, host.name) is not None
    is_hung = is_on and lab_host.is_hung(layout, host.name)
    return {
        "name": host.name,
        "address": host.address,
        "power": "hung" if is_hung else "on" if is_on else "off",
        "agent": _agent(layout, host) if is_on else "off",
        "network": "cut" if host.is_cut else "ok",
        "partition": host.group,
        "storage": storage.state(layout, host.name) if is_on else "off",
        "link_mbit": host.link_mbit or None,
    }


def _agent(layout: Layout, host: LabHost) -> str:
    if lab_host.agent_pid(layout, host.name) is not None:
        return "running"
    return "held" if layout.host(host.name).hold.exists() else "restarting"
