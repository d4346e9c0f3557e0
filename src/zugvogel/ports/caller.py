"""Who asked for what is being done now: the API sets it for the time of one request.

It is read at the beginning of an operation, for the event that tells of it, and never by work that goes on after
the request: a task would bear the name of whoever began it for ever.
"""

from __future__ import annotations

from contextvars import ContextVar

from zugvogel.domain.user import Caller

caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def asked_by() -> str:
    """ "user ada", "token 3f9a"; empty: the cluster itself."""
    found = caller.get()
    return str(found) if found else ""
