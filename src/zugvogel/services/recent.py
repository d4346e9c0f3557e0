"""The newest records of a kind (tasks, events) as those want them who watch: at hand, and cheap to ask for.

This host's own are in memory. The others' come from the registry, which is read at most once a second; after the
first time only what is new and what was not final yet, since thousands of them are megabytes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from zugvogel.domain.base import Model
from zugvogel.errors import Unreachable
from zugvogel.ports.clock import Clock
from zugvogel.ports.registry import Entry, Registry
from zugvogel.services.sortable_id import TIME_SIGNS, SortableIds, buckets, encode

log = logging.getLogger(__name__)

M = TypeVar("M", bound=Model)
Known: TypeAlias = dict[str, tuple[int, M]]
"""id -> its revision in the registry, and the record."""

SHOWN = 200
READ_EVERY_S = 1.0
FORGOTTEN_S = 60.0
"""Not asked for so long, everything is read anew."""
LATE_MS = 60_000
"""So much later than its id says, a record may appear in the registry."""
WHOLE_S, MORE_S = 5.0, 1.0
"""A registry that does not answer holds this host's own records up no longer."""
PORTION = 50
"""So many are parsed before others get their turn."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[M]):
    """`prefix` of its keys in the registry; what follows it is the id. `own`: this host's, by id. `is_final`: it
    will not change any more; those that will are told of however old they are."""

    prefix: str
    parse: Callable[[Entry], M | None]
    own: Callable[[], dict[str, M]]
    is_final: Callable[[M], bool] = lambda record: True
    are_all_final: bool = False


class Recent(Generic[M]):
    def __init__(self, kind: Kind[M], registry: Registry, clock: Clock) -> None:
        self._kind = kind
        self._registry = registry
        self._clock = clock
        self._ids = SortableIds(clock)
        self._known: Known[M] = {}
        self._tried_at = -FORGOTTEN_S
        self._read_at: float | None = None
        self._read_to = ""
        self._reading = asyncio.Lock()

    async def newest(self) -> list[M]:
        """Oldest first: the newest 200, and all that are not final. The same objects while they did not change.
        Without the registry: this host's, and the others' as last seen."""
        async with self._reading:
            now = self._clock.monotonic()
            if now - self._tried_at >= READ_EVERY_S:
                self._tried_at = now
                await self._try_to_read(is_whole=self._read_at is None or now - self._read_at >= FORGOTTEN_S)
        found = {record_id: record for record_id, (_, record) in self._known.items()} | self._kind.own()
        return [found[i] for i in self._wanted(found)]

    def _wanted(self, found: dict[str, M]) -> list[str]:
        ids = sorted(found)
        return [i for i in ids[:-SHOWN] if not self._kind.is_final(found[i])] + ids[-SHOWN:]

    async def _try_to_read(self, *, is_whole: bool) -> None:
        try:
            async with asyncio.timeout(WHOLE_S if is_whole else MORE_S):
                await self._read(is_whole=is_whole)
        except (Unreachable, TimeoutError) as error:
            log.debug("%s of other hosts as last seen: %r", self._kind.prefix, error)

    async def _read(self, *, is_whole: bool) -> None:
        started, now_ms = self._clock.monotonic(), self._ids.now_ms()
        known = {} if is_whole else self._known
        entries = await self._listed("" if is_whole else self._read_to, now_ms)
        kept = known | await self._parsed(entries, known)
        for record_id, (_, record) in known.items():
            if record_id not in entries and not self._kind.is_final(record):
                await self._look_again(record_id, kept)
        self._known = {i: kept[i] for i in self._wanted({i: record for i, (_, record) in kept.items()})}
        self._read_at = started
        self._read_to = encode(max(0, now_ms - LATE_MS), TIME_SIGNS)

    async def _listed(self, after: str, now_ms: int) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for bucket in buckets(after, now_ms):
            for entry in await self._registry.list(self._kind.prefix + bucket, stale_ok=True):
                found[entry.key.removeprefix(self._kind.prefix)] = entry
        if self._kind.are_all_final:
            return {i: found[i] for i in sorted(found)[-SHOWN:]}
        return found

    async def _parsed(self, entries: dict[str, Entry], known: Known[M]) -> Known[M]:
        found: Known[M] = {}
        changed = [i for i, e in entries.items() if i not in known or known[i][0] != e.revision]
        for number, record_id in enumerate(changed, start=1):
            entry = entries[record_id]
            record = self._kind.parse(entry)
            if record is not None:
                found[record_id] = entry.revision, record
            if number % PORTION == 0:
                await asyncio.sleep(0)
        return found

    async def _look_again(self, record_id: str, kept: Known[M]) -> None:
        """An old one that was not final when it was seen last."""
        entry = await self._registry.get(self._kind.prefix + record_id, stale_ok=True)
        record = self._kind.parse(entry) if entry is not None else None
        if entry is None or record is None:
            del kept[record_id]
        elif entry.revision != kept[record_id][0]:
            kept[record_id] = entry.revision, record
