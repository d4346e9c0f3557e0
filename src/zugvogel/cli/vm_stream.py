"""A vm's console, serial or graphical, as a WebSocket of the API, through the first endpoint that answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from zugvogel import errors
from zugvogel.cli.client import Api
from zugvogel.client.websocket import first_socket

OPEN_S = 5
Kind = Literal["console", "display"]
T = TypeVar("T")


def running_host(api: Api, vm: str) -> str | None:
    """Where the vm runs. Raises NotFound, and Refused when it runs nowhere."""
    found = api.get(f"/vms/{vm}")
    if found["state"] not in ("running", "frozen"):
        raise errors.Refused(f"{vm} is {found['state']}", f"start it: zv vm start {vm}")
    host: str | None = found["host"]
    return host


class VmStream:
    """Bytes both ways, for several threads. The connection itself is used by one thread alone: a TLS connection
    that is read by one thread while another writes loses what is written, now and then."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._connection: ClientConnection | None = None

    def open(self, api: Api, vm: str, kind: Kind) -> None:
        path = f"/vms/{vm}/{kind}"
        opening = first_socket(api.urls, path, trust=api.trust, headers=api.headers, open_s=OPEN_S, what=kind)
        self._connection = self._do(opening)

    def send(self, data: bytes) -> None:
        """Raises ConnectionClosed."""
        assert self._connection is not None
        self._do(self._connection.send(data))

    def __iter__(self) -> Iterator[bytes]:
        """What comes, until the stream ends."""
        assert self._connection is not None
        while True:
            try:
                message = self._do(self._connection.recv())
            except ConnectionClosed:
                return
            yield message if isinstance(message, bytes) else message.encode()

    def close(self) -> None:
        if self._connection is not None:
            self._do(self._connection.close())

    def end(self) -> None:
        """Close it; nothing may be done with it any more."""
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


@contextmanager
def connected(api: Api, vm: str, kind: Kind) -> Iterator[VmStream]:
    """Open until the end of the block. Raises what the agent refuses it with, Unreachable when none answers."""
    stream = VmStream()
    try:
        stream.open(api, vm, kind)
        yield stream
    finally:
        stream.end()
