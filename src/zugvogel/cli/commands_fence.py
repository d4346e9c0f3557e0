"""`zv host fence-config`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from zugvogel.cli import output, session, watch
from zugvogel.cli.options import HostArg, Json
from zugvogel.errors import InvalidInput

EPILOG = (
    "Example: zv host fence-config host3 --agent fence_ipmilan --parameter ip=192.0.2.13 "
    "--parameter username=fence --password-file ./bmc-password --test"
)
SECRET = re.compile(r"passw|secret|token|community|key$")

Agent = Annotated[str, typer.Option(metavar="AGENT", help="Fence agent, such as fence_ipmilan or fence_redfish.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--parameter", metavar="NAME=VALUE", help="What the agent is given; repeatable."),
]
PasswordFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The device's password is the first line of this file.")
]
SecretFiles = Annotated[
    list[str] | None,
    typer.Option("--secret-file", metavar="NAME=FILE", help="Another secret, from the first line of a file."),
]
Remove = Annotated[bool, typer.Option("--remove", help="Forget the device.")]
Test = Annotated[
    bool, typer.Option("--test", help="Every primary asks it for the state of the power; nothing is switched.")
]


def fence_config(
    name: HostArg,
    agent: Agent = "",
    parameter: Parameters = None,
    password_file: PasswordFile = None,
    secret_file: SecretFiles = None,
    remove: Remove = False,
    test: Test = False,
    as_json: Json = False,
) -> None:
    """Show, configure, try or forget the device that can cut a host's power."""
    _refuse_mixed(agent, bool(parameter or password_file or secret_file), remove, test)
    path = f"/hosts/{name}/fence"
    if remove:
        session.api().delete(path)
        output.say(f"no device cuts the power of {name} any more", as_json=as_json)
        if as_json:
            output.print_json({"host": name, "removed": True})
        return
    if agent:
        files = _pairs(secret_file or []) | ({"password": str(password_file)} if password_file else {})
        secrets = {secret: _first_line(Path(file)) for secret, file in files.items()}
        view = session.api().put(
            path, {"agent": agent, "parameters": _open_ones(parameter or []), "secrets": secrets}
        )
    else:
        view = session.api().get(path)
    if test:
        _test(path, as_json=as_json)
    elif as_json:
        output.print_json(view)
    else:
        output.facts([("host", name), ("agent", view["agent"]), *view["parameters"].items()])


def _refuse_mixed(agent: str, has_values: bool, remove: bool, test: bool) -> None:
    if remove and (agent or has_values or test):
        raise InvalidInput("--remove stands alone", "leave the other options out")
    if has_values and not agent:
        raise InvalidInput(
            "parameters are given together with their --agent, all of them", "they replace what was configured"
        )


def _open_ones(given: list[str]) -> dict[str, str]:
    found = _pairs(given)
    for name in found:
        if SECRET.search(name):
            raise InvalidInput(
                f"{name} looks like a secret, and everybody on this machine sees what is on the command line",
                f"use --password-file, or --secret-file {name}=FILE",
            )
    return found


def _pairs(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in given:
        name, sign, value = pair.partition("=")
        if not sign or not name or name in found:
            raise InvalidInput(f"{name!r} is not NAME=VALUE, once each", "e.g. --parameter ip=192.0.2.13")
        found[name] = value
    return found


def _first_line(file: Path) -> str:
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}", "name a text file of yours") from error
    if not lines or not lines[0]:
        raise InvalidInput(f"{file} has nothing in its first line", "write the secret there")
    return lines[0]


def _test(path: str, *, as_json: bool) -> None:
    report: dict[str, Any] = watch.finish(session.api().post(f"{path}/test"), as_json=as_json)["report"]
    if as_json:
        output.print_json(report)
    else:
        output.table(("PRIMARY", "FOUND"), sorted(report["by"].items()), empty="nobody was asked")
    if not report["works"]:
        raise typer.Exit(1)
