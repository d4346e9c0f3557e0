"""Consoles of vms in the browser: bytes between the browser's WebSocket and the API's.

The browser is told by the close code what to do next, with the reason: `ENDED` the vm's end of it ended (it moved
or stopped: connect again), `LOGGED_OUT`, `FORBIDDEN`, `REFUSED` (it does not run, or has none: wait for that to
change), `AWAY` (try again).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from zugvogel.console.page import path_values
from zugvogel.console.sessions import Person
from zugvogel.domain.cluster import Access
from zugvogel.errors import Conflict, Forbidden, SessionEnded, Unreachable, ZugvogelError

if TYPE_CHECKING:
    from zugvogel.console.app import Console

MAX_REASON = 120
"""Bytes; a WebSocket's close reason holds 123."""
ENDED, LOGGED_OUT, FORBIDDEN, REFUSED, AWAY = 1000, 4401, 4403, 4409, 4503
CHECK_S = 10.0
"""So often the API is asked whether the person's session goes on."""
PROTOCOL = "binary"
"""What VNC clients in browsers ask for."""


@dataclass(frozen=True, slots=True)
class Socket:
    """`path` of the console, and below the API's."""

    path: str
    api_path: str
    needs: Access = Access.OPERATOR

    def route(self, console: Console) -> WebSocketRoute:
        async def join(browser: WebSocket) -> None:
            await _serve(console, self, browser)

        return WebSocketRoute(self.path, join)


async def _serve(console: Console, socket: Socket, browser: WebSocket) -> None:
    """Cookies go along with sockets that pages of others open: only this console's own are taken."""
    if not is_own(browser, is_secure=console.is_secure):
        await browser.close(FORBIDDEN)
        return
    try:
        person = await _let_in(console, socket, browser)
        vm = await console.api_for(person.token).socket(socket.api_path.format(**path_values(browser)))
    except ZugvogelError as error:
        await _accept(browser)
        await _close(browser, _code_of(error), error.cause)
        return
    try:
        await _accept(browser)
        await _close(browser, *await _joined(console, socket, person, browser, vm))
    finally:
        await vm.close()


async def _accept(browser: WebSocket) -> None:
    await browser.accept(PROTOCOL if PROTOCOL in browser.scope.get("subprotocols", ()) else None)


async def _close(browser: WebSocket, code: int, reason: str) -> None:
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await browser.close(code, reason.encode()[:MAX_REASON].decode(errors="ignore"))


def is_own(browser: WebSocket, *, is_secure: bool) -> bool:
    """Whether a page of this console opened it. Browsers always say who did."""
    scheme = "https" if is_secure else "http"
    return browser.headers.get("origin") == f"{scheme}://{browser.headers.get('host', '')}"


async def _let_in(console: Console, socket: Socket, browser: WebSocket) -> Person:
    person = await console.sessions.person(browser)
    if person is None:
        raise SessionEnded("nobody is logged in", "log in again")
    if not person.may(socket.needs):
        raise Forbidden(f"this needs the role {socket.needs.value}, yours is {person.access.value}")
    return person


async def _joined(
    console: Console, socket: Socket, person: Person, browser: WebSocket, vm: ClientConnection
) -> tuple[int, str]:
    """Until either side ends; the code and the reason for the browser."""
    ended = asyncio.ensure_future(_session_ended(console, person, socket.needs))
    await _until_first(_to_browser(browser, vm), _to_vm(browser, vm), ended)
    return (ENDED, vm.close_reason or "") if ended.cancelled() else (LOGGED_OUT, "the session is over")


def _code_of(error: ZugvogelError) -> int:
    if isinstance(error, SessionEnded):
        return LOGGED_OUT
    if isinstance(error, Forbidden):
        return FORBIDDEN
    return AWAY if isinstance(error, (Unreachable, Conflict)) else REFUSED


async def _session_ended(console: Console, person: Person, needs: Access) -> None:
    """Returns when that person may look no longer. An API that cannot answer says nothing about it."""
    while True:
        await asyncio.sleep(CHECK_S)
        with contextlib.suppress(ZugvogelError):
            now = await console.sessions.whose(person.token, is_asked_anew=True)
            if now is None or not now.may(needs):
                return


async def _until_first(*work: Awaitable[Any]) -> None:
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _to_browser(browser: WebSocket, vm: ClientConnection) -> None:
    async for message in vm:
        await browser.send_bytes(message.encode() if isinstance(message, str) else message)


async def _to_vm(browser: WebSocket, vm: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        while (message := await browser.receive())["type"] != "websocket.disconnect":
            data = message.get("bytes") or (message.get("text") or "").encode()
            if data:
                await vm.send(data)
