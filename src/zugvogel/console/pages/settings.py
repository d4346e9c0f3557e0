"""Settings with value, default, unit and reason; and whether high availability is on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from zugvogel.console.actions import Action, Call, Told
from zugvogel.console.i18n import marked
from zugvogel.console.mirror import Fields
from zugvogel.console.page import Look, Page, Variables
from zugvogel.console.tables import holds, natural
from zugvogel.core.protections import FENCE, GUARD, IMAGE_LOCK, SHARED, WATCHDOG
from zugvogel.domain.cluster import Access
from zugvogel.errors import InvalidInput

PROTECTED = (("hosts", (GUARD, WATCHDOG, FENCE)), ("datastores", (IMAGE_LOCK, SHARED)))
SWITCH = "das.enabled"
"""Has buttons of its own."""


async def view(look: Look) -> Variables:
    text, is_changed_only = look.query.get("q", ""), bool(look.query.get("changed"))
    rows = sorted(
        (
            setting
            for setting in look.mirror.all("settings")
            if setting["name"] != SWITCH
            and holds(text, setting["name"], setting["reason"])
            and (not is_changed_only or setting["value"] != setting["default"])
        ),
        key=lambda setting: natural(setting["name"]),
    )
    groups = [(name, list(found)) for name, found in groupby(rows, key=lambda s: str(s["name"]).partition(".")[0])]
    ha = look.mirror.ha
    tables = [protected(of, names, ha) for of, names in PROTECTED]
    return {
        "groups": groups,
        "text": text,
        "is_changed_only": is_changed_only,
        "ha": ha,
        "protected": [table for table in tables if table.rows],
    }


@dataclass(frozen=True, slots=True)
class Protected:
    """What protects the vms of hosts or of datastores. `lacking`: protection -> why it is missing -> where.
    `rows`: (name, its protections in the order of `lacking`); None: nothing is amiss there."""

    of: str
    lacking: dict[str, dict[str, list[str]]]
    rows: list[tuple[str, list[Fields | None]]]


def protected(of: str, names: Sequence[str], ha: Fields | None) -> Protected:
    found = [each for each in (ha["protections"] if ha else []) if each["name"] in names]
    there = [name for name in names if any(each["name"] == name for each in found)]
    lacking: dict[str, dict[str, list[str]]] = {name: {} for name in there}
    by_subject: dict[str, dict[str, Fields]] = {}
    for each in sorted(found, key=lambda each: natural(each["subject"])):
        by_subject.setdefault(each["subject"], {})[each["name"]] = each
        if not each["is_present"]:
            lacking[each["name"]].setdefault(str(each["why"]), []).append(each["subject"])
    rows = [(subject, [held.get(name) for name in there]) for subject, held in by_subject.items()]
    return Protected(of, lacking, rows)


async def change(call: Call) -> Told:
    name, text = call.path["name"], call.form.get("value", "")
    kept = next((s for s in await call.api.request("GET", "/settings") if s["name"] == name), None)
    value = _value(text, None if kept is None else kept["default"])
    changed = await call.api.request("PUT", f"/settings/{name}", json={"value": value})
    return Told(call.language.text("%(name)s is now %(value)s.", name=name, value=_told(changed["value"])))


def _value(text: str, default: Any) -> Any:
    """In the type the setting has. Raises InvalidInput."""
    if isinstance(default, bool):
        return text == "true"
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError:
            raise InvalidInput(f"{text!r} is no whole number", marked("write digits alone")) from None
    return text


def _told(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value) or "–"


async def enable_ha(call: Call) -> Told:
    await call.api.request("POST", "/ha/enable")
    return Told(call.language.text("High availability is on."))


async def disable_ha(call: Call) -> Told:
    await call.api.request("POST", "/ha/disable")
    return Told(call.language.text("High availability is off: no VM is restarted when its host fails."))


PAGES = (Page("/settings", "settings.html", view),)
ACTIONS = (
    Action("/settings/{name}", Access.ADMIN, change),
    Action("/ha/enable", Access.ADMIN, enable_ha),
    Action("/ha/disable", Access.ADMIN, disable_ha),
)
