"""All that changes in the cluster, as one stream of server-sent events: what a live page or a follower reads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from zugvogel.api.auth import VIEWER, access_of, require
from zugvogel.api.watch_sources import SOURCES
from zugvogel.api.watching import Watcher, Watching
from zugvogel.domain.cluster import Access
from zugvogel.errors import InvalidInput, Refused, ZugvogelError

log = logging.getLogger(__name__)

router = APIRouter(tags=["watch"])

ALIVE_S = 10.0
"""So often a silent stream says that it lives, and who asks is authenticated anew."""
STUCK_S = 30.0
"""A watcher that takes nothing for so long is cut."""
SLICE_BYTES = 256 * 1024
ALIVE = b": alive\n\n"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
EXAMPLE = 'event: vms\ndata: {"whole":false,"changed":{"web1":{"host":"host2"}},"gone":[]}\n\n'


class _Stream(Response):
    """For OpenAPI alone."""

    media_type = "text/event-stream"


RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "A stream that ends when the bearer ends.", "content": {"text/event-stream": {
        "schema": {"type": "string"}, "example": EXAMPLE,
    }}},
}  # fmt: skip


@router.get("/watch", dependencies=[VIEWER], response_class=_Stream, responses=RESPONSES)
async def watch(
    request: Request,
    topics: Annotated[str, Query(max_length=200, description=f"Of {', '.join(SOURCES)}; empty: all")] = "",
) -> Response:
    """What there is, and then what changes, as it changes. Each message is `event: <topic>` with
    `data: {"whole": bool, "changed": {key: fields}, "gone": [key]}`.

    The first of each topic is `whole` and tells all. Later ones tell of known keys the fields that changed, to be
    merged at the top level, and of new keys all fields. A reader that does not keep up gets a `whole` again, which
    makes void what it knew. After the first round comes `event: ready`. `event: trouble` with
    `{"topic", "cause", "next_step"}` tells that a topic cannot be read now; an empty cause, that it can again.

    Keys are names (hosts, vms, datastores, networks, settings), ids (tasks, events), or the topic itself (cluster,
    ha). The fields are those of the corresponding answers of this API. Of tasks there are those under way and the
    newest 200, of events the newest 200."""
    chosen = _chosen(topics)
    return _Watched(request.app.state.watching, chosen)


def _chosen(topics: str) -> Sequence[str]:
    names = [name.strip() for name in topics.split(",") if name.strip()] or list(SOURCES)
    for name in names:
        if name not in SOURCES:
            raise InvalidInput(f"there is no topic {name!r}", f"topics are: {', '.join(SOURCES)}")
    return list(dict.fromkeys(names))


class _Watched(Response):
    """Runs until the reader goes, is stuck, or may not read any more."""

    def __init__(self, watching: Watching, topics: Sequence[str]) -> None:
        super().__init__(media_type=_Stream.media_type, headers=HEADERS)
        del self.headers["content-length"]
        self._watching = watching
        self._names = topics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._watching.join(self._names) as watcher:
            reader = asyncio.create_task(_gone(receive))
            writer = asyncio.create_task(self._write(HTTPConnection(scope), watcher, send))
            try:
                await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (reader, writer):
                    task.cancel()
                await asyncio.gather(reader, writer, return_exceptions=True)
        if not writer.cancelled() and (error := writer.exception()) is not None:
            raise error

    async def _write(self, connection: HTTPConnection, watcher: Watcher, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        loop = asyncio.get_running_loop()
        checked_at = loop.time()
        with contextlib.suppress(TimeoutError, OSError):
            while True:
                told = await watcher.next(max(0.0, checked_at + ALIVE_S - loop.time()))
                if loop.time() >= checked_at + ALIVE_S:
                    if not await _may_read(connection):
                        break
                    checked_at = loop.time()
                await _send(send, told or ALIVE)
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send(send: Send, told: bytes) -> None:
    """In slices, so that a reader is waited for before all of it lies in memory twice. Raises TimeoutError when it
    takes nothing."""
    for start in range(0, len(told), SLICE_BYTES):
        async with asyncio.timeout(STUCK_S):
            body = told[start : start + SLICE_BYTES]
            await send({"type": "http.response.body", "body": body, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def _may_read(connection: HTTPConnection) -> bool:
    """An agent that cannot tell now goes on: what it could tell before was yes."""
    try:
        require(await access_of(connection), Access.VIEWER)
    except Refused as error:
        log.info("a watcher's stream ends: %s", error.cause)
        return False
    except ZugvogelError as error:
        log.debug("who watches is not known now: %s", error)
    return True
