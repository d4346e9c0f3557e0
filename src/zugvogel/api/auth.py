"""Who asks: the bearer token becomes a role; each route says which role it needs."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import HTTPConnection

from zugvogel.domain.cluster import Access
from zugvogel.errors import Forbidden
from zugvogel.ports.backend import Backend

MAX_TOKEN = 512


def backend_of(connection: HTTPConnection) -> Backend:
    backend: Backend = connection.app.state.backend
    return backend


async def access_of(connection: HTTPConnection) -> Access:
    """Raises Forbidden without a valid ``Authorization: Bearer`` header."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN:
        raise Forbidden("no token was given", "add a context with a token: `zv context add`")
    return await backend_of(connection).authenticate(token)


TheBackend = Annotated[Backend, Depends(backend_of)]
TheAccess = Annotated[Access, Depends(access_of)]
Scheme = Annotated[HTTPAuthorizationCredentials | None, Security(HTTPBearer(auto_error=False))]
"""Only so that OpenAPI tells of the header; `access_of` reads it, for WebSockets too."""


def require(access: Access, needed: Access) -> None:
    if not access.allows(needed):
        raise Forbidden(
            f"this needs a token with the role {needed.value}, yours is {access.value}",
            f"ask an admin: `zv token create --access {needed.value}`",
        )


async def viewer(access: TheAccess, _scheme: Scheme) -> None:
    require(access, Access.VIEWER)


async def operator(access: TheAccess, _scheme: Scheme) -> None:
    require(access, Access.OPERATOR)


async def admin(access: TheAccess, _scheme: Scheme) -> None:
    require(access, Access.ADMIN)


VIEWER, OPERATOR, ADMIN = Depends(viewer), Depends(operator), Depends(admin)
