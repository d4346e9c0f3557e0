"""Networks: one name and VLAN in the cluster, a bridge on each host."""

from __future__ import annotations

from collections import Counter

from zugvogel.console.actions import Action, Call, Told
from zugvogel.console.fields import chosen, part, whole
from zugvogel.console.mirror import Fields
from zugvogel.console.page import Look, Page, Variables
from zugvogel.console.tables import natural
from zugvogel.domain.cluster import Access
from zugvogel.domain.network import Network

PRESENT, MISSING, UNFILTERED, UNKNOWN = "present", "missing", "unfiltered", "unknown"


async def view(look: Look) -> Variables:
    mirror = look.mirror
    hosts = sorted(mirror.all("hosts"), key=lambda host: natural(host["name"]))
    used = Counter(name for vm in mirror.all("vms") for name in set(vm["networks"]))
    return {
        "networks": [
            {**network, "used": used[network["name"]], "places": [on_host(network, host) for host in hosts]}
            for network in sorted(mirror.all("networks"), key=lambda n: natural(n["name"]))
        ],
        "host_names": [host["name"] for host in hosts],
        "bridges": sorted({bridge["name"] for host in hosts for bridge in host["bridges"]}, key=natural),
    }


def on_host(network: Fields, host: Fields) -> Fields:
    """Its bridge there. `state`: present, missing, unfiltered (a VLAN over a bridge that does not filter VLANs) or
    unknown (the host has not reported yet)."""
    bridge = Network.model_validate(network).bridge_on(host["name"])
    found = next((b for b in host["bridges"] if b["name"] == bridge), None)
    if not host["memory_total_bytes"]:
        state = UNKNOWN
    elif found is None:
        state = MISSING
    else:
        state = UNFILTERED if network["vlan"] and not found["is_vlan_aware"] else PRESENT
    return {
        "network": network["name"],
        "vlan": network["vlan"],
        "host": host["name"],
        "bridge": bridge or "",
        "mtu": found["mtu"] if found else None,
        "state": state,
    }


async def add(call: Call) -> Told:
    form = call.form
    body = {
        "name": form.get("name", ""),
        "bridge": form.get("bridge", ""),
        "vlan": whole(form.get("vlan") or "0", "VLAN"),
        "mtu": whole(form.get("mtu") or "0", "MTU"),
        "hosts": chosen(call.lists.get("hosts", ())),
    }
    await call.api.request("POST", "/networks", json=body)
    told = call.language.text("The network %(name)s is on %(bridge)s.", name=body["name"], bridge=body["bridge"])
    return Told(told)


async def remove(call: Call) -> Told:
    name = call.form.get("name", "")
    await call.api.request("DELETE", f"/networks/{part(name)}")
    return Told(call.language.text("The network %(name)s is removed.", name=name))


PAGES = (Page("/networks", "networks.html", view),)
ACTIONS = (Action("/networks/add", Access.ADMIN, add), Action("/networks/remove", Access.ADMIN, remove))
