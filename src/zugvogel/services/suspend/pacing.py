"""Vms are saved one after another on a datastore, each no faster than the beats there bear."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from zugvogel.core import pacing
from zugvogel.ports.hypervisor import Machine

log = logging.getLogger(__name__)

PACE_S = 0.5
WAIT_S = 0.1


class Pacing:
    """`beat_s`: what this host's beat takes on a datastore now, in seconds."""

    def __init__(self, beat_s: Callable[[str], float], detection_time_s: Callable[[], float]) -> None:
        self._beat_s = beat_s
        self._detection_time_s = detection_time_s
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @asynccontextmanager
    async def turn(self, datastore: str, waiting: Callable[[], None]) -> AsyncIterator[None]:
        """The only save of this host on that datastore. `waiting` is called again and again meanwhile and may
        raise to give up."""
        lock = self._turns[datastore]
        while lock.locked():
            waiting()
            await asyncio.sleep(WAIT_S)
        async with lock:
            yield

    def writer(self, machine: Machine, datastore: str, now: float) -> Writer:
        return Writer(self, machine, datastore, now)

    def limit(self, limit_bps: int, written_bps: float, datastore: str) -> int:
        return pacing.next_limit(limit_bps, written_bps, self._beat_s(datastore), self._detection_time_s())


class Writer:
    """One save as it is written. `limit_bps`: 0 where nothing holds it back."""

    def __init__(self, pacing: Pacing, machine: Machine, datastore: str, now: float) -> None:
        self._pacing, self._machine, self._datastore = pacing, machine, datastore
        self._at, self._written = now, 0
        self.limit_bps = 0

    async def look(self, written: int, now: float) -> None:
        """`written` bytes so far, at this host's monotonic `now`. Acts every PACE_S."""
        if now - self._at < PACE_S:
            return
        made = (written - self._written) / (now - self._at)
        limit = self._pacing.limit(self.limit_bps, made, self._datastore)
        self._at, self._written = now, written
        if limit == self.limit_bps:
            return
        how = f"limited to {limit / 1e6:.0f} MB/s" if limit else "no longer limited"
        log.info("%s: %s on %s by the time its beats take", self._machine.vm, how, self._datastore)
        self.limit_bps = limit
        await self._machine.limit_save(limit)
