"""`zv token`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from zugvogel.cli import output, session
from zugvogel.cli.options import Json

app = typer.Typer(no_args_is_help=True, help="Tokens of API users and of joining hosts.")


class Role(StrEnum):
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


@app.command(epilog="Example: zv token create --access operator --description 'backup script'")
def create(
    access: Annotated[Role, typer.Option(help="What it may do: look, run vms, or everything.")],
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    as_json: Json = False,
) -> None:
    """Make an API token. It is shown only once."""
    made = session.api().post("/tokens", {"access": access.value, "description": description})
    if as_json:
        output.print_json(made)
    else:
        output.say(made["token"])


@app.command("list", epilog="Example: zv token list")
def list_tokens(as_json: Json = False) -> None:
    """All API tokens, without their secrets."""
    found = session.api().get("/tokens")
    if as_json:
        output.print_json(found)
        return
    output.table(
        ("ID", "ACCESS", "CREATED", "DESCRIPTION"),
        [(t["id"], t["access"], output.clock(t["created_at"]), t["description"]) for t in found],
        empty="no tokens",
    )


@app.command(epilog="Example: zv token revoke 3f9a")
def revoke(token_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """End a token's validity at once."""
    session.api().delete(f"/tokens/{token_id}")
    output.say(f"token {token_id} is revoked")


@app.command(epilog="Example: zv token join   (then on the new host: zv host join URL --token T)")
def join(as_json: Json = False) -> None:
    """Make a one-time token for a host that is to join; valid for an hour."""
    made = session.api().post("/join-tokens")
    if as_json:
        output.print_json(made)
    else:
        output.say(made["token"])
