"""The state of all hosts: judged on a primary, fetched from one on a secondary.

A primary judges from what it hears and reads itself, without etcd and without asking anybody, so the view
stays true with every majority gone. A secondary hears no heartbeats and asks the primaries in the order of
their addition.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from zugvogel.core.verdicts import APART, FROZEN_AFTER, BeatEvidence, HostEvidence, Judgement, judge
from zugvogel.domain.host import Host, HostReport, HostStatus, Role, Verdict
from zugvogel.errors import NotFound, Refused, Unreachable, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.peers import Handler, Peers
from zugvogel.services.beats import BeatService, SeenBeat
from zugvogel.services.heartbeats import Heard, HeartbeatService, Load

CACHED_S = 1.0
ASK_TIMEOUT_S = 2.0
AVOIDED_S = 10.0
"""A primary that did not answer is asked last for so long."""


class ClusterView:
    def __init__(
        self,
        host: str,
        clock: Clock,
        *,
        hosts: Callable[[], list[Host]],
        heartbeats: HeartbeatService,
        beats: BeatService,
        peers: Peers,
        report: Callable[[], HostReport | None],
        load: Callable[[], Load],
        detection_time_ms: Callable[[], int],
    ) -> None:
        self._host = host
        self._clock = clock
        self._hosts = hosts
        self._heartbeats = heartbeats
        self._beats = beats
        self._peers = peers
        self._report = report
        self._load = load
        self._detection_time_ms = detection_time_ms
        self._fetched: list[HostStatus] = []
        self._fetched_at: float | None = None
        self._avoided_until: dict[str, float] = {}
        self._fetching = asyncio.Lock()

    async def statuses(self) -> list[HostStatus]:
        """All hosts in the order of their addition. Raises `Unreachable` on a secondary that finds no
        primary: nothing older than a second is ever passed off as now."""
        if self._is_primary():
            return self.judged()
        async with self._fetching:
            now = self._clock.monotonic()
            if self._fetched_at is None or now - self._fetched_at > CACHED_S:
                self._fetched = await self._fetch()
                self._fetched_at = self._clock.monotonic()
            return list(self._fetched)

    async def status(self, name: str) -> HostStatus:
        """Raises `NotFound`."""
        for status in await self.statuses():
            if status.host.name == name:
                return status
        raise NotFound(f"there is no host {name} in the cluster", "see `zv host list`")

    def judged(self) -> list[HostStatus]:
        """This host's own judgement of all hosts; sound on primaries only, which hear everybody."""
        hearers = self._hearers()
        hosts = sorted(self._hosts(), key=lambda host: host.ordinal)
        return [
            self._own(host) if host.name == self._host else self._other(host, hearers.get(host.name, set()))
            for host in hosts
        ]

    def handlers(self) -> dict[str, Handler]:
        return {"cluster.status": self._answer}

    async def _answer(self, _payload: dict[str, Any]) -> dict[str, Any]:
        if not self._is_primary():
            raise Refused(f"{self._host} is a secondary and judges nobody", "ask a primary")
        return {"statuses": [status.model_dump(mode="json") for status in self.judged()]}

    def _is_primary(self) -> bool:
        return any(h.name == self._host and h.role is Role.PRIMARY for h in self._hosts())

    # on a secondary

    async def _fetch(self) -> list[HostStatus]:
        now = self._clock.monotonic()
        primaries = [h for h in self._hosts() if h.role is Role.PRIMARY and h.name != self._host]
        primaries.sort(key=lambda h: (self._avoided_until.get(h.name, 0.0) > now, h.ordinal))
        causes = []
        for primary in primaries:
            try:
                answer = await self._peers.call(primary, "cluster.status", {}, timeout_s=ASK_TIMEOUT_S)
                statuses = [HostStatus.model_validate(item) for item in answer["statuses"]]
            except (ZugvogelError, ValueError, KeyError) as error:
                self._avoided_until[primary.name] = now + AVOIDED_S
                causes.append(error.cause if isinstance(error, ZugvogelError) else f"{primary.name}: {error}")
                continue
            self._avoided_until.pop(primary.name, None)
            return statuses
        raise Unreachable(
            "no primary answers: " + ("; ".join(causes) or "none is known"),
            "check the network of this host, or ask another host",
        )

    # on a primary

    def _own(self, host: Host) -> HostStatus:
        ages = {name: self._beats.own_age_s(name) for name in self._beats.names()}
        frozen_s = FROZEN_AFTER * self._detection_time_ms() / 1000
        lost = [name for name, age in ages.items() if age is not None and age >= frozen_s]
        verdict = Verdict.STORAGE_LOST if lost else Verdict.LIVE
        why = f"its own beats fail on {', '.join(lost)}" if lost else "this host judges"
        load = self._load()
        return HostStatus(
            host=host,
            verdict=verdict,
            why=why,
            heartbeat_age_s=0.0,
            beat_ages_s={name: round(age, 1) for name, age in ages.items() if age is not None},
            load1=load.load1,
            memory_available_bytes=load.memory_available_bytes,
            report=self._report(),
        )

    def _other(self, host: Host, hearers: set[str]) -> HostStatus:
        now = self._clock.monotonic()
        heard = self._heartbeats.heard(host.name)
        seen = {name: self._beats.seen(name).get(host.name) for name in self._beats.names()}
        judgement = self._judge(heard, seen, tuple(sorted(hearers)), now)
        return HostStatus(
            host=host,
            verdict=judgement.verdict,
            why=judgement.why,
            heartbeat_age_s=round(now - heard.at, 1) if heard else None,
            beat_ages_s={name: round(now - s.stillness.since, 1) for name, s in seen.items() if s},
            load1=heard.heartbeat.load1 if heard else 0.0,
            memory_available_bytes=heard.heartbeat.memory_available_bytes if heard else 0,
            report=heard.report if heard else None,
        )

    def _judge(
        self, heard: Heard | None, seen: dict[str, SeenBeat | None], hearers: tuple[str, ...], now: float
    ) -> Judgement:
        since = self._heartbeats.listening_since
        times = [s.beat.detection_time_ms for s in seen.values() if s is not None]
        return judge(
            HostEvidence(
                silence_s=now - (max(heard.at, since) if heard else since),
                was_heard=heard is not None and heard.at >= since,
                detection_time_s=max([self._detection_time_ms(), *times]) / 1000,
                beats=tuple(self._beat_evidence(name, s, heard) for name, s in seen.items()),
                heard_by=hearers,
            )
        )

    def _beat_evidence(self, datastore: str, seen: SeenBeat | None, heard: Heard | None) -> BeatEvidence:
        is_readable, _ = self._beats.usable(datastore)
        if seen is None:
            return BeatEvidence(datastore, None, is_readable)
        return BeatEvidence(
            datastore,
            seen.stillness.still_s,
            is_readable,
            is_same_place=_is_same_place(datastore, seen, heard),
            is_isolated=seen.beat.is_isolated,
        )

    def _hearers(self) -> dict[str, set[str]]:
        """host -> other hosts that lately told, by heartbeat or beat, that they hear it."""
        told: dict[str, set[str]] = {}
        for name in self._heartbeats.hears():
            heard = self._heartbeats.heard(name)
            for host in heard.heartbeat.hears if heard else ():
                told.setdefault(host, set()).add(name)
        fresh_s = APART * self._detection_time_ms() / 1000
        now = self._clock.monotonic()
        for datastore in self._beats.names():
            for name, seen in self._beats.seen(datastore).items():
                if name != self._host and now - seen.stillness.since < fresh_s:
                    for host in seen.beat.hears:
                        told.setdefault(host, set()).add(name)
        return told


def _is_same_place(datastore: str, seen: SeenBeat, heard: Heard | None) -> bool:
    """False when the host told by heartbeat of a beat that a later read here did not find."""
    told = heard.heartbeat.beats.get(datastore) if heard else None
    if heard is None or told is None or seen.stillness.seen_at <= heard.at:
        return True
    if heard.heartbeat.boot_id != seen.beat.boot_id:
        return seen.stillness.since >= heard.at
    return seen.beat.counter >= told
