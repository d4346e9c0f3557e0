"""The registry in memory: the contract of `zugvogel.ports.registry`, with a switch to take it away."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator

from zugvogel.errors import Conflict, Unreachable
from zugvogel.ports.registry import Change, Entry


class MemoryRegistry:
    def __init__(self) -> None:
        self.is_reachable = True
        self.writes: list[str] = []
        self._entries: dict[str, Entry] = {}
        self._revision = 0
        self._watchers: list[tuple[str, asyncio.Queue[Change]]] = []

    def _check(self) -> None:
        if not self.is_reachable:
            raise Unreachable("the registry has no majority")

    async def get(self, key: str, *, stale_ok: bool = False) -> Entry | None:
        self._check()
        return self._entries.get(key)

    async def list(self, prefix: str, *, stale_ok: bool = False) -> list[Entry]:
        self._check()
        return [self._entries[k] for k in sorted(self._entries) if k.startswith(prefix)]

    async def put(self, key: str, value: bytes, *, revision: int | None = None) -> int:
        self._check()
        self._expect(key, revision)
        self._write(key, value)
        return self._revision

    async def delete(self, key: str, *, revision: int | None = None) -> bool:
        self._check()
        self._expect(key, revision)
        was_there = key in self._entries
        if was_there:
            self._write(key, None)
        return was_there

    async def put_many(self, changes: dict[str, bytes], *, expect: dict[str, int]) -> None:
        self._check()
        for key, revision in expect.items():
            self._expect(key, revision)
        for key, value in changes.items():
            self._write(key, value)

    async def snapshot(self, prefix: str) -> tuple[builtins.list[Entry], int]:
        return await self.list(prefix), self._revision

    def watch(self, prefix: str, *, after: int) -> AsyncIterator[Change]:
        queue: asyncio.Queue[Change] = asyncio.Queue()
        self._watchers.append((prefix, queue))

        async def changes() -> AsyncIterator[Change]:
            while True:
                yield await queue.get()

        return changes()

    def _expect(self, key: str, revision: int | None) -> None:
        entry = self._entries.get(key)
        if revision is not None and (entry.revision if entry else 0) != revision:
            raise Conflict(f"{key} was changed")

    def _write(self, key: str, value: bytes | None) -> None:
        self._revision += 1
        self.writes.append(key)
        if value is None:
            del self._entries[key]
        else:
            self._entries[key] = Entry(key, value, self._revision)
        for prefix, queue in self._watchers:
            if key.startswith(prefix):
                queue.put_nowait(Change(key, value, self._revision))
