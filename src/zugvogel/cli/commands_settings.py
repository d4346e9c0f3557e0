"""`zv settings`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from zugvogel.cli import output, session
from zugvogel.cli.options import Json, complete_setting
from zugvogel.errors import InvalidInput, NotFound

app = typer.Typer(no_args_is_help=True, help="Settings of the cluster.")

_MEANT = {
    **dict.fromkeys(("on", "true", "yes", "1"), True),
    **dict.fromkeys(("off", "false", "no", "0"), False),
}

SettingArg = Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_setting)]


@app.command("list", epilog="Example: zv settings list")
def list_settings(as_json: Json = False) -> None:
    """All settings with value, default, what they may be set to, unit and reason."""
    found = session.api().get("/settings")
    if as_json:
        output.print_json(found)
        return
    output.table(
        ("NAME", "VALUE", "DEFAULT", "UNIT", "ALLOWED", "WHAT IT IS FOR"),
        [
            (s["name"], _plain(s["value"]), _plain(s["default"]), s["unit"], _allowed(s), s["reason"])
            for s in found
        ],
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
    changed = session.api().put(f"/settings/{name}", {"value": parse_value(value, _find(name))})
    if as_json:
        output.print_json(changed)
    else:
        output.say(f"{name} is {_plain(changed['value'])} {changed['unit']}".rstrip())


def _find(name: str) -> dict[str, Any]:
    for setting in session.api().get("/settings"):
        if setting["name"] == name:
            return dict(setting)
    raise NotFound(f"there is no setting {name}", "see `zv settings list`")


def parse_value(text: str, setting: dict[str, Any]) -> bool | int | str:
    """In the type of the setting's default. Raises InvalidInput with what is allowed; bounds and choices are told
    by the API."""
    name, default = setting["name"], setting["default"]
    step = f"e.g. zv settings set {name} {_plain(default)}"
    if isinstance(default, bool):
        meant = _MEANT.get(text.lower())
        if meant is None:
            raise InvalidInput(f"{name} takes {setting['allowed']}, not {text!r}", step)
        return meant
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError:
            unit = f"; write the number alone, in {setting['unit']}" if setting["unit"] else ""
            raise InvalidInput(f"{name} takes {setting['allowed']}, not {text!r}{unit}", step) from None
    return text


def _allowed(setting: dict[str, Any]) -> str:
    """The unit has a column of its own."""
    return str(setting["allowed"]).removesuffix(f" {setting['unit']}")


def _plain(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
