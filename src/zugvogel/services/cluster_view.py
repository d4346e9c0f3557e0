"""The state of all hosts: judged on a primary, fetched from one on a secondary.

A primary judges from what it hears and reads itself, without etcd and without asking anybody, so the view
stays true with every majority gone. A secondary hears the primaries alone and asks them in the order of their
addition.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from zugvogel.core.explaining import HaSettings, HostCase, explain_host
from zugvogel.core.verdicts import (
    APART,
    FROZEN_AFTER,
    BeatEvidence,
    HostEvidence,
    Judgement,
    in_maintenance,
    judge,
)
from zugvogel.domain.ha import Explanation
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

STALE_S = 3.0
"""A report that differs for so long from what the host's heartbeats tell of is not the host's any more."""

T = TypeVar("T")


class _Look(NamedTuple):
    """What is the same for all hosts in one round of judging. `datastores`: name, beats seen there, whether this
    host's own beats and reads succeed there. `since`: this host listens. `gap_s`: beats that were read within it
    tell of now."""

    now: float
    since: float
    detection_ms: int
    apart_s: float
    gap_s: float
    datastores: list[tuple[str, Mapping[str, SeenBeat], bool]]
    hearers: _Hearers


class ClusterView:
    """`active_primaries`: hosts that hold a datastore's role of the active primary. `is_isolated`: this host.
    `ha_settings`: for explanations."""

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
        active_primaries: Callable[[], frozenset[str]] = frozenset,
        is_isolated: Callable[[], bool] = lambda: False,
        ha_settings: Callable[[], HaSettings] = HaSettings,
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
        self._active_primaries = active_primaries
        self._is_isolated = is_isolated
        self._ha_settings = ha_settings
        self._judged: list[HostStatus] = []
        self._judged_from: tuple[object, ...] = ()
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
                self._fetched = await self._ask("cluster.status", {}, _statuses)
                self._fetched_at = self._clock.monotonic()
            return list(self._fetched)

    async def status(self, name: str) -> HostStatus:
        """Raises `NotFound`."""
        for status in await self.statuses():
            if status.host.name == name:
                return status
        raise _no_host(name)

    async def explain(self, name: str) -> Explanation:
        """What the primary that judges for this host knows of `name`, and what follows. Raises `NotFound`,
        `Unreachable` as `statuses`."""
        if self._is_primary():
            return self.explained(name)
        return await self._ask("cluster.explain", {"host": name}, Explanation.model_validate)

    def judged(self) -> list[HostStatus]:
        """This host's own judgement of all hosts; sound on primaries only, which hear everybody. Made once for
        all who ask at the same instant."""
        now, active, hosts = self._clock.monotonic(), self._active_primaries(), self._hosts()
        report = self._report()
        made_from = (now, self._heartbeats.taken, self._beats.rounds, active, report, *hosts)
        if made_from != self._judged_from:
            look = self._look(now)
            self._judged = [
                self._own(host, host.name in active, report, look)
                if host.name == self._host
                else self._other(host, host.name in active, look)
                for host in sorted(hosts, key=attrgetter("ordinal"))
            ]
            self._judged_from = made_from
        return list(self._judged)

    def explained(self, name: str) -> Explanation:
        """As `explain`, by this host's own judgement. Raises `NotFound`."""
        status = next((s for s in self.judged() if s.host.name == name), None)
        if status is None:
            raise _no_host(name)
        look = self._look(self._clock.monotonic())
        evidence = None if name == self._host else self._evidence(name, self._heartbeats.heard(name), look)[0]
        return explain_host(
            HostCase(
                host=status.host,
                judge=self._host,
                verdict=status.verdict,
                why=status.why,
                evidence=evidence,
                own_ages_s={n: self._beats.own_age_s(n) for n in self._beats.names()},
                is_active_primary=status.is_active_primary,
                frozen_on=status.frozen_on,
                dead_on=status.dead_on,
            ),
            self._ha_settings(),
        )

    def handlers(self) -> dict[str, Handler]:
        return {"cluster.status": self._answer, "cluster.explain": self._answer_explain}

    async def _answer(self, _payload: dict[str, Any]) -> dict[str, Any]:
        self._refuse_on_secondary()
        return {"statuses": [status.model_dump(mode="json") for status in self.judged()]}

    async def _answer_explain(self, payload: dict[str, Any]) -> dict[str, Any]:
        self._refuse_on_secondary()
        return self.explained(str(payload.get("host"))).model_dump(mode="json")

    def _refuse_on_secondary(self) -> None:
        if not self._is_primary():
            raise Refused(f"{self._host} is a secondary and judges nobody", "ask a primary")

    def _is_primary(self) -> bool:
        return any(h.name == self._host and h.role is Role.PRIMARY for h in self._hosts())

    # on a secondary

    async def _ask(self, command: str, payload: dict[str, Any], read: Callable[[dict[str, Any]], T]) -> T:
        """The first answer of a primary."""
        now = self._clock.monotonic()
        primaries = [h for h in self._hosts() if h.role is Role.PRIMARY and h.name != self._host]
        primaries.sort(key=lambda h: (self._avoided_until.get(h.name, 0.0) > now, h.ordinal))
        causes = []
        for primary in primaries:
            try:
                answer = read(await self._peers.call(primary, command, payload, timeout_s=ASK_TIMEOUT_S))
            except NotFound:
                raise
            except (ZugvogelError, ValueError, KeyError) as error:
                self._avoided_until[primary.name] = now + AVOIDED_S
                causes.append(error.cause if isinstance(error, ZugvogelError) else f"{primary.name}: {error}")
                continue
            self._avoided_until.pop(primary.name, None)
            return answer
        raise Unreachable(
            "no primary answers: " + ("; ".join(causes) or "none is known"),
            "check the network of this host, or ask another host",
        )

    # on a primary

    def _own(self, host: Host, is_active: bool, report: HostReport | None, look: _Look) -> HostStatus:
        ages = {name: look.now - at for name, at in self._beats.good_times().items()}
        frozen_s = FROZEN_AFTER * look.detection_ms / 1000
        if lost := [name for name, age in ages.items() if age >= frozen_s]:
            judgement = Judgement(Verdict.STORAGE_LOST, f"its own beats fail on {', '.join(lost)}")
        elif self._is_isolated():
            judgement = Judgement(Verdict.ISOLATED, "this host hears nobody, and no isolation address answers it")
        else:
            judgement = Judgement(Verdict.LIVE, "this host judges")
        judgement = in_maintenance(judgement) if host.is_in_maintenance else judgement
        load = self._load()
        return HostStatus(
            host=host,
            verdict=judgement.verdict,
            why=judgement.why,
            heartbeat_age_s=0.0,
            beat_ages_s={name: round(age, 1) for name, age in ages.items()},
            load1=load.load1,
            memory_available_bytes=load.memory_available_bytes,
            report=report,
            is_active_primary=is_active,
            frozen_on=tuple(lost),
        )

    def _look(self, now: float) -> _Look:
        names, detection_ms = self._beats.names(), self._detection_time_ms()
        return _Look(
            now=now,
            since=self._heartbeats.listening_since,
            detection_ms=detection_ms,
            apart_s=APART * detection_ms / 1000,
            gap_s=self._beats.current_for_s(),
            datastores=[(name, self._beats.seen(name), self._beats.usable(name)[0]) for name in names],
            hearers=_Hearers(self),
        )

    def _other(self, host: Host, is_active: bool, look: _Look) -> HostStatus:
        heard, now = self._heartbeats.heard(host.name), look.now
        evidence, beat_ages_s = self._evidence(host.name, heard, look)
        judgement = judge(evidence)
        judgement = in_maintenance(judgement) if host.is_in_maintenance else judgement
        return HostStatus(
            host=host,
            verdict=judgement.verdict,
            why=judgement.why,
            heartbeat_age_s=round(now - heard.at, 1) if heard else None,
            beat_ages_s=beat_ages_s,
            load1=heard.heartbeat.load1 if heard else 0.0,
            memory_available_bytes=heard.heartbeat.memory_available_bytes if heard else 0,
            report=heard.report if heard else None,
            is_report_stale=heard is not None and _is_stale(heard, look),
            is_active_primary=is_active,
            frozen_on=judgement.frozen_on,
            dead_on=judgement.dead_on,
        )

    def _evidence(self, name: str, heard: Heard | None, look: _Look) -> tuple[HostEvidence, dict[str, float]]:
        """All that is known of one other host; the age of its beat on each datastore where it has one."""
        was_heard = heard is not None and heard.at >= look.since
        silence_s = look.now - (heard.at if heard is not None and was_heard else look.since)
        boot_id = heard.heartbeat.boot_id if heard is not None else None
        detection_ms = look.detection_ms
        ages_s: dict[str, float] = {}
        found: list[BeatEvidence] = []
        for datastore, seen_there, is_usable in look.datastores:
            seen = seen_there.get(name)
            if seen is None:
                found.append(BeatEvidence(datastore, None, is_usable))
                continue
            beat, (_, since, seen_at) = seen
            ages_s[datastore] = round(look.now - since, 1)
            if beat.detection_time_ms > detection_ms:
                detection_ms = beat.detection_time_ms
            found.append(
                BeatEvidence(
                    datastore,
                    seen_at - since,
                    is_usable and look.now - seen_at <= look.gap_s,
                    _is_same_place(datastore, seen, heard),
                    beat.is_isolated,
                    beat.is_guarded,
                    boot_id is not None and boot_id != beat.boot_id,
                )
            )
        evidence = HostEvidence(
            silence_s,
            was_heard,
            detection_ms / 1000,
            tuple(found),
            look.hearers.of(name) if silence_s >= look.apart_s else (),
            look.now - heard.boot_since if heard is not None else float("inf"),
        )
        return evidence, ages_s

    def hearers(self) -> dict[str, set[str]]:
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


class _Hearers:
    """Who hears whom, found out when the first host has been quiet for a while: seldom."""

    def __init__(self, view: ClusterView) -> None:
        self._view = view
        self._told: dict[str, set[str]] | None = None

    def of(self, host: str) -> tuple[str, ...]:
        if self._told is None:
            self._told = self._view.hearers()
        return tuple(sorted(self._told.get(host, ())))


def _statuses(answer: dict[str, Any]) -> list[HostStatus]:
    return [HostStatus.model_validate(item) for item in answer["statuses"]]


def _no_host(name: str) -> NotFound:
    return NotFound(f"there is no host {name} in the cluster", "see `zv host list`")


def _is_stale(heard: Heard, look: _Look) -> bool:
    """For three intervals at least, so that a lost datagram or a slow answer makes none stale."""
    if heard.differs_since is None:
        return False
    return look.now - heard.differs_since > max(STALE_S, look.apart_s)


def _is_same_place(datastore: str, seen: SeenBeat, heard: Heard | None) -> bool:
    """False when the host told by heartbeat of a beat that a later read here did not find."""
    if heard is None or seen.stillness.seen_at <= heard.at:
        return True
    told = heard.heartbeat.beats.get(datastore)
    if told is None:
        return True
    if heard.heartbeat.boot_id != seen.beat.boot_id:
        return seen.stillness.since >= heard.at
    return seen.beat.counter >= told
