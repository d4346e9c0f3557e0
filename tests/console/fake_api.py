"""The API as the console asks it, in memory: what was asked is kept, answers are laid out beforehand."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

from zugvogel.console.app import Console
from zugvogel.console.mirror import Mirror
from zugvogel.errors import Forbidden, NotFound, ZugvogelError

ROLES = ("viewer", "operator", "admin")
PASSWORD = "a long enough one"
OWN = "console.token"
"""The console's own."""


class FakeApi:
    """`asked`: (token, method, path, params, json). `answers`: (method, path) -> what is answered, or raised.
    Users are named as their roles; their tokens are ``<role>-token``. `login_error`: what a login with a password
    ends in."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str, Any, Any]] = []
        self.answers: dict[tuple[str, str], Any] = {}
        self.revoked: set[str] = set()
        self.login_error: ZugvogelError | None = None

    def of(self, token: str) -> Any:
        return _Transport(self, token)

    def changes(self) -> list[tuple[str, str, Any]]:
        """Method, path and body of what was asked that is no reading and no login."""
        return [(m, p, j) for _, m, p, _, j in self.asked if m != "GET" and p != "/session"]

    def answer(self, token: str, method: str, path: str, params: Any, json: Any) -> Any:
        self.asked.append((token, method, path, params, json))
        if path == "/session":
            return self._session(token, method, json)
        found = self.answers.get((method, path))
        if found is None:
            raise NotFound(f"nothing is laid out for {method} {path}")
        if isinstance(found, ZugvogelError):
            raise found
        return found

    def _session(self, token: str, method: str, json: Any) -> Any:
        if method == "DELETE":
            self.revoked.add(token)
            return {"done": True}
        if method == "POST":
            if token != OWN:
                raise Forbidden("only the console of this host may log in on behalf of an address")
            if self.login_error is not None:
                raise self.login_error
            if json["user"] not in ROLES or json["password"] != PASSWORD:
                raise Forbidden("user or password is wrong", "ask an admin")
            return {
                "token": f"{json['user']}-token",
                "user": json["user"],
                "access": json["user"],
                "expires_at": "",
            }
        role = token.removesuffix("-token")
        if role not in ROLES or token in self.revoked:
            raise Forbidden("the token is not known to this cluster")
        return {"user": role, "access": role, "kind": "user", "expires_at": ""}


class _Transport:
    urls = ("https://api:7440",)

    def __init__(self, api: FakeApi, token: str) -> None:
        self._api = api
        self._token = token

    async def request(self, method: str, path: str, *, params: Any = None, json: Any = None) -> Any:
        return self._api.answer(self._token, method, path, params, json)

    async def socket(self, path: str) -> Any:
        return self._api.answer(self._token, "SOCKET", path, None, None)

    async def events(self, path: str, *, params: Any = None) -> AsyncGenerator[tuple[str, Any], None]:
        for message in self._api.answer(self._token, "WATCH", path, params, None):
            yield message


def filled_mirror(**topics: dict[str, Any]) -> Mirror:
    """Ready, with these topics as they are."""
    mirror = Mirror()
    mirror.take("cluster", {"whole": True, "changed": {"cluster": {"name": "birds"}}, "gone": []})
    for topic, values in topics.items():
        mirror.take(topic, {"whole": True, "changed": values, "gone": []})
    mirror.take("ready", {})
    return mirror


def console_over(api: FakeApi, mirror: Mirror, *, is_secure: bool = False) -> Callable[..., Any]:
    app: Callable[..., Any] = Console("host1", mirror, api.of, api.of(OWN), is_secure=is_secure).app()
    return app
