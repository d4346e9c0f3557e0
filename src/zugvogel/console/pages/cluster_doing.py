"""What is done with the cluster as a whole: new hosts, roles, the CPU model, the registry after a great loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zugvogel.console.actions import Action, Call, Told
from zugvogel.console.i18n import marked
from zugvogel.console.page import Look, Page, Variables
from zugvogel.console.tables import natural
from zugvogel.domain.cluster import Access
from zugvogel.errors import InvalidInput

BASELINE = "/baseline"
BASELINE_S = 5.0


async def invite(call: Call) -> Told:
    """The line to type on the new host, with its one-time token."""
    token = (await call.api.request("POST", "/join-tokens"))["token"]
    told = call.language.text("Type this on the new host, as root, within an hour:")
    return Told(told, secret=f"zv host join {call.api.urls[0]} --token {token}")


async def reconfigure(call: Call) -> Told:
    changed = (await call.api.request("POST", "/cluster/reconfigure"))["changed"]
    says = call.language.text
    if not changed:
        return Told(says("The roles stay as they are."))
    told = ", ".join(
        f"{host}: {says(role)}" for host, role in sorted(changed.items(), key=lambda each: natural(each[0]))
    )
    return Told(says("The roles are given out anew: %(roles)s.", roles=told))


async def reform(call: Call) -> Told:
    host = call.form.get("host", "")
    if call.form.get("is_loss_taken") != "1":
        raise InvalidInput(
            marked("nobody has said that the loss is taken"), marked("read what is lost, then tick the box")
        )
    await call.api.request("POST", "/cluster/reform", json={"host": host})
    return Told(call.language.text("%(host)s forms the registry anew; look at the events.", host=host))


def is_majority_lost(hosts: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the registry may have to be formed anew: most of its members, the primaries, have failed."""
    primaries = [host for host in hosts if host["role"] == "primary"]
    failed = [host for host in primaries if host["verdict"] == "failed"]
    return 2 * len(failed) >= len(primaries) > 0


# the CPU model -------------------------------------------------------------------------------------------


async def baseline_view(look: Look) -> Variables:
    found = await look.now_and_then("baseline", BASELINE_S, lambda: look.api.request("GET", "/cluster/baseline"))
    vendors: dict[str, list[str]] = {}
    for host in sorted(found["vendors"], key=natural):
        vendors.setdefault(found["vendors"][host], []).append(host)
    return {
        "baseline": found,
        "models": [(model, alike(hosts)) for model, hosts in found["missing"].items()],
        "vendors": sorted(vendors.items()),
    }


def alike(missing: Mapping[str, list[str]]) -> list[tuple[list[str], list[str]]]:
    """(flags, the hosts that lack just these): 64 equal hosts are told once."""
    found: dict[tuple[str, ...], list[str]] = {}
    for host in sorted(missing, key=natural):
        found.setdefault(tuple(missing[host]), []).append(host)
    return [(list(flags), hosts) for flags, hosts in found.items()]


async def set_baseline(call: Call) -> Told:
    found = await call.api.request("PUT", "/cluster/baseline", json={"model": call.form.get("model", "")})
    return Told(call.language.text("New VMs get the CPU model %(model)s.", model=found["current"]))


PAGES = (Page(BASELINE, "baseline.html", baseline_view, every_s=BASELINE_S),)
ACTIONS = (
    Action("/cluster/invite", Access.ADMIN, invite),
    Action("/cluster/reconfigure", Access.ADMIN, reconfigure),
    Action("/cluster/reform", Access.ADMIN, reform),
    Action(BASELINE, Access.ADMIN, set_baseline),
)
