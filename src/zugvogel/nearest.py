"""Which of several endpoints takes a connection, without waiting long for those whose host has lost its power.

A host without power answers nothing, not even "refused": each would cost a connection's whole timeout. So the
next one is tried after a moment while the first may still answer (as RFC 8305 does for addresses)."""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from urllib.parse import urlsplit

STAGGER_S = 0.25
PATIENCE_S = 3.0


def nearest_first(
    urls: Sequence[str], *, stagger_s: float = STAGGER_S, patience_s: float = PATIENCE_S
) -> list[str]:
    """`urls` with the first one that took a TCP connection in front; as they are where none did, or there is
    one."""
    if len(urls) < 2:
        return list(urls)
    with ExitStack() as stack:
        found = _Race(urls, stack.enter_context(selectors.DefaultSelector()), stack).run(stagger_s, patience_s)
    return list(urls) if found is None else [found, *(url for url in urls if url != found)]


class _Race:
    def __init__(self, urls: Sequence[str], selector: selectors.BaseSelector, stack: ExitStack) -> None:
        self._waiting = list(urls)
        self._selector = selector
        self._stack = stack
        self._under_way = 0

    def run(self, stagger_s: float, patience_s: float) -> str | None:
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline and (self._waiting or self._under_way):
            wait_s = deadline - time.monotonic()
            if self._waiting:
                self._begin(self._waiting.pop(0))
                wait_s = min(stagger_s, wait_s) if self._waiting else wait_s
            if winner := self._connected(wait_s):
                return winner
        return None

    def _begin(self, url: str) -> None:
        parts = urlsplit(url)
        family = socket.AF_INET6 if ":" in (parts.hostname or "") else socket.AF_INET
        connection = self._stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        connection.setblocking(False)
        try:
            code = connection.connect_ex((parts.hostname or "", parts.port or 443))
        except OSError:  # a name that does not resolve: whoever asks that endpoint gets the cause
            return
        if code in {0, errno.EINPROGRESS}:
            self._selector.register(connection, selectors.EVENT_WRITE, url)
            self._under_way += 1

    def _connected(self, wait_s: float) -> str | None:
        for key, _ in self._selector.select(max(0.0, wait_s)):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                return str(key.data)
            self._selector.unregister(connection)
            self._under_way -= 1
        return None
