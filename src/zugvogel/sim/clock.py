"""A host's clock in a simulated world."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from zugvogel.sim.loop import VirtualLoop


class SimClock:
    """`zugvogel.ports.clock.Clock`. `rate`: its seconds for one of the world's (a clock that runs 10 % fast has
    1.1). `started_at_s`: what it showed at the world's instant `since_s`; boot clocks differ from host to host.
    It goes on while its host hangs, as CLOCK_BOOTTIME does; its sleepers are woken when the host goes on."""

    __slots__ = ("_loop", "_since_s", "_started_at_s", "_step_s", "rate")

    def __init__(
        self, loop: VirtualLoop, *, rate: float = 1.0, started_at_s: float = 0.0, since_s: float = 0.0
    ) -> None:
        self._loop = loop
        self.rate = rate
        self._started_at_s = started_at_s
        self._since_s = since_s

    def monotonic(self) -> float:
        return self._started_at_s + (self._loop.now - self._since_s) * self.rate

    def now_iso(self) -> str:
        shown = self._loop.epoch + timedelta(seconds=self._loop.now * self.rate)
        return shown.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def sleep(self, seconds: float) -> Any:
        """A future in place of a coroutine."""
        return self._loop.sleep(seconds / self.rate if seconds > 0 else 0.0)
