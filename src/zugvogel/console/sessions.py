"""Who looks: the session cookie holds a token of the API (of a login, or one made by `zv token`), and the API says
whose it is. The console keeps no secrets of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter
from starlette.requests import HTTPConnection
from starlette.responses import Response

from zugvogel.client.transport import AsyncTransport
from zugvogel.console.i18n import marked
from zugvogel.domain.cluster import Access
from zugvogel.errors import Forbidden, TooManyRequests

KNOWN_S = 10.0
"""So long a token's owner is taken for granted: after that a revoked one is of no use any more."""
MAX_KNOWN = 1000
WRONG_TOKENS = parse("10/minute")
"""Of one address. The API counts failed passwords by the browser's address; for tokens it sees the console's."""


@dataclass(frozen=True, slots=True)
class Person:
    """`user`: the name, or what kind of token it is. `is_user`: has a password to change."""

    user: str
    access: Access
    token: str
    is_user: bool = True

    def may(self, needed: Access) -> bool:
        return self.access.allows(needed)


ApiFor = Callable[[str], AsyncTransport]
"""token -> the API as its owner reaches it."""


class Sessions:
    """`own`: the API as the console itself reaches it, with the token its agent gave it."""

    def __init__(self, api_for: ApiFor, own: AsyncTransport, *, is_secure: bool) -> None:
        self._api_for = api_for
        self._own = own
        self._is_secure = is_secure
        self.cookie = "__Host-zugvogel" if is_secure else "zugvogel"
        self._known: dict[str, tuple[float, Person]] = {}
        self._wrong_tokens = MovingWindowRateLimiter(MemoryStorage())

    async def person(self, connection: HTTPConnection) -> Person | None:
        """Whoever has logged in; None: nobody, or not any more. Raises Unreachable."""
        token = connection.cookies.get(self.cookie, "")
        return await self.whose(token) if token else None

    async def whose(self, token: str, *, is_asked_anew: bool = False) -> Person | None:
        """`is_asked_anew`: what was answered a few seconds ago does not count."""
        now = time.monotonic()
        at, person = self._known.get(token, (0.0, None))
        if person is not None and now - at < KNOWN_S and not is_asked_anew:
            return person
        self.forget(token)
        try:
            found = await self._api_for(token).request("GET", "/session")
        except (Forbidden, TooManyRequests):  # right bearers are never too many
            return None
        person = _person(found, token)
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[token] = (now, person)
        return person

    def forget(self, token: str) -> None:
        """The API is asked for its owner at the next look."""
        self._known.pop(token, None)

    async def log_in(self, address: str, *, user: str = "", password: str = "", token: str = "") -> Person:
        """By name and password, or by a token. `address`: the browser's; the API counts by it what fails. Raises
        Forbidden, TooManyRequests, Unreachable."""
        return await (self._by_token(address, token) if token else self._by_password(address, user, password))

    async def _by_password(self, address: str, user: str, password: str) -> Person:
        asked = {"user": user, "password": password, "client": address}
        token = str((await self._own.request("POST", "/session", json=asked))["token"])
        person = await self.whose(token)
        if person is None:
            raise Forbidden(marked("the session ended as soon as it began"), marked("log in again"))
        return person

    async def _by_token(self, address: str, token: str) -> Person:
        if not await self._wrong_tokens.test(WRONG_TOKENS, address):
            raise TooManyRequests(
                marked("too many wrong tokens came from this address"), marked("wait a minute and try again")
            )
        person = await self.whose(token)
        if person is None:
            await self._wrong_tokens.hit(WRONG_TOKENS, address)
            raise Forbidden(marked("the token is not known to this cluster"), marked("see: zv token list"))
        return person

    async def log_out(self, person: Person) -> None:
        self.forget(person.token)
        if person.is_user:
            await self._api_for(person.token).request("DELETE", "/session")

    def keep(self, response: Response, token: str) -> None:
        """For as long as the browser is open; the API ends it at its own time."""
        response.set_cookie(self.cookie, token, secure=self._is_secure, httponly=True, samesite="lax", path="/")

    def drop(self, response: Response) -> None:
        response.delete_cookie(self.cookie, secure=self._is_secure, httponly=True, samesite="lax", path="/")


def _person(found: dict[str, Any], token: str) -> Person:
    is_user = found["kind"] == "user"
    return Person(str(found["user"] or found["kind"]), Access(found["access"]), token, is_user)
