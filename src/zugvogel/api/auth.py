"""Who asks: the bearer becomes a caller with a role; each route says which role it needs.

A bearer is an API token, a user's session, a console ticket, or the token of this agent's console.
"""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import HTTPConnection

from zugvogel.api.limiting import Limits
from zugvogel.domain.cluster import Access
from zugvogel.domain.user import Caller
from zugvogel.errors import Forbidden, SessionEnded
from zugvogel.ports.backend import Backend
from zugvogel.ports.caller import caller as current

MAX_TOKEN = 512


def backend_of(connection: HTTPConnection) -> Backend:
    backend: Backend = connection.app.state.backend
    return backend


def limits_of(connection: HTTPConnection) -> Limits:
    limits: Limits = connection.app.state.limits
    return limits


def address_of(connection: HTTPConnection) -> str:
    """The peer's, as the socket says; no header is believed."""
    return connection.client.host if connection.client else ""


def bearer_of(connection: HTTPConnection) -> str:
    """Empty: there is no usable ``Authorization: Bearer`` header."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and len(token) <= MAX_TOKEN else ""


async def caller_of(connection: HTTPConnection) -> Caller:
    """Raises Forbidden without a valid bearer, TooManyRequests for too many wrong ones. What is done from here on
    is done on the caller's word (`zugvogel.ports.caller`)."""
    current.set(None)
    token = bearer_of(connection)
    if not token:
        raise Forbidden(
            "no token was given", "add a context with a token: `zv context add`, or `zv context login`"
        )
    try:
        found = await backend_of(connection).authenticate(token)
    except SessionEnded:  # it was right once: nobody guesses
        raise
    except Forbidden:
        limits_of(connection).wrong_bearer(address_of(connection))
        raise
    current.set(found)
    return found


async def access_of(connection: HTTPConnection) -> Access:
    """As `caller_of`."""
    return (await caller_of(connection)).access


def is_console(connection: HTTPConnection) -> bool:
    """The console of this host asks, for itself."""
    return hmac.compare_digest(bearer_of(connection).encode(), backend_of(connection).console_token().encode())


TheBackend = Annotated[Backend, Depends(backend_of)]
TheCaller = Annotated[Caller, Depends(caller_of)]
TheLimits = Annotated[Limits, Depends(limits_of)]
Scheme = Annotated[HTTPAuthorizationCredentials | None, Security(HTTPBearer(auto_error=False))]
"""Only so that OpenAPI tells of the header; `caller_of` reads it, for WebSockets too."""


async def _access(caller: TheCaller) -> Access:
    return caller.access


TheAccess = Annotated[Access, Depends(_access)]


def require(access: Access, needed: Access) -> None:
    if not access.allows(needed):
        raise Forbidden(
            f"this needs the role {needed.value}, yours is {access.value}",
            f"ask an admin for a user or a token with it: `zv token create --access {needed.value}`",
        )


async def viewer(access: TheAccess, _scheme: Scheme) -> None:
    require(access, Access.VIEWER)


async def operator(access: TheAccess, _scheme: Scheme) -> None:
    require(access, Access.OPERATOR)


async def admin(access: TheAccess, _scheme: Scheme) -> None:
    require(access, Access.ADMIN)


VIEWER = Security(viewer, scopes=[Access.VIEWER.value])
OPERATOR = Security(operator, scopes=[Access.OPERATOR.value])
ADMIN = Security(admin, scopes=[Access.ADMIN.value])
"""The scopes are for OpenAPI, which calls them roles."""
