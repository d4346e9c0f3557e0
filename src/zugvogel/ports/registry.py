"""The replicated state: settings, hosts, VM inventory, tasks. Keys are '/'-separated, values JSON."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """`revision` is the key's own modification revision: pass it to `put`/`delete` to change only what
    you read."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """`value` None: the key was deleted."""

    key: str
    value: bytes | None
    revision: int


class Registry(Protocol):
    """Linearizable unless said otherwise. Every method raises `Unreachable` without a majority, except
    reads with `stale_ok=True`, which any reachable member answers from its own data."""

    async def get(self, key: str, *, stale_ok: bool = False) -> Entry | None: ...

    async def list(self, prefix: str, *, stale_ok: bool = False) -> list[Entry]:
        """All entries whose key starts with `prefix`, sorted by key."""

    async def put(self, key: str, value: bytes, *, revision: int | None = None) -> int:
        """Write; returns the new revision. `revision=0`: only create; `revision=n`: only if unchanged
        since. Raises `Conflict` otherwise."""

    async def delete(self, key: str, *, revision: int | None = None) -> bool:
        """True if it was there. `revision` as for `put`."""

    async def put_many(self, changes: dict[str, bytes], *, expect: dict[str, int]) -> None:
        """All or nothing. `expect`: key -> revision (0: must not exist). Raises `Conflict`."""

    async def snapshot(self, prefix: str) -> tuple[builtins.list[Entry], int]:
        """All entries below `prefix` and the revision they are of. Without a majority: of whichever member
        answers, and so perhaps old."""

    def watch(self, prefix: str, *, after: int) -> AsyncIterator[Change]:
        """Every change after revision `after`, in order. Ends, or raises Unreachable, when the stream breaks:
        then take a new snapshot."""
