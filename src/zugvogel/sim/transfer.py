"""Memory on its way: rounds while the guest changes it, the last one with the vCPUs stopped."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from zugvogel.domain.migration import MigrationSample

STEP_S = 0.1
SHORT_S = 0.002
DEVICE_BYTES = 1 << 20
ENDED = frozenset({"completed", "failed", "cancelled"})


class Sink(Protocol):
    """Where it goes."""

    bps: float

    def accept(self, count: int) -> int:
        """How many of `count` bytes get through now. Raises ConnectionError when it is broken for good."""

    def finish(self, token: str) -> bool:
        """Everything was sent: True once the other side has it all. Raises ConnectionError."""

    def abort(self) -> None:
        """It ends before it is whole."""


class Guest(Protocol):
    """What the transfer does to the vm. `is_going`: its vCPUs run."""

    @property
    def is_going(self) -> bool: ...
    @property
    def token(self) -> str: ...
    def switch_over(self) -> None:
        """QEMU stops the vCPUs for the last round."""

    def transferred(self, status: str) -> None:
        """It ended as `status`."""

    def passed(self, number: int) -> None:
        """Round `number` begins."""


@dataclass(slots=True)
class Transfer:
    """One stream of memory. `limit_ms`: QEMU stops the vm by itself when so little is left; 0: never."""

    guest: Guest
    sink: Sink
    total_bytes: int
    dirty_bps: float
    limit_ms: float = 300.0
    pace_bps: float = 0.0
    status: str = "active"
    error: str = ""
    sent_bytes: int = 0
    rounds: int = 1
    is_switching: bool = False
    is_cancelled: bool = False
    _left: int = 0
    _dirty: float = 0.0

    async def run(self) -> None:
        self._left = self.total_bytes + DEVICE_BYTES
        try:
            while not self.is_cancelled:
                if self._left <= 0 and self._round_ended() and self.sink.finish(self.guest.token):
                    return self._end("completed")
                await self._step()
        except ConnectionError as error:
            self.error = str(error)
            return self._end("failed")
        return self._end("cancelled")

    async def _step(self) -> None:
        bps = min(self.sink.bps, self.pace_bps or self.sink.bps)
        wait_s = min(STEP_S, max(SHORT_S, self._left / bps))
        await asyncio.sleep(wait_s)
        if self.is_cancelled:
            return
        got = self.sink.accept(min(self._left, int(wait_s * bps) + 1)) if self._left > 0 else 0
        self._left -= got
        self.sent_bytes += got
        if self.guest.is_going:
            self._dirty = min(float(self.total_bytes), self._dirty + wait_s * self.dirty_bps)

    def _round_ended(self) -> bool:
        """True when nothing is left at all: the vCPUs stand still and their last changes were sent."""
        if self.guest.is_going:
            self._left = int(self._dirty) + DEVICE_BYTES
            self._dirty = 0.0
            self.rounds += 1
            self.guest.passed(self.rounds)
            if self.limit_ms and self._left <= self.sink.bps * self.limit_ms / 1000:
                self.is_switching = True
                self.guest.switch_over()
            return False
        if self._dirty > 0:
            self._left, self._dirty = int(self._dirty), 0.0
            return False
        return True

    def _end(self, status: str) -> None:
        self.status = status
        if status != "completed":
            self.sink.abort()
        self.guest.transferred(status)

    def sample(self) -> MigrationSample:
        return MigrationSample(
            status="device" if self.is_switching and self.status == "active" else self.status,
            transferred_bytes=self.sent_bytes,
            remaining_bytes=max(0, self._left),
            total_bytes=self.total_bytes,
            dirty_rate_bps=self.dirty_bps,
            throughput_bps=self.sink.bps,
            rounds=self.rounds,
            expected_downtime_ms=self.limit_ms,
            downtime_ms=self.limit_ms if self.status == "completed" else 0.0,
            error=self.error,
        )
