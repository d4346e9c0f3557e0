"""Headers that keep a browser from doing what no page of the console asks for."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data:",
        # The terminal makes its style sheet when it starts; styles can run nothing.
        "style-src 'self' 'unsafe-inline'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
CACHED = "public, max-age=31536000, immutable"
"""For static files, whose address holds the version."""


MAX_BODY_BYTES = 2**20
"""Of a form."""
TOO_LARGE = "A form is 1 MiB at most, and says its length.\n"


class SecurityHeaders:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/static/") and message["status"] == 200:
                    headers["cache-control"] = CACHED
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


class SmallBodies:
    """Forms are read into memory before anybody is known to have logged in: large ones are not read at all."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _has_small_body(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        refused = PlainTextResponse(
            "A form is 1 MiB at most, and says its length.\n", 413, {"connection": "close"}
        )
        await refused(scope, receive, send)


def _has_small_body(headers: Headers) -> bool:
    """Browsers say the length of every form. A server holds them to it."""
    if "transfer-encoding" in headers:
        return False
    length = headers.get("content-length", "0")
    return length.isdecimal() and len(length) < 12 and int(length) <= MAX_BODY_BYTES
