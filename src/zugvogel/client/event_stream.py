"""Reading server-sent events (text/event-stream): bytes in, (event, parsed JSON) out. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


class EventStream:
    """Lines end with LF or CRLF. Comments, ids and retry times are passed over; an event without data is none."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._event = ""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[tuple[str, Any]]:
        """The events that `chunk` completes. Raises ValueError where their data is no JSON."""
        *ended, rest = chunk.split(b"\n")
        for line in ended:
            self._parts.append(line)
            whole = b"".join(self._parts).removesuffix(b"\r")
            self._parts.clear()
            yield from self._line(whole)
        if rest:
            self._parts.append(rest)

    def _line(self, line: bytes) -> Iterator[tuple[str, Any]]:
        if not line:
            event, data = self._event or "message", self._data
            self._event, self._data = "", []
            if data:
                yield event, json.loads(b"\n".join(data))
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            self._event = value.decode()
        elif field == b"data":
            self._data.append(value)
