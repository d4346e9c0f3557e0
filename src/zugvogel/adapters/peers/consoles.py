"""Console streams: a socket of QEMU's on this host, or the WebSocket of the host that runs the vm."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from zugvogel.domain.host import Host
from zugvogel.errors import Refused, Unreachable
from zugvogel.ports.backend import ByteStream, ConsoleKind

CHUNK = 1 << 16
"""Bytes, at most. A picture comes in many of them."""
OPEN_S = 5.0


class SocketStream:
    """A serial or VNC socket of QEMU's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        try:
            return await self._reader.read(CHUNK)
        except OSError:
            return b""

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()


class WebSocketStream:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def read(self) -> bytes:
        try:
            message = await self._connection.recv()
        except ConnectionClosed:
            return b""
        return message.encode() if isinstance(message, str) else message

    async def write(self, data: bytes) -> None:
        await self._connection.send(data)

    async def close(self) -> None:
        await self._connection.close()


class AgentConsoles:
    """Implements `zugvogel.services.operations.consoles.Consoles`. `context` trusts the cluster CA."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._open: set[Path] = set()

    async def local(self, socket: Path, *, is_shared: bool) -> ByteStream:
        """QEMU serves a serial line to one client at a time, VNC to many."""
        if not is_shared and socket in self._open:
            raise Refused("somebody else has this console open", "close the other one (Ctrl-]) first")
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_unix_connection(str(socket), limit=CHUNK), OPEN_S)
        except (OSError, TimeoutError) as error:
            raise Unreachable(f"the console does not open: {error}", "is the vm running?") from error
        stream = SocketStream(reader, writer)
        if is_shared:
            return stream
        self._open.add(socket)
        return _Owned(stream, self._open, socket)

    async def remote(self, host: Host, vm: str, kind: ConsoleKind, ticket: str) -> ByteStream:
        url = f"wss://{host.address}:{host.ports.api}/api/v1/vms/{vm}/{kind}"
        headers = {"Authorization": f"Bearer {ticket}"}
        try:
            connection = await connect(
                url,
                ssl=self._context,
                additional_headers=headers,
                open_timeout=OPEN_S,
                compression=None,
                proxy=None,
            )
        except (OSError, TimeoutError, InvalidHandshake) as error:
            raise Unreachable(f"the {kind} on {host.name} does not open: {error}", "try again") from error
        return WebSocketStream(connection)


class _Owned:
    """Gives the console free again when it is closed."""

    def __init__(self, inner: ByteStream, taken: set[Path], socket: Path) -> None:
        self._inner = inner
        self._taken = taken
        self._socket = socket

    async def read(self) -> bytes:
        return await self._inner.read()

    async def write(self, data: bytes) -> None:
        await self._inner.write(data)

    async def close(self) -> None:
        self._taken.discard(self._socket)
        await self._inner.close()
