"""What one call of the CLI shares: the chosen context and the connection, made when first needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zugvogel.cli import context

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
