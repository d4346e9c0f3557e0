"""`zv user`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from zugvogel.cli import output, passwords, session
from zugvogel.cli.commands_token import Role
from zugvogel.cli.options import Json, Yes, complete_user, confirm
from zugvogel.cli.passwords import PasswordStdin
from zugvogel.errors import InvalidInput, NotFound, Refused

app = typer.Typer(no_args_is_help=True, help="Users who log in with a password.")

UserArg = Annotated[str, typer.Argument(metavar="NAME", help="Name of the user.", autocompletion=complete_user)]


@app.command("list", epilog="Example: zv user list")
def list_users(as_json: Json = False) -> None:
    """All users with their roles."""
    found = session.api().get("/users")
    if as_json:
        output.print_json(found)
        return
    output.table(
        ("NAME", "ACCESS", "CREATED", "CHANGED"),
        [(u["name"], u["access"], output.clock(u["created_at"]), output.clock(u["changed_at"])) for u in found],
        empty="no users; see `zv user add --help`",
    )


@app.command(epilog="Example: zv user add ada --access operator   (the password is asked for)")
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new user.")],
    access: Annotated[Role, typer.Option(help="What the user may do: look, run vms, or everything.")],
    password_stdin: PasswordStdin = False,
    as_json: Json = False,
) -> None:
    """Add a user. The password has at least 8 characters."""
    password = passwords.new(f"Password of {name}", is_stdin=password_stdin)
    made = session.api().post("/users", {"name": name, "access": access.value, "password": password})
    _show(made, f"{name} is a new {made['access']}; to log in: zv context login NAME --user {name}", as_json)


@app.command("set", epilog="Example: zv user set ada --access admin   or: zv user set ada --password")
def set_user(
    name: UserArg,
    access: Annotated[Role | None, typer.Option(help="What the user may do from now on.")] = None,
    password: Annotated[bool, typer.Option("--password", help="Set a new password; it is asked for.")] = False,
    password_stdin: PasswordStdin = False,
    as_json: Json = False,
) -> None:
    """Change a user's role or password. The user's sessions end."""
    change: dict[str, Any] = {"access": access.value} if access else {}
    if password or password_stdin:
        change["password"] = passwords.new(f"New password of {name}", is_stdin=password_stdin)
    if not change:
        raise InvalidInput("nothing is to be changed", "use --access or --password")
    changed = session.api().patch(f"/users/{name}", change)
    _show(changed, f"{name} is changed ({changed['access']})", as_json)


@app.command(epilog="Example: zv user delete ada --yes")
def delete(name: UserArg, yes: Yes = False) -> None:
    """Remove a user. The user's sessions end."""
    confirm(f"Delete user {name}?", yes=yes, first=lambda: _refuse_unknown(name))
    session.api().delete(f"/users/{name}")
    output.say(f"user {name} is deleted")


def _refuse_unknown(name: str) -> None:
    if all(user["name"] != name for user in session.api().get("/users")):
        raise NotFound(f"there is no user {name}", "see: zv user list")


@app.command(epilog="Example: zv user password   (the old and the new one are asked for)")
def password(password_stdin: PasswordStdin = False, as_json: Json = False) -> None:
    """Change your own password. Your other sessions end.

    From standard input: the old one, then the new one, a line each."""
    api = session.api()
    if not api.context.user:
        raise Refused(
            f"context {api.context.name} has an API token, no user",
            f"log in: zv context login {api.context.name} --user USER",
        )
    old = passwords.known("Old password", is_stdin=password_stdin)
    new = passwords.new("New password", is_stdin=password_stdin)
    made = api.post("/session/password", {"old": old, "new": new})
    session.keep(api.context, made)
    shown = {key: made[key] for key in ("user", "access", "expires_at")}
    _show(shown, f"{made['user']} has a new password", as_json)


def _show(value: dict[str, Any], told: str, as_json: bool) -> None:
    if as_json:
        output.print_json(value)
    else:
        output.say(told)
