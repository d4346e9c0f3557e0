"""Where a browser came from and is sent to: never to anywhere else than this console."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response


def is_htmx(request: Request) -> bool:
    return "hx-request" in request.headers


def to_login(request: Request) -> Response:
    """And from there back to the page the person was on."""
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.method != "GET":
        wanted = path_of(request.headers.get("hx-current-url", request.headers.get("referer", "/")))
    target = f"/login?next={quote(wanted)}"
    if is_htmx(request):
        return Response(headers={"hx-redirect": target})
    return RedirectResponse(target, status_code=303)


def own_path(target: str) -> str:
    """A path of this console, whatever was asked for."""
    is_own = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if is_own else "/"


def back(request: Request) -> str:
    return path_of(request.headers.get("referer", "/"))


def path_of(url: str) -> str:
    """The same path here."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "/"
    return own_path(parts.path + (f"?{parts.query}" if parts.query else ""))
