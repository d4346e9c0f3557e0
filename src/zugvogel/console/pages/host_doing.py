"""What is done with one host: maintenance, its failure domain, its fence, and what follows when it is gone."""

from __future__ import annotations

from zugvogel.console.actions import Action, Call, Told
from zugvogel.console.i18n import marked
from zugvogel.console.page import Page
from zugvogel.domain.cluster import Access
from zugvogel.errors import InvalidInput


async def maintain(call: Call) -> Told:
    name, is_on = call.path["name"], call.form.get("is_on") == "1"
    wish = {
        "is_on": is_on,
        "is_quick_fallback": bool(call.form.get("is_quick_fallback")),
        "is_return": bool(call.form.get("is_return")) and not is_on,
    }
    task = await call.api.request("POST", f"/hosts/{name}/maintenance", json=wish)
    says = call.language.text
    told = (
        says("%(host)s goes into maintenance.", host=name)
        if is_on
        else says("%(host)s takes VMs again.", host=name)
    )
    return Told(told, task=task["id"])


async def change(call: Call) -> Told:
    name, domain = call.path["name"], call.form.get("failure_domain", "")
    await call.api.request("PATCH", f"/hosts/{name}", json={"failure_domain": domain})
    says = call.language.text
    if not domain:
        return Told(says("No failure domain is known of %(host)s any more.", host=name))
    return Told(says("%(host)s is in the failure domain %(domain)s.", host=name, domain=domain))


async def confirm_dead(call: Call) -> Told:
    name = call.path["name"]
    if call.form.get("is_off") != "1":
        raise InvalidInput(
            marked("nobody has said that its power is off"), marked("make sure that it is, then tick the box")
        )
    task = await call.api.request("POST", f"/hosts/{name}/confirm-dead")
    return Told(call.language.text("The VMs of %(host)s are being released.", host=name), task=task["id"])


async def remove(call: Call) -> Told:
    await call.api.request("DELETE", f"/hosts/{call.path['name']}")
    return Told(goto="/")


# its fence -----------------------------------------------------------------------------------------------


async def set_fence(call: Call) -> Told:
    name, form = call.path["name"], call.form
    secrets = pairs(form.get("secrets", ""))
    if form.get("password"):
        secrets["password"] = form["password"]
    config = {"agent": form.get("agent", ""), "parameters": pairs(form.get("parameters", "")), "secrets": secrets}
    await call.api.request("PUT", f"/hosts/{name}/fence", json=config)
    told = call.language.text(
        "The power of %(host)s can be cut by %(agent)s. Test it.", host=name, agent=form["agent"]
    )
    return Told(told)


def pairs(text: str) -> dict[str, str]:
    """Of ``NAME=VALUE``, one a line. Raises InvalidInput."""
    found: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, sign, value = (part.strip() for part in line.partition("="))
        if not sign or not name or name in found:
            raise InvalidInput(
                f"“{name}” is not NAME=VALUE, each name once", marked("write for example ip=192.0.2.13")
            )
        found[name] = value
    return found


async def test_fence(call: Call) -> Told:
    name = call.path["name"]
    task = await call.api.request("POST", f"/hosts/{name}/fence/test")
    told = call.language.text("The primaries ask the device of %(host)s; nothing is switched.", host=name)
    return Told(told, task=task["id"])


async def remove_fence(call: Call) -> Told:
    name = call.path["name"]
    await call.api.request("DELETE", f"/hosts/{name}/fence")
    return Told(call.language.text("No device cuts the power of %(host)s any more.", host=name))


PAGES: tuple[Page, ...] = ()
ACTIONS = (
    Action("/hosts/{name}/maintenance", Access.ADMIN, maintain),
    Action("/hosts/{name}/change", Access.ADMIN, change),
    Action("/hosts/{name}/confirm-dead", Access.ADMIN, confirm_dead),
    Action("/hosts/{name}/remove", Access.ADMIN, remove),
    Action("/hosts/{name}/fence", Access.ADMIN, set_fence),
    Action("/hosts/{name}/fence/test", Access.ADMIN, test_fence),
    Action("/hosts/{name}/fence/remove", Access.ADMIN, remove_fence),
)
