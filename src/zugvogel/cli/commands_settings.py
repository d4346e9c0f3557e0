"""`zv settings`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from zugvogel.cli import output, session
from zugvogel.cli.options import Json, complete_setting
from zugvogel.errors import InvalidInput, NotFound

app = typer.Typer(no_args_is_help=True, help="Settings of the cluster.")

SettingArg = Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_setting)]


@app.command("list", epilog="Example: zv settings list")
def list_settings(as_json: Json = False) -> None:
    """All settings with value, default and reason."""
    found = session.api().get("/settings")
    if as_json:
        output.print_json(found)
        return
    output.table(
        ("NAME", "VALUE", "DEFAULT", "UNIT", "WHAT IT IS FOR"),
        [(s["name"], s["value"], s["default"], s["unit"], s["reason"]) for s in found],
        empty="no settings",
    )


@app.command(epilog="Example: zv settings get migration.channels")
def get(name: SettingArg, as_json: Json = False) -> None:
    """One setting's value."""
    setting = _find(name)
    if as_json:
        output.print_json(setting)
    else:
        output.say(_plain(setting["value"]))


@app.command("set", epilog="Example: zv settings set migration.tls off")
def set_setting(
    name: SettingArg,
    value: Annotated[str, typer.Argument(help="Number, text, or on/off.")],
    as_json: Json = False,
) -> None:
    """Change a setting for the whole cluster."""
    api = session.api()
    changed = api.put(f"/settings/{name}", {"value": parse_value(value, _find(name)["default"])})
    if as_json:
        output.print_json(changed)
    else:
        output.say(f"{name} is {_plain(changed['value'])} {changed['unit']}".rstrip())


def _find(name: str) -> dict[str, Any]:
    for setting in session.api().get("/settings"):
        if setting["name"] == name:
            return dict(setting)
    raise NotFound(f"there is no setting {name}", "see `zv settings list`")


def parse_value(text: str, default: bool | int | str) -> bool | int | str:
    """In the type of the setting's default. Raises InvalidInput."""
    if isinstance(default, bool):
        meant = {
            "on": True,
            "true": True,
            "yes": True,
            "1": True,
            "off": False,
            "false": False,
            "no": False,
            "0": False,
        }
        if text.lower() not in meant:
            raise InvalidInput(f"{text!r} is neither on nor off")
        return meant[text.lower()]
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError:
            raise InvalidInput(f"{text!r} is no whole number") from None
    return text


def _plain(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
