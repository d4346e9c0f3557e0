"""The API as the CLI calls it: the transport of the chosen context."""

from __future__ import annotations

import ssl
from typing import Any

from zugvogel import errors
from zugvogel.cli.context import Context, enter_netns
from zugvogel.client.blocking import Transport
from zugvogel.client.endpoints import ANSWER_S, CONNECT_S


class Api:
    def __init__(self, context: Context, *, answer_s: float = ANSWER_S, connect_s: float = CONNECT_S) -> None:
        """Enters the context's network namespace. Raises Refused when CA file or namespace are missing."""
        if not context.urls:
            raise errors.Refused(f"context {context.name} has no address", "add it again: `zv context add`")
        if context.netns:
            enter_netns(context.netns)
        self.context = context
        self._transport = Transport(
            context.urls,
            token=context.token,
            ca_file=context.ca_file,
            name=context.name,
            answer_s=answer_s,
            connect_s=connect_s,
        )

    @property
    def urls(self) -> list[str]:
        """The endpoint that answered last comes first."""
        return self._transport.urls

    @property
    def trust(self) -> ssl.SSLContext:
        return self._transport.trust

    @property
    def headers(self) -> dict[str, str]:
        return self._transport.headers

    def get(self, path: str, **params: Any) -> Any:
        return self._transport.request("GET", path, params=params)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._transport.request("POST", path, json=body)

    def put(self, path: str, body: dict[str, Any]) -> Any:
        return self._transport.request("PUT", path, json=body)

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        return self._transport.request("PATCH", path, json=body)

    def delete(self, path: str) -> Any:
        return self._transport.request("DELETE", path)
