"""QEMU's stream of a live migration on the source: parameters, rounds, the ladder of downtime limits,
the switchover, cancel; and the report that is made of what was seen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from zugvogel.core.convergence import first_limit_ms, next_limit_ms
from zugvogel.core.source_machine import Event
from zugvogel.domain.migration import (
    IncomingReady,
    MigrationProgress,
    MigrationReport,
    MigrationSample,
    NetworkCheck,
    Phase,
    Round,
)
from zugvogel.errors import ProcedureFailed, Unreachable, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.hypervisor import Machine, MachineEvent, MachineStatus

log = logging.getLogger(__name__)

POLL_S = 0.25
FIRST_POLL_S = 0.02
"""Until the first byte was seen, whose time is told."""
TARGET_CHECK_S = 1.0
TARGET_SILENCE_S = 4.0
STALL_S = 6.0
"""No byte moved for this long while rounds run: the link is gone."""
NO_LIMIT = 1 << 40


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """`bandwidth_bps` bytes/s, 0: no limit."""

    channels: int = 4
    is_encrypted: bool = True
    bandwidth_bps: int = 0
    max_downtime_ms: int = 300
    timeout_s: int = 600


@dataclass(slots=True)
class _Watch:
    """What decides when a stream has gone wrong; seconds on this host's clock."""

    moved_at: float
    moved_bytes: int = 0
    target_checked_at: float = 0.0
    target_fine_at: float = 0.0


@dataclass(slots=True)
class Stream:
    machine: Machine
    clock: Clock
    settings: StreamSettings
    requested_at: float
    reason: str = ""
    stop_at: float = 0.0
    first_byte_at: float = 0.0
    started_at: float = 0.0
    limit_ms: int = 0
    channels: int = 1
    rounds: list[Round] = field(default_factory=list)
    last: MigrationSample = field(default_factory=lambda: MigrationSample(status="none"))
    _events: asyncio.Queue[MachineEvent] = field(default_factory=asyncio.Queue)
    _pump: asyncio.Task[None] | None = None
    _round_began: float = 0.0
    _round_bytes: int = 0

    async def start(self, ready: IncomingReady, target: str) -> None:
        """Set both sides' knobs (the target's are set) and order the stream."""
        s = self.settings
        self.limit_ms = first_limit_ms(s.max_downtime_ms)
        self.channels = s.channels if "multifd" in ready.capabilities else 1
        parameters: dict[str, Any] = {
            "max-bandwidth": s.bandwidth_bps or NO_LIMIT,
            "downtime-limit": self.limit_ms,
            "tls-creds": "tls-client0" if s.is_encrypted else "",
            "tls-hostname": target if s.is_encrypted else "",
        }
        if "multifd" in ready.capabilities:
            parameters["multifd-channels"] = s.channels
        await self.machine.forget_save()
        offered = await self.machine.migration_capabilities()
        known = sorted({"events", "return-path", "multifd"} & offered)
        capabilities = {name: name in ready.capabilities for name in known}
        await self.machine.set_migration(capabilities, parameters)
        self._listen()
        self.started_at = self._round_began = self.clock.monotonic()
        await self.machine.migrate_to(ready.address, ready.port)

    def _listen(self) -> None:
        if self._pump is None:
            self._pump = asyncio.create_task(self._pump_events(self.machine.events()))

    async def _pump_events(self, events: AsyncIterator[MachineEvent]) -> None:
        async for event in events:
            self._events.put_nowait(event)

    def close(self) -> None:
        if self._pump is not None:
            self._pump.cancel()

    # waiting -------------------------------------------------------------------------------------

    async def next_event(
        self,
        cancel: asyncio.Event,
        target_is_fine: Callable[[], Awaitable[str]],
        progress: Callable[..., None],
    ) -> Event:
        """Until QEMU switched over, failed, died, or somebody wants it called off."""
        now = self.clock.monotonic()
        watch = _Watch(moved_at=now, target_checked_at=now, target_fine_at=now)
        check: asyncio.Task[str] | None = None
        try:
            while True:
                event = await self._one_event()
                outcome = self._judge(event) if event is not None else None
                if outcome is not None:
                    return outcome
                if event is not None and event.name not in {"MIGRATION_PASS", "MIGRATION"}:
                    continue
                if not await self._sampled(event, progress):
                    return Event.SOURCE_DIED
                check = self._look_at_target(watch, check, target_is_fine)
                if not self.stop_at and self._must_give_up(watch, cancel):
                    return Event.CANCEL_REQUESTED if cancel.is_set() else Event.FAILED
                if self.stop_at and self._must_give_up_blackout(watch):
                    return Event.FAILED
        finally:
            if check is not None:
                check.cancel()

    async def _one_event(self) -> MachineEvent | None:
        """The next event, or None when it is time to look at the figures."""
        try:
            return await asyncio.wait_for(self._events.get(), POLL_S if self.first_byte_at else FIRST_POLL_S)
        except TimeoutError:
            return None

    def _judge(self, event: MachineEvent) -> Event | None:
        status = str(event.data.get("status", "")) if event.name == "MIGRATION" else ""
        if event.name == "EXITED":
            return Event.SOURCE_DIED
        if event.name == "STOP":
            self.stop_at = event.at
        elif event.name == "RESUME":
            self.stop_at = 0.0
        elif status == "completed":
            return Event.SOURCE_SWITCHED
        elif status in {"failed", "cancelled"}:
            self.reason = self.reason or "QEMU gave the stream up"
            return Event.FAILED
        return None

    async def has_died(self) -> bool:
        """Only the end of the process counts: a QEMU that does not answer may run on."""
        for _ in range(20):
            if not self.machine.is_alive:
                return True
            await self.clock.sleep(0.05)
        return False

    async def _sampled(self, event: MachineEvent | None, progress: Callable[..., None]) -> bool:
        """False when QEMU is dead. One that is only slow is asked again."""
        try:
            await self._sample(event, progress)
        except Unreachable as error:
            if await self.has_died():
                return False
            log.warning("%s: %s", self.machine.vm, error)
        return True

    async def _sample(self, event: MachineEvent | None, progress: Callable[..., None]) -> None:
        if self.stop_at:
            return
        self.last = sample = await self.machine.migration()
        if sample.transferred_bytes and not self.first_byte_at:
            self.first_byte_at = self.clock.monotonic()
        is_pass = event is not None and event.name == "MIGRATION_PASS" and int(event.data.get("pass", 1)) > 1
        if event is not None and is_pass and sample.status == "active":  # later figures hold the next round too
            await self._round_ended(sample, int(event.data["pass"]) - 1)
        if sample.status == "failed":
            self.reason = self.reason or sample.error
        progress("precopy", self._sentence(sample), self._fraction(sample), self.progress().model_dump())

    async def _round_ended(self, sample: MigrationSample, number: int) -> None:
        now = self.clock.monotonic()
        took = max(1e-6, now - self._round_began)
        sent = sample.transferred_bytes - self._round_bytes
        throughput = sent / took
        self.rounds.append(
            Round(
                number=number,
                transferred_bytes=sent,
                remaining_bytes=sample.remaining_bytes,
                dirty_rate_bps=sample.dirty_rate_bps,
                throughput_bps=throughput,
                expected_downtime_ms=sample.expected_downtime_ms,
                duration_s=took,
            )
        )
        self._round_began, self._round_bytes = now, sample.transferred_bytes
        limit = next_limit_ms(self.limit_ms, self.rounds, self.settings.max_downtime_ms)
        if limit != self.limit_ms:
            self.limit_ms = limit
            await self.machine.set_migration({}, {"downtime-limit": limit})

    def _look_at_target(
        self, watch: _Watch, check: asyncio.Task[str] | None, target_is_fine: Callable[[], Awaitable[str]]
    ) -> asyncio.Task[str] | None:
        now = self.clock.monotonic()
        if self.last.transferred_bytes > watch.moved_bytes:
            watch.moved_at, watch.moved_bytes = now, self.last.transferred_bytes
        if check is not None:
            if not check.done():
                return check
            why = check.result()
            if not why:
                watch.target_fine_at = now
            elif now - watch.target_fine_at > TARGET_SILENCE_S or "does not answer" not in why:
                self.reason = self.reason or why
            return None
        if now - watch.target_checked_at >= TARGET_CHECK_S:
            watch.target_checked_at = now
            return asyncio.ensure_future(target_is_fine())
        return None

    def _must_give_up(self, watch: _Watch, cancel: asyncio.Event) -> bool:
        now = self.clock.monotonic()
        if cancel.is_set():
            return True
        if now - self.started_at > self.settings.timeout_s:
            self.reason = (
                f"it did not converge within {self.settings.timeout_s} s: the guest dirties "
                f"{self.last.dirty_rate_bps / 1e6:.0f} MB/s, the link takes "
                f"{self.last.throughput_bps / 1e6:.0f} MB/s; allow a longer switchover with --max-downtime"
            )
        elif now - watch.moved_at > STALL_S:
            self.reason = self.reason or f"no byte reached the target for {STALL_S:.0f} s"
        return bool(self.reason)

    def _must_give_up_blackout(self, watch: _Watch) -> bool:
        """Stopped, but QEMU does not get the rest across: call it off, QEMU lets the source go on."""
        if self.clock.monotonic() - self.stop_at > STALL_S + self.limit_ms / 1000:
            self.reason = self.reason or "the switchover did not get through"
            return True
        return False

    # cancelling ------------------------------------------------------------------------------------

    async def cancel(self) -> Event:
        """Call the stream off. QEMU may have completed meanwhile: then that is the answer. Asked again until
        QEMU is in a state that lasts, or dead."""
        self._listen()
        is_ordered = False
        while True:
            try:
                if not is_ordered:
                    await self.machine.cancel_migration()
                    is_ordered = True
                if (settled := await self._settled()) is not None:
                    return settled
            except ZugvogelError as error:
                if await self.has_died():
                    return Event.SOURCE_DIED
                log.warning("%s: the stream is not called off yet: %s", self.machine.vm, error)
            await self.clock.sleep(0.05)

    async def _settled(self) -> Event | None:
        """What QEMU has come to, if that lasts; a source that was paused by the switchover goes on."""
        sample = await self.machine.migration()
        status = await self.machine.status()
        if sample.status == "completed" or status is MachineStatus.POSTMIGRATE:
            return Event.SOURCE_SWITCHED
        if sample.status not in {"none", "cancelled", "failed"} or status is MachineStatus.FINISH_MIGRATE:
            return None
        if status is MachineStatus.PAUSED:
            await self.machine.cont()
            return None
        self.stop_at = 0.0
        return Event.SOURCE_RUNS

    async def final_figures(self) -> None:
        """QEMU's own account of a completed stream, before it quits; the last round is what was left."""
        try:
            self.last = await self.machine.migration()
        except (Unreachable, ProcedureFailed) as error:
            log.warning("%s: no final figures: %s", self.machine.vm, error)
            return
        took = max(1e-6, self.clock.monotonic() - self._round_began)
        sent = max(0, self.last.transferred_bytes - self._round_bytes)
        self.rounds.append(
            Round(
                number=len(self.rounds) + 1,
                transferred_bytes=sent,
                remaining_bytes=0,
                dirty_rate_bps=self.last.dirty_rate_bps,
                throughput_bps=sent / took,
                expected_downtime_ms=self.last.downtime_ms,
                duration_s=took,
            )
        )

    # telling ---------------------------------------------------------------------------------------

    def _fraction(self, sample: MigrationSample) -> float | None:
        if not sample.total_bytes:
            return None
        return max(0.0, min(1.0, 1.0 - sample.remaining_bytes / sample.total_bytes))

    def _sentence(self, sample: MigrationSample) -> str:
        return (
            f"round {max(1, sample.rounds)}: {sample.transferred_bytes / 1e6:.0f} MB sent, "
            f"{sample.remaining_bytes / 1e6:.0f} MB left"
        )

    def progress(self) -> MigrationProgress:
        s = self.last
        return MigrationProgress(
            phase="precopy",
            rounds=tuple(self.rounds),
            transferred_bytes=s.transferred_bytes,
            remaining_bytes=s.remaining_bytes,
            total_bytes=s.total_bytes,
            throughput_bps=s.throughput_bps,
            dirty_rate_bps=s.dirty_rate_bps,
            expected_downtime_ms=s.expected_downtime_ms,
            downtime_limit_ms=self.limit_ms,
            elapsed_s=self.clock.monotonic() - self.requested_at,
        )

    def report(
        self,
        *,
        vm: str,
        source: str,
        target: str,
        result: str,
        why: str,
        marks: Sequence[tuple[str, float]],
        stop_at: float,
        resume_at: float,
        network: tuple[NetworkCheck, ...],
        memory_bytes: int,
    ) -> MigrationReport:
        """`marks`: (phase, when it began); the last ends the one before."""
        began = self.requested_at
        phases = tuple(
            Phase(name=name, start_s=at - began, duration_s=following - at)
            for (name, at), (_, following) in pairwise(marks)
        )
        is_moved = result == "moved"
        end = resume_at if is_moved and resume_at else self.clock.monotonic()
        return MigrationReport.model_validate(
            {
                "vm": vm,
                "source": source,
                "target": target,
                "result": result,
                "why": why,
                "total_s": end - began,
                "downtime_ms": max(0.0, resume_at - stop_at) * 1000 if is_moved and stop_at else 0.0,
                "qemu_downtime_ms": self.last.downtime_ms,
                "transferred_bytes": self.last.transferred_bytes,
                "request_to_first_byte_s": max(0.0, self.first_byte_at - began),
                "memory_bytes": memory_bytes,
                "channels": self.channels,
                "is_encrypted": self.settings.is_encrypted,
                "rounds": self.rounds,
                "phases": phases,
                "network": network,
            }
        )
