"""Pages that stay up to date: one WebSocket a page, through which the blocks that changed are sent.

A WebSocket and not server-sent events, because over HTTP/1.1 a browser has six connections to a host for all its
tabs, and streams of events would use them up. What several people look at in the same language, with the same
query and rights, is made once for all of them (`Shared`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from zugvogel.console.page import Look, Page, Variables
from zugvogel.console.rendering import Blocks, Fragments, Parts
from zugvogel.errors import NotFound, SessionEnded, ZugvogelError

log = logging.getLogger(__name__)

SETTLE_S = 0.15
"""The watch tells of several topics at once: they are shown together."""
LOOK_S = 10.0
"""A page is looked at again after so long, whatever happens: its session may have ended."""
REST = 10
"""A page rests so much longer than it took to be made, for each page looked at; `LONGEST_REST_S` at most."""
LONGEST_REST_S = 2.0
SEND_S = 30.0
"""A browser that takes nothing for so long is given up."""
LOGGED_OUT, GONE, DEFECT = 4401, 4404, 1011
"""Close codes: log in again; what the page shows is gone. After any other the page connects again."""

View = Callable[[Look], Awaitable[Variables]]


@dataclass(slots=True)
class _Made:
    """`parts` of `version` of the mirror, made at `at_s` within `took_s`. `keep`: of the `Look`; `every_s`: of the
    `Page`."""

    lookers: int = 0
    version: int = -1
    at_s: float = 0.0
    took_s: float = 0.0
    every_s: float = LOOK_S
    parts: Parts = field(default_factory=dict)
    keep: dict[str, Any] = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Shared:
    """Pages as they are now, each kept while somebody looks at it."""

    def __init__(self) -> None:
        self._made: dict[Hashable, _Made] = {}

    @contextlib.contextmanager
    def seen(self, page: Page, look: Look) -> Iterator[_Made]:
        key = _key(page, look)
        made = self._made.setdefault(key, _Made(every_s=page.every_s or LOOK_S))
        made.lookers += 1
        try:
            yield made
        finally:
            made.lookers -= 1
            if not made.lookers:
                del self._made[key]

    def rest_s(self, made: _Made) -> float:
        """So that all pages together leave most of a core to others."""
        return max(SETTLE_S, min(LONGEST_REST_S, REST * made.took_s * len(self._made)))


def _key(page: Page, look: Look) -> Hashable:
    """Whoever has the same sees the same."""
    person = look.person.token if page.is_personal else ""
    path, query = tuple(sorted(look.path.items())), tuple(look.query.multi_items())
    return page.path, path, query, look.language.code, look.person.access, person


async def _parts(made: _Made, page: Page, look: Look, blocks: Blocks, variables: View) -> Parts:
    """Made anew, unless somebody else just did."""
    async with made.turn:
        now, version = time.monotonic(), look.mirror.version
        if version != made.version or now - made.at_s >= 0.5 * made.every_s:
            found = await variables(replace(look, keep=made.keep))
            made.every_s = found.get("every_s", page.every_s) or LOOK_S
            began = time.perf_counter()
            made.parts, made.version, made.at_s = blocks.parts(found), version, now
            made.took_s = time.perf_counter() - began
        return made.parts


async def serve(
    browser: WebSocket,
    page: Page,
    look: Look,
    shared: Shared,
    variables: View,
    still: Callable[[], Awaitable[bool]],
) -> None:
    """Until the browser leaves. `variables`: the page's, with those that all pages have. `still`: whether that
    person is logged in. Sends ``{"live": {element id: HTML}}`` and ``{"trouble": cause}``, the cause why the page
    cannot be shown now; empty: it can."""
    await browser.accept()
    telling = asyncio.ensure_future(_tell(browser, page, look, shared, variables, still))
    leaving = asyncio.ensure_future(_left(browser))
    try:
        await asyncio.wait((telling, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (telling, leaving):
            task.cancel()
        code, *_ = await asyncio.gather(telling, leaving, return_exceptions=True)
    with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
        async with asyncio.timeout(SEND_S):
            await browser.close(_code_of(code, page))


def _code_of(ended: int | BaseException, page: Page) -> int:
    if isinstance(ended, int):
        return ended
    if isinstance(ended, Exception) and not isinstance(ended, (WebSocketDisconnect, TimeoutError)):
        log.error("the page %s has a defect", page.path, exc_info=ended)
        return DEFECT
    return 1000


async def _left(browser: WebSocket) -> None:
    while (await browser.receive())["type"] != "websocket.disconnect":
        pass


async def _send(browser: WebSocket, told: dict[str, Any]) -> None:
    async with asyncio.timeout(SEND_S):
        await browser.send_json(told)


async def _tell(
    browser: WebSocket,
    page: Page,
    look: Look,
    shared: Shared,
    variables: View,
    still: Callable[[], Awaitable[bool]],
) -> int:
    """The close code. The first message holds every block: what happened since the page was made is not missed."""
    blocks, fragments, trouble = Blocks(look.language, page.template), Fragments(), ""
    async with look.mirror.looked_at():
        with shared.seen(page, look) as made:
            while True:
                version = look.mirror.version
                told = ""
                try:
                    if not await still():
                        return LOGGED_OUT
                    if changed := fragments.changed(await _parts(made, page, look, blocks, variables)):
                        await _send(browser, {"live": changed})
                except SessionEnded:
                    return LOGGED_OUT
                except NotFound:
                    return GONE
                except ZugvogelError as error:
                    told = look.language.text(error.cause)
                if told != trouble:
                    trouble = told
                    await _send(browser, {"trouble": told})
                await _next(look, version, made.every_s)
                await asyncio.sleep(shared.rest_s(made))


async def _next(look: Look, version: int, within_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await look.mirror.wait(version)
