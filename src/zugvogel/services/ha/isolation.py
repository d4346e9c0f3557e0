"""This host's judgement of itself: cut off from all agents and from all isolation addresses (H2).

While agents are heard the addresses are asked seldom, only to learn which of them answer at all. When nobody has
been heard for a few intervals, all are asked each interval.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from zugvogel.core import isolation
from zugvogel.core.isolation import IsolationEvidence
from zugvogel.domain.host import Host
from zugvogel.domain.task import Severity
from zugvogel.ports.clock import Clock
from zugvogel.ports.pinger import Pinger
from zugvogel.services.events import EventLog
from zugvogel.services.heartbeats import HEARD_INTERVALS, HeartbeatService
from zugvogel.services.ticking import Gaps

NEVER = float("-inf")
LEARN_S = 30.0
"""How often the addresses are asked while agents are heard."""
PING_PART = 0.8
"""Of an interval: how long an address may take to answer."""


class _Isolated(NamedTuple):
    """`quiet_since`: any later sign ends it."""

    at: float
    quiet_since: float


class Isolation:
    """`addresses`: das.isolationaddress1..10 that are set. `uses_gateway`: das.usedefaultisolationaddress.
    `tick` belongs to each interval and returns at once; pings run beside it."""

    def __init__(
        self,
        host: str,
        clock: Clock,
        *,
        pinger: Pinger,
        heartbeats: HeartbeatService,
        events: EventLog,
        hosts: Callable[[], list[Host]],
        interval_s: Callable[[], float],
        detection_time_ms: Callable[[], int],
        addresses: Callable[[], Sequence[str]],
        uses_gateway: Callable[[], bool],
    ) -> None:
        self._host = host
        self._clock = clock
        self._pinger = pinger
        self._heartbeats = heartbeats
        self._events = events
        self._hosts = hosts
        self._detection_time_ms = detection_time_ms
        self._addresses = addresses
        self._uses_gateway = uses_gateway
        self._gateway: str | None = None
        """The last one seen: an interface that goes down takes its route with it."""
        self._asked: tuple[str, ...] = ()
        self._asked_at: float | None = None
        self._answered_at: dict[str, float] = {}
        self._last_answer_at = NEVER
        self._unanswered = (NEVER, 0)
        """Rounds of pings that nobody answered, and the last sign from which they count."""
        self._pinging: asyncio.Task[None] | None = None
        self._running_since = clock.monotonic()
        self._gaps = Gaps(clock, interval_s, HEARD_INTERVALS)
        self._isolated: _Isolated | None = None
        self._why = ""

    def close(self) -> None:
        """Pings under way are cut off."""
        if self._pinging is not None:
            self._pinging.cancel()

    async def tick(self) -> None:
        is_late = self._gaps.tick()
        now, interval_s = self._gaps.ticked_at, self._gaps.before_s
        if is_late:
            self._running_since = now
        if self._isolated is not None and not self.is_isolated():
            self._end(self._isolated, now)
        is_silent = now - self._agents_silent_since() >= HEARD_INTERVALS * interval_s
        if is_silent or self._asked_at is None or now - self._asked_at >= LEARN_S:
            self._ask(now, PING_PART * interval_s)
        if is_silent and self._isolated is None:
            self._judge(now)

    def is_isolated(self) -> bool:
        """False from the very instant of a heartbeat or an answer on, not only from the next tick; and while this
        host's own ticks are late."""
        if self._isolated is None or self._isolated.quiet_since != self._quiet_since():
            return False
        return not self._gaps.is_late()

    def why(self) -> str:
        """Of the judgement that holds now, in a sentence."""
        if self.is_isolated():
            return self._why
        return isolation.judge(self._evidence(self._clock.monotonic())).why

    # judging -----------------------------------------------------------------------------------------

    def _agents_silent_since(self) -> float:
        """Silence before this host ran, or while it hung, proves nothing."""
        heard_at = self._heartbeats.last_heard_at()
        if heard_at is not None and heard_at >= self._running_since:
            return max(heard_at, self._heartbeats.listening_since)
        return max(self._running_since, self._heartbeats.listening_since)

    def _quiet_since(self) -> float:
        return max(self._agents_silent_since(), self._last_answer_at)

    def _evidence(self, now: float) -> IsolationEvidence:
        quiet_since = self._quiet_since()
        counted_from, rounds = self._unanswered
        return IsolationEvidence(
            now=now,
            has_others=self._has_others(),
            quiet_since=quiet_since,
            detection_time_s=self._detection_time_ms() / 1000,
            answered_at={a: self._answered_at[a] for a in self._asked if a in self._answered_at},
            unanswered_rounds=rounds if counted_from == quiet_since else 0,
        )

    def _judge(self, now: float) -> None:
        evidence = self._evidence(now)
        judgement = isolation.judge(evidence)
        if not judgement.is_isolated:
            return
        self._why = judgement.why
        self._isolated = _Isolated(now, evidence.quiet_since)
        self._events.emit(
            "host.isolated",
            self._host,
            f"{self._host} is isolated: {judgement.why}",
            Severity.WARNING,
            evidence={
                "quiet_s": round(now - evidence.quiet_since, 1),
                "detection_time_s": evidence.detection_time_s,
                "asked": list(self._asked),
                "ever_answered": sorted(evidence.answered_at),
                "unanswered_rounds": evidence.unanswered_rounds,
            },
        )

    def _end(self, ended: _Isolated, now: float) -> None:
        self._isolated = None
        heard_at, sign_at = self._heartbeats.last_heard_at(), self._quiet_since()
        if heard_at == sign_at:
            sign = "an agent was heard"
        elif self._last_answer_at == sign_at:
            sign = "an isolation address answered"
        else:
            sign = "its agent did not run for a while, so that the count begins anew"
        self._events.emit(
            "host.isolation-ended",
            self._host,
            f"{self._host} is not isolated any more: {sign}",
            evidence={"sign": sign, "isolated_s": round(now - ended.at, 1)},
        )

    def _has_others(self) -> bool:
        return any(host.name != self._host for host in self._hosts())

    # pings -------------------------------------------------------------------------------------------

    def _ask(self, now: float, timeout_s: float) -> None:
        """A round of pings, unless one is still under way."""
        if (self._pinging is not None and not self._pinging.done()) or not self._has_others():
            return
        self._asked_at = now
        if not self._uses_gateway():
            self._gateway = None
        else:
            self._gateway = self._pinger.default_gateway() or self._gateway
        self._asked = isolation.addresses(self._gateway, self._addresses())
        if self._asked:
            self._pinging = asyncio.create_task(self._ping_all(self._asked, now, timeout_s), name="pings")

    async def _ping_all(self, asked: tuple[str, ...], started_at: float, timeout_s: float) -> None:
        await asyncio.gather(*(self._ping(address, timeout_s) for address in asked))
        quiet_since = self._quiet_since()
        counted_from, rounds = self._unanswered
        rounds = rounds if counted_from == quiet_since else 0
        self._unanswered = (quiet_since, rounds + (started_at >= quiet_since))

    async def _ping(self, address: str, timeout_s: float) -> None:
        if await self._pinger.ping(address, timeout_s):
            self._answered_at[address] = self._last_answer_at = self._clock.monotonic()
