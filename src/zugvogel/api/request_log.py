"""Each request of the API as a line of the log at DEBUG: who, what, outcome, how long. Neither query nor body."""

from __future__ import annotations

import logging
from time import monotonic

from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

CUT = 499
"""Told where there was no answer: the client went away, or the agent stops."""


class RequestLog:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"} or not log.isEnabledFor(logging.DEBUG):
            await self._app(scope, receive, send)
            return
        started, status = monotonic(), CUT

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                status = message["status"]
            elif message["type"] == "websocket.accept":
                status = 101
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            client = (scope.get("client") or ("",))[0]
            method, path = scope.get("method", "WEBSOCKET"), scope["path"]
            log.debug("%s %s %s %d %.1f ms", client, method, path, status, (monotonic() - started) * 1000)
