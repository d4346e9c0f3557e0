"""What one call of the CLI shares: the chosen context and the connection, made when first needed."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zugvogel.cli import context
from zugvogel.errors import SessionEnded

if TYPE_CHECKING:
    from zugvogel.cli.client import Api

_chosen = ""
_api: Api | None = None


def choose(name: str) -> None:
    """Set by the option --context before any command runs."""
    global _chosen, _api
    _chosen, _api = name, None


def api() -> Api:
    global _api
    if _api is None:
        from zugvogel.cli.client import Api

        _api = Api(context.chosen(_chosen))
    return _api


def login(found: context.Context, user: str, password: str) -> dict[str, Any]:
    """Begins a session and keeps it in that context, in place of its token. The API's answer."""
    from zugvogel.cli.client import Api

    made: dict[str, Any] = Api(replace(found, token="")).post("/session", {"user": user, "password": password})
    keep(found, made)
    return made


def keep(found: context.Context, made: dict[str, Any]) -> None:
    """A session that the API has just begun."""
    context.add(replace(found, token=made["token"], user=made["user"]), make_current=False)


def logout(found: context.Context) -> None:
    """Ends the session and forgets it; one that is over already is only forgotten. Who it was of is kept."""
    from zugvogel.cli.client import Api

    with contextlib.suppress(SessionEnded):
        Api(found).delete("/session")
    context.add(replace(found, token=""), make_current=False)
