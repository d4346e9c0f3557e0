"""Who may use the cluster: users, who log in with a password, and tokens of programs. For admins."""

from __future__ import annotations

import asyncio
from typing import Any

from zugvogel.console.actions import Action, Call, Told
from zugvogel.console.fields import part
from zugvogel.console.i18n import marked
from zugvogel.console.page import Look, Page, Variables
from zugvogel.domain.cluster import Access
from zugvogel.errors import InvalidInput

EVERY_S = 3.0


async def view(look: Look) -> Variables:
    users, tokens = await look.now_and_then("all", EVERY_S, lambda: _all(look))
    return {
        "users": users,
        "tokens": sorted(tokens, key=lambda token: str(token["created_at"])),
        "accesses": [access.value for access in Access],
        "me": look.person.user if look.person.is_user else "",
    }


async def _all(look: Look) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    users, tokens = await asyncio.gather(look.api.request("GET", "/users"), look.api.request("GET", "/tokens"))
    return users, tokens


def twice(call: Call) -> str:
    """The new password of a form that asks for it twice; empty: none. Raises InvalidInput."""
    password = call.form.get("password", "")
    if password != call.form.get("again", ""):
        raise InvalidInput(marked("the two passwords differ"), marked("write the same one twice"))
    return password


async def add(call: Call) -> Told:
    name, access, password = call.form.get("name", ""), call.form.get("access", ""), twice(call)
    if not password:
        raise InvalidInput(marked("a user needs a password"), marked("write one, twice"))
    made = await call.api.request("POST", "/users", json={"name": name, "access": access, "password": password})
    told = call.language.text("%(user)s is a new user (%(access)s).", user=made["name"], access=made["access"])
    return Told(told)


async def change(call: Call) -> Told:
    name, password = call.form.get("name", ""), twice(call)
    body = {"access": call.form["access"]} if call.form.get("access") != call.form.get("was_access") else {}
    if password:
        body["password"] = password
    if not body:
        raise InvalidInput(marked("nothing was changed"), marked("choose another role, or write a new password"))
    await call.api.request("PATCH", f"/users/{part(name)}", json=body)
    return Told(call.language.text("%(user)s is changed and has to log in again.", user=name))


async def delete(call: Call) -> Told:
    name = call.form.get("name", "")
    await call.api.request("DELETE", f"/users/{part(name)}")
    return Told(call.language.text("%(user)s is deleted.", user=name))


async def add_token(call: Call) -> Told:
    body = {"access": call.form.get("access", ""), "description": call.form.get("description", "")}
    made = await call.api.request("POST", "/tokens", json=body)
    told = call.language.text("The token %(id)s (%(access)s):", id=made["id"], access=made["access"])
    return Told(told, secret=made["token"])


async def revoke_token(call: Call) -> Told:
    token = call.form.get("id", "")
    await call.api.request("DELETE", f"/tokens/{part(token)}")
    return Told(call.language.text("The token %(id)s is revoked.", id=token))


PAGES = (Page("/users", "users.html", view, needs=Access.ADMIN, every_s=EVERY_S, is_personal=True),)
ACTIONS = (
    Action("/users/add", Access.ADMIN, add),
    Action("/users/change", Access.ADMIN, change),
    Action("/users/delete", Access.ADMIN, delete),
    Action("/tokens/add", Access.ADMIN, add_token),
    Action("/tokens/revoke", Access.ADMIN, revoke_token),
)
