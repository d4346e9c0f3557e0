"""One's own password."""

from __future__ import annotations

from zugvogel.console.actions import Action, Call, Told
from zugvogel.console.i18n import marked
from zugvogel.console.page import Look, Page, Variables
from zugvogel.console.pages.users import twice
from zugvogel.domain.cluster import Access
from zugvogel.errors import InvalidInput

PATH = "/password"


async def view(look: Look) -> Variables:
    return {"is_changed": bool(look.query.get("changed"))}


async def change(call: Call) -> Told:
    """The answer is a new session; all others of this user have ended."""
    new = twice(call)
    if not new:
        raise InvalidInput(marked("there is no new password"), marked("write one, twice"))
    body = {"old": call.form.get("old", ""), "new": new}
    session = await call.api.request("POST", "/session/password", json=body)
    return Told(goto=f"{PATH}?changed=1", session=str(session["token"]))


PAGES = (Page(PATH, "password.html", view),)
ACTIONS = (Action(PATH, Access.VIEWER, change),)
