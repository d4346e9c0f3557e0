"""The source's side of a streamed save: rounds into a growing file while the vm runs, until little is left."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from zugvogel.core import streaming
from zugvogel.domain.memory import ResumeAnswer
from zugvogel.domain.migration import MigrationSample, Round
from zugvogel.errors import ProcedureFailed, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.hypervisor import Machine
from zugvogel.ports.storage import MemoryWriter

log = logging.getLogger(__name__)

ASK_S = 0.05
AHEAD_BYTES = 64 << 20
"""The file grows no further beyond what the target has loaded."""
CLOSE_BYTES = 8 << 20
"""So near must the target be before the vm is stopped: what it still has to load counts as outage. QEMU may stop
the vm by itself at the end of a round, so the target is let come near before each of them."""
BEHIND_S = 20.0
"""A target that has loaded nothing of what is there for this long is not waited for."""
HELD_S = 1.0
"""Towards the end of a round the file is held back no longer than this by a target that stands still: QEMU, and
the guest with it, may be waiting for the file."""
NO_CEILING = 1 << 62
RATE_BYTES = 16 << 20
"""Shorter rounds say little about how fast it goes."""

Ask = Callable[[], Awaitable[ResumeAnswer | None]]


@dataclass(slots=True)
class LiveRounds:
    """`ask`: how far the target is, and whether it gave up; None where nobody loads along. `most_bytes`: how long
    the file may grow."""

    machine: Machine
    clock: Clock
    writer: MemoryWriter
    ask: Ask | None
    most_bytes: int
    rounds: list[Round] = field(default_factory=list)
    why: str = ""
    """Why it did not come down to a short last round; empty where it did."""
    sample: MigrationSample = field(default_factory=lambda: MigrationSample(status="none"))
    bps: float = 0.0
    _seen: int = 0
    _round_at: float = 0.0
    _round_bytes: int = 0
    _refusal: str = ""
    _loaded: int = 0
    _loaded_at: float = 0.0

    def begin(self) -> None:
        self._round_at = self._loaded_at = self.clock.monotonic()
        if self.ask is not None:
            self.writer.ceiling = AHEAD_BYTES

    async def look(self) -> bool:
        """True when the vm is to be stopped, or has been by QEMU. Raises when it cannot go on."""
        self.sample = sample = await self.machine.migration()
        self._follow(sample, self.clock.monotonic())
        if self._refusal:
            raise ProcedureFailed(self._refusal, "try again, or choose another host")
        if sample.status == "completed":
            return True
        if not self.rounds:
            return False
        if not streaming.is_small(sample.remaining_bytes, self.bps):
            self.why = streaming.why_no_further(self.rounds, self.writer.file_bytes, self.most_bytes)
            return bool(self.why)
        if self.ask is None or self.writer.file_bytes - self._loaded <= CLOSE_BYTES:
            return True
        if self.writer.file_bytes > self.most_bytes:
            self.why = "the target loads more slowly than the guest changes its memory"
        return bool(self.why)

    async def keep_asking(self) -> None:
        """How far the target is, until cancelled. Beside `look`: at the end of a round QEMU answers nobody while
        the file may not grow."""
        while self.ask is not None:
            await self.ask_target()
            await self.clock.sleep(ASK_S)

    async def ask_target(self) -> None:
        try:
            answer = await self.ask() if self.ask is not None else None
        except ZugvogelError as error:
            log.info("%s: the target's answer was not read: %s", self.machine.vm, error)
            answer = None
        now = self.clock.monotonic()
        if answer is not None and answer.why:
            self._refusal = f"the target gave up: {answer.why}"
        if answer is not None and (
            answer.loaded_bytes != self._loaded or self.writer.file_bytes <= answer.loaded_bytes
        ):
            self._loaded, self._loaded_at = answer.loaded_bytes, now
        elif now - self._loaded_at > BEHIND_S:
            self._refusal = f"the target has loaded nothing for {BEHIND_S:.0f} s"
        ahead = max(CLOSE_BYTES, min(AHEAD_BYTES, self.sample.remaining_bytes))
        is_silent = now - self._loaded_at > HELD_S and self.sample.remaining_bytes <= AHEAD_BYTES
        self.writer.ceiling = NO_CEILING if is_silent or self._refusal else self._loaded + ahead

    @property
    def is_held(self) -> bool:
        """The file does not grow because the target has to catch up first."""
        return self.writer.file_bytes >= self.writer.ceiling

    def end(self) -> None:
        """The vm stands still: nothing waits for the target any more."""
        self.writer.ceiling = NO_CEILING

    def _follow(self, sample: MigrationSample, now: float) -> None:
        if sample.rounds <= max(1, self._seen):
            return
        self._seen = sample.rounds
        took, sent = max(1e-3, now - self._round_at), sample.transferred_bytes - self._round_bytes
        if sent > RATE_BYTES or not self.bps:
            self.bps = sent / took
        self.rounds.append(
            Round(
                number=len(self.rounds) + 1,
                transferred_bytes=sent,
                remaining_bytes=sample.remaining_bytes,
                dirty_rate_bps=sample.dirty_rate_bps,
                throughput_bps=sent / took,
                expected_downtime_ms=1000 * sample.remaining_bytes / max(1.0, self.bps),
                duration_s=took,
            )
        )
        self._round_at, self._round_bytes = now, sample.transferred_bytes
