"""`zv context`: the clusters this user talks to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zugvogel.cli import context as contexts
from zugvogel.cli import output
from zugvogel.cli.options import Json

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
    token: Annotated[str, typer.Option(help="API token; '-' reads it from standard input.")],
    ca: Annotated[Path, typer.Option(help="The cluster CA's certificate.", exists=True, dir_okay=False)],
    netns: Annotated[str, typer.Option(help="Network namespace to enter before connecting (the lab).")] = "",
) -> None:
    """Add a cluster and make it the current one."""
    urls = tuple(u.strip().rstrip("/") for text in url for u in text.split(",") if u.strip())
    if token == "-":
        token = typer.get_text_stream("stdin").readline().strip()
    contexts.add(contexts.Context(name, urls, token, str(ca.absolute()), netns), make_current=True)
    output.say(f"{name} is the current context")


@app.command("list", epilog="Example: zv context list")
def list_contexts(as_json: Json = False) -> None:
    """All known clusters."""
    data = contexts.load()
    rows = [
        {"name": n, "is_current": n == data["current"], "urls": c.get("urls", []), "netns": c.get("netns", "")}
        for n, c in sorted(data["contexts"].items())
    ]
    if as_json:
        output.print_json(rows)
    else:
        output.table(
            ("NAME", "CURRENT", "ADDRESSES"),
            [(r["name"], r["is_current"], r["urls"]) for r in rows],
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
    shown = {"name": found.name, "urls": list(found.urls), "ca_file": found.ca_file, "netns": found.netns}
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
