"""A limit on request bodies: nothing the API takes is large."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zugvogel.api.errors import answer

MAX_BODY_BYTES = 1 << 20


class BodyLimit:
    """Answers 413 before the body is read when its length is announced; without a length the request is cut
    off at the limit."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > MAX_BODY_BYTES:
            refusal = answer(413, "invalid-input", f"the request is larger than {MAX_BODY_BYTES} bytes")
            await refusal(scope, receive, send)
            return
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            return message if seen <= MAX_BODY_BYTES else {"type": "http.disconnect"}

        await self._app(scope, limited, send)
