"""`zv context`: the clusters this user talks to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zugvogel.cli import context as contexts
from zugvogel.cli import output, passwords, session
from zugvogel.cli.options import Json
from zugvogel.cli.passwords import PasswordStdin
from zugvogel.errors import InvalidInput, Refused

app = typer.Typer(no_args_is_help=True, help="Clusters the CLI talks to, with their tokens.")


def complete_context(incomplete: str) -> list[str]:
    try:
        return [n for n in contexts.load()["contexts"] if n.startswith(incomplete)]
    except Exception:
        return []


ContextArg = Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_context)]


@app.command(
    epilog="Example: zv context add prod --url https://host1:7440,https://host2:7440 --token T --ca ca.crt"
)
def add(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    url: Annotated[list[str], typer.Option("--url", help="Agent's address; several with commas or repeated.")],
    ca: Annotated[Path, typer.Option(help="The cluster CA's certificate.", exists=True, dir_okay=False)],
    token: Annotated[
        str, typer.Option(help="API token; '-' reads it from standard input. Without: log in as a user next.")
    ] = "",
    netns: Annotated[str, typer.Option(help="Network namespace to enter before connecting (the lab).")] = "",
) -> None:
    """Add a cluster and make it the current one."""
    urls = tuple(u.strip().rstrip("/") for text in url for u in text.split(",") if u.strip())
    if token == "-":
        token = typer.get_text_stream("stdin").readline().strip()
    contexts.add(contexts.Context(name, urls, token, str(ca.absolute()), netns), make_current=True)
    output.say(f"{name} is the current context")
    if not token:
        output.note(f"it has no token yet: zv context login {name} --user USER")


@app.command(epilog="Example: zv context login prod --user ada")
def login(
    name: ContextArg,
    user: Annotated[str, typer.Option(help="Who logs in; without: whoever did last.")] = "",
    password_stdin: PasswordStdin = False,
    as_json: Json = False,
) -> None:
    """Log in as a user; the session takes the place of the context's token. The password is asked for."""
    found = contexts.named(name)
    user = user or found.user
    if not user:
        raise InvalidInput("nobody has logged in to this context before", "say who: --user USER")
    password = passwords.known("Password", is_stdin=password_stdin)
    made = session.login(found, user, password)
    if as_json:
        output.print_json({"context": name} | {key: made[key] for key in ("user", "access", "expires_at")})
    else:
        output.say(
            f"{user} ({made['access']}) is logged in to {name} until {output.clock(made['expires_at'])} UTC"
        )


@app.command(epilog="Example: zv context logout prod")
def logout(name: ContextArg) -> None:
    """End the session of a context, on all hosts. The context stays."""
    found = contexts.named(name)
    if not (found.user and found.token):
        raise Refused(f"nobody is logged in to {name}", f"log in: zv context login {name} --user USER")
    session.logout(found)
    output.say(f"{found.user} is logged out of {name}")


@app.command("list", epilog="Example: zv context list")
def list_contexts(as_json: Json = False) -> None:
    """All known clusters."""
    data = contexts.load()
    rows = [
        {
            "name": n,
            "is_current": n == data["current"],
            "user": c.get("user", ""),
            "urls": c.get("urls", []),
            "netns": c.get("netns", ""),
        }
        for n, c in sorted(data["contexts"].items())
    ]
    if as_json:
        output.print_json(rows)
    else:
        output.table(
            ("NAME", "CURRENT", "USER", "ADDRESSES"),
            [(r["name"], r["is_current"], r["user"], r["urls"]) for r in rows],
            empty="no contexts; see `zv context add --help`",
        )


@app.command(epilog="Example: zv context use prod")
def use(name: ContextArg) -> None:
    """Make a cluster the current one."""
    contexts.named(name)
    data = contexts.load()
    data["current"] = name
    contexts.save(data)
    output.say(f"{name} is the current context")


@app.command(epilog="Example: zv context show prod")
def show(
    name: Annotated[str, typer.Argument(autocompletion=complete_context, help="Without: the chosen one.")] = "",
    as_json: Json = False,
) -> None:
    """One cluster, without its token."""
    found = contexts.chosen(name)
    shown = {
        "name": found.name,
        "urls": list(found.urls),
        "user": found.user,
        "ca_file": found.ca_file,
        "netns": found.netns,
    }
    if as_json:
        output.print_json(shown)
    else:
        output.facts(shown.items())


@app.command(epilog="Example: zv context remove prod")
def remove(name: ContextArg) -> None:
    """Forget a cluster."""
    contexts.named(name)
    data = contexts.load()
    del data["contexts"][name]
    if data["current"] == name:
        data["current"] = ""
    contexts.save(data)
    output.say(f"{name} is forgotten")
