"""How late the agent's loop runs what is due: heartbeats and beats are as late."""

from __future__ import annotations

import asyncio
from collections import deque

LOOKED_S = 0.5
KEPT = 60
"""Looks that count: those of the last half minute, so that every scrape sees the worst of each."""


class LoopLag:
    """`run` until cancelled."""

    def __init__(self) -> None:
        self._lags: deque[float] = deque(maxlen=KEPT)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOOKED_S
            await asyncio.sleep(LOOKED_S)
            self.seen(loop.time() - due)

    def seen(self, late_s: float) -> None:
        self._lags.append(max(0.0, late_s))

    def largest_s(self) -> float | None:
        """Of the last half minute. None: nothing was measured yet."""
        return max(self._lags, default=None)
