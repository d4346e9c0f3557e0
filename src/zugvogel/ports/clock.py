"""Time. Decisions never read a clock; services get one."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds that never jump; comparable only on this host (CLOCK_BOOTTIME)."""

    def now_iso(self) -> str:
        """Wall clock for people: UTC, ISO 8601, milliseconds."""

    async def sleep(self, seconds: float) -> None: ...
