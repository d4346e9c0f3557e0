"""The console as an ASGI app: pages, their streams, actions, logging in."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from asgi_csrf import Errors, asgi_csrf_decorator
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Scope, Send
from starlette.websockets import WebSocket

from zugvogel import __version__
from zugvogel.client.transport import AsyncTransport
from zugvogel.console import i18n, live
from zugvogel.console.actions import Action, Call, Told
from zugvogel.console.addresses import back, is_htmx, own_path, to_login
from zugvogel.console.i18n import marked
from zugvogel.console.mirror import Mirror
from zugvogel.console.page import Look, Page, Variables, path_values
from zugvogel.console.pages import ACTIONS, PAGES, SOCKETS
from zugvogel.console.rendering import TEMPLATES, whole
from zugvogel.console.security import SecurityHeaders, SmallBodies
from zugvogel.console.sessions import ApiFor, Person, Sessions
from zugvogel.console.sockets import AWAY, FORBIDDEN, is_own
from zugvogel.domain.cluster import Access
from zugvogel.errors import Forbidden, NotFound, Refused, SessionEnded, ZugvogelError

log = logging.getLogger(__name__)

STATIC = TEMPLATES.parent / "static"
STATIC_URL = f"/static/{__version__}"
THEMES = ("auto", "light", "dark")
CSRF_COOKIE = "zugvogel-csrf"
OUTDATED = Forbidden(marked("this page is older than the console"), marked("load it again"))
YEAR_S = 365 * 24 * 3600
LIVE_PREFIX = "/live"
AS_TYPED = ("password", "again", "old")
"""Fields of forms in which spaces count."""


class Console:
    """`host`: whose console this is. `api_for`: the API with a person's token; `own`: with the console's.
    `secret` signs what keeps forged requests out; where it is empty, open pages send nothing after a restart."""

    def __init__(
        self,
        host: str,
        mirror: Mirror,
        api_for: ApiFor,
        own: AsyncTransport,
        *,
        is_secure: bool,
        secret: str = "",
    ) -> None:
        self.host = host
        self.mirror = mirror
        self.api_for = api_for
        self.is_secure = is_secure
        self.sessions = Sessions(api_for, own, is_secure=is_secure)
        self._secret = secret
        self._shared = live.Shared()

    def app(
        self, lifespan: Callable[[Starlette], contextlib.AbstractAsyncContextManager[None]] | None = None
    ) -> Any:
        """With protection against forged requests around it."""
        routes: list[BaseRoute] = [
            Mount(STATIC_URL, StaticFiles(directory=STATIC), name="static"),
            Route("/health", self._health),
            Route("/login", self._login, methods=["GET", "POST"]),
            Route("/logout", self._logout, methods=["POST"]),
            Route("/preferences", self._preferences, methods=["POST"]),
            *(WebSocketRoute(f"{LIVE_PREFIX}{page.path}", self._live(page)) for page in PAGES),
            *(Route(page.path, self._page(page)) for page in PAGES),
            *(Route(action.path, self._action(action), methods=["POST"]) for action in ACTIONS),
            *(socket.route(self) for socket in SOCKETS),
        ]
        app = Starlette(
            routes=routes,
            lifespan=lifespan,
            middleware=[Middleware(GZipMiddleware, minimum_size=1000)],
            exception_handlers={
                HTTPException: self._no_such,
                ZugvogelError: self._failed,
                Exception: self._broke,
            },
        )
        protect = asgi_csrf_decorator(
            # No neighbour under the same domain can plant one with this prefix.
            cookie_name=f"__Host-{CSRF_COOKIE}" if self.is_secure else CSRF_COOKIE,
            cookie_secure=self.is_secure,
            signing_secret=self._secret or None,
            send_csrf_failed=self._forged,
            always_protect={"/login", "/logout", "/preferences"},
        )
        return SecurityHeaders(SmallBodies(protect(app)))

    # who and how ---------------------------------------------------------------------------------

    def language(self, connection: HTTPConnection) -> i18n.Language:
        return i18n.chosen(connection.cookies.get("language", ""), connection.headers.get("accept-language", ""))

    def look(self, connection: HTTPConnection, person: Person) -> Look:
        return Look(
            mirror=self.mirror,
            person=person,
            api=self.api_for(person.token),
            language=self.language(connection),
            path=path_values(connection),
            query=connection.query_params,
        )

    def common(self, request: HTTPConnection, person: Person | None) -> dict[str, Any]:
        """What every template may use. Live blocks have no `csrf`, and need none: what they send, htmx sends."""
        theme = request.cookies.get("theme", "auto")
        path = request.url.path.removeprefix(LIVE_PREFIX)
        return {
            "person": person,
            "may": (lambda needed: person is not None and person.may(Access(needed))),
            "host": self.host,
            "mirror": self.mirror,
            "cluster_name": self.mirror.cluster.get("name", ""),
            "path": path,
            "url": path + (f"?{request.url.query}" if request.url.query else ""),
            "static": STATIC_URL,
            "theme": theme if theme in THEMES else "auto",
            "themes": THEMES,
            "csrf": request.scope.get("csrftoken", str),
            "trouble": self.mirror.trouble,
        }

    def html(
        self, request: Request, template: str, person: Person | None, status: int = 200, **values: Any
    ) -> Response:
        text = whole(self.language(request), template, {**self.common(request, person), **values})
        return HTMLResponse(text, status_code=status, headers={"cache-control": "no-store"})

    # pages -----------------------------------------------------------------------------------------

    def _page(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        async def show(request: Request) -> Response:
            person = await self.sessions.person(request)
            if person is None:
                return to_login(request)
            if not person.may(page.needs):
                raise _may_not(person, page.needs)
            async with self.mirror.looked_at():
                variables = await page.view(self.look(request, person))
                return self.html(request, page.template, person, is_live=True, **variables)

        return show

    def _live(self, page: Page) -> Callable[[WebSocket], Awaitable[None]]:
        async def follow(browser: WebSocket) -> None:
            if not is_own(browser, is_secure=self.is_secure):
                await browser.close(FORBIDDEN)
                return
            try:
                person = await self.sessions.person(browser)
                look = None if person is None else self.look(browser, person)
            except ZugvogelError as error:
                await _turned_away(browser, live.GONE if isinstance(error, NotFound) else AWAY)
                return
            if person is None or look is None or not person.may(page.needs):
                await _turned_away(browser, live.LOGGED_OUT if person is None else FORBIDDEN)
                return
            await live.serve(browser, page, look, self._shared, *self._followed(page, browser, person))

        return follow

    def _followed(
        self, page: Page, browser: WebSocket, person: Person
    ) -> tuple[Callable[[Look], Awaitable[Variables]], Callable[[], Awaitable[bool]]]:
        common = self.common(browser, person)
        del common["person"], common["csrf"], common["theme"]  # live blocks are made once for several people

        async def variables(look: Look) -> Variables:
            fresh = {"cluster_name": self.mirror.cluster.get("name", ""), "trouble": self.mirror.trouble}
            return {**common, **fresh, "is_live": True, **await page.view(look)}

        async def still() -> bool:
            now = await self.sessions.whose(person.token)
            return now is not None and now.may(page.needs)

        return variables, still

    # actions -----------------------------------------------------------------------------------------

    def _action(self, action: Action) -> Callable[[Request], Awaitable[Response]]:
        async def act(request: Request) -> Response:
            person = await self.sessions.person(request)
            if person is None:
                return to_login(request)
            try:
                if not person.may(action.needs):
                    raise _may_not(person, action.needs)
                told = await action.perform(await self._call(request, person))
            except SessionEnded:
                raise
            except ZugvogelError as error:
                if is_htmx(request):
                    return self._refused(request, person, error)
                raise
            return self._kept(person, told, self._tell(request, person, told))

        return act

    def _refused(self, request: Request, person: Person | None, error: ZugvogelError) -> Response:
        """A message that htmx shows: it shows nothing of answers that are errors to it."""
        refused = self.html(request, "toast.html", person, told=None, error=error)
        refused.headers["x-zugvogel-refused"] = "1"
        return refused

    def _kept(self, person: Person, told: Told, response: Response) -> Response:
        if told.session:
            self.sessions.forget(person.token)
            self.sessions.keep(response, told.session)
        return response

    async def _call(self, request: Request, person: Person) -> Call:
        form = await request.form()
        lists: dict[str, list[str]] = {}
        for name, value in form.multi_items():
            if isinstance(value, str):
                lists.setdefault(name, []).append(value if name in AS_TYPED else value.strip())
        return Call(
            api=self.api_for(person.token),
            person=person,
            language=self.language(request),
            path=path_values(request),
            form={name: values[-1] for name, values in lists.items()},
            lists=lists,
        )

    def _tell(self, request: Request, person: Person, told: Told) -> Response:
        if not is_htmx(request):
            return RedirectResponse(told.goto or back(request), status_code=303)
        if told.goto:
            return Response(headers={"hx-redirect": quote(told.goto, safe="/?&=%")})
        return self.html(request, "toast.html", person, told=told, error=None)

    # in and out --------------------------------------------------------------------------------------

    async def _login(self, request: Request) -> Response:
        target = own_path(request.query_params.get("next", "/"))
        if request.method == "GET":
            return self.html(request, "login.html", None, is_live=False, error=None, user="", next=target)
        form = await request.form()
        user, password, token = (str(form.get(name, "")) for name in ("user", "password", "token"))
        user, token = user.strip(), token.strip()
        address = request.client.host.partition("%")[0] if request.client else ""
        try:
            person = await self.sessions.log_in(address, user=user, password=password, token=token)
        except ZugvogelError as error:
            return self.html(
                request, "login.html", None, error.http_status, is_live=False, error=error, user=user, next=target
            )
        response = RedirectResponse(target, status_code=303)
        self.sessions.keep(response, person.token)
        return response

    async def _logout(self, request: Request) -> Response:
        with contextlib.suppress(ZugvogelError):  # away or not: this browser forgets it
            person = await self.sessions.person(request)
            if person is not None:
                await self.sessions.log_out(person)
        response = RedirectResponse("/login", status_code=303)
        self.sessions.drop(response)
        return response

    async def _preferences(self, request: Request) -> Response:
        """Language and theme, kept in the browser."""
        form = await request.form()
        response = RedirectResponse(back(request), status_code=303)
        for name, values in (("language", tuple(i18n.LANGUAGES)), ("theme", THEMES)):
            if (wanted := str(form.get(name, ""))) in values:
                response.set_cookie(name, wanted, max_age=YEAR_S, secure=self.is_secure, samesite="lax", path="/")
        return response

    # the rest ----------------------------------------------------------------------------------------

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"host": self.host, "status": "ok"})

    async def _no_such(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return await self._failed(request, NotFound(marked("there is no such page")))
        return self.html(
            request, "error.html", None, error.status_code, is_live=False, error=Refused(error.detail)
        )

    async def _broke(self, request: Request, error: Exception) -> Response:
        """The server logs what was raised; people are told that, and no more."""
        told = ZugvogelError(
            marked("the console has a defect here"), f"see the log of the agent of {self.host} and report it"
        )
        if is_htmx(request):
            return self._refused(request, None, told)
        return self.html(request, "error.html", None, 500, is_live=False, error=told)

    async def _forged(self, scope: Scope, send: Send, why: Errors) -> None:
        """Or a page from before the console was started anew."""
        request = Request(scope)
        if is_htmx(request):
            answer = self._refused(request, None, OUTDATED)
        else:
            answer = self.html(request, "error.html", None, 403, is_live=False, error=OUTDATED)
        await answer(scope, _nothing, send)

    async def _failed(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, ZugvogelError)
        if isinstance(error, SessionEnded):
            self.sessions.forget(request.cookies.get(self.sessions.cookie, ""))
            return to_login(request)
        try:
            person = await self.sessions.person(request)
        except ZugvogelError:
            person = None
        return self.html(request, "error.html", person, error.http_status, is_live=False, error=error)


def _may_not(person: Person, needed: Access) -> Forbidden:
    return Forbidden(
        f"this needs the role {needed.value}, yours is {person.access.value}",
        marked("ask an admin, or log in as another user"),
    )


async def _turned_away(browser: WebSocket, code: int) -> None:
    await browser.accept()
    await browser.close(code)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
