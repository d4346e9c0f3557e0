"""Serial and graphical console over a WebSocket: bytes both ways (a terminal's; VNC's), nothing added.

The bearer token comes as a header, so a browser page of another origin cannot open one. Close codes:
1000 the vm's console ended (stopped or moved; connect again), 1011 it failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from zugvogel.api.auth import access_of, backend_of, require
from zugvogel.api.errors import answer_for
from zugvogel.domain.base import NAME_PATTERN
from zugvogel.domain.cluster import Access
from zugvogel.errors import NotFound, ZugvogelError
from zugvogel.ports.backend import ByteStream

router = APIRouter()

MAX_REASON = 120
"""Bytes; a WebSocket's close reason holds 123."""
SUBPROTOCOL = "binary"
"""What VNC clients in browsers ask for."""

Opens = Callable[[str], Awaitable[ByteStream]]


@router.websocket("/vms/{name}/console")
async def console(socket: WebSocket, name: str) -> None:
    """The serial one."""
    await _serve(socket, name, backend_of(socket).console)


@router.websocket("/vms/{name}/display")
async def display(socket: WebSocket, name: str) -> None:
    """The graphical one."""
    await _serve(socket, name, backend_of(socket).display)


async def _serve(socket: WebSocket, name: str, opens: Opens) -> None:
    try:
        stream = await _open(socket, name, opens)
    except ZugvogelError as error:
        await socket.send_denial_response(answer_for(error))
        return
    try:
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in socket.scope.get("subprotocols", ()) else None)
        await _join(socket, stream)
    finally:
        await stream.close()


async def _open(socket: WebSocket, name: str, opens: Opens) -> ByteStream:
    require(await access_of(socket), Access.OPERATOR)
    if not re.match(NAME_PATTERN, name):
        raise NotFound(f"there is no vm {name!r}")
    return await opens(name)


async def _join(socket: WebSocket, stream: ByteStream) -> None:
    """Copy both ways until either side ends, then close."""
    tasks = [asyncio.create_task(_outward(socket, stream)), asyncio.create_task(_inward(socket, stream))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    failed = next((r for r in results if isinstance(r, ZugvogelError)), None)
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        if failed:
            await socket.close(1011, failed.cause.encode()[:MAX_REASON].decode(errors="ignore"))
        else:
            await socket.close(1000)


async def _outward(socket: WebSocket, stream: ByteStream) -> None:
    while data := await stream.read():
        await socket.send_bytes(data)


async def _inward(socket: WebSocket, stream: ByteStream) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        data = message.get("bytes") or (message.get("text") or "").encode()
        if data:
            await stream.write(data)
