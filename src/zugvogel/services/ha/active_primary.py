"""This host as a candidate for, or holder of, the role of the active primary, on every datastore.

Each datastore has rounds of its own: read the role's lease, decide, claim or release. The tick only starts them,
so a datastore that hangs holds up neither the loop nor the roles on others. The holder reads its lease each
interval; the others less often while they see it judge, and secondaries always, only to know it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from zugvogel.core import judge_role, stillness
from zugvogel.core.judge_role import ROLE, Candidate, Incumbent, RoleEvidence, RoleStep
from zugvogel.core.stillness import Stillness
from zugvogel.core.verdicts import APART
from zugvogel.domain.host import Host, Role
from zugvogel.domain.lease import Holder, Lease
from zugvogel.errors import LeaseTaken, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.beats import BeatService, SeenBeat
from zugvogel.services.events import EventLog
from zugvogel.services.following import cut_off_all, follow
from zugvogel.services.rounds import Rounds

log = logging.getLogger(__name__)

SELDOM_INTERVALS = 5
"""How often the lease is read by hosts that see its holder judge."""
QUIET_INTERVALS = 3
"""So long without a finished round, and the lease is read each interval."""
NO_BEATS: Mapping[str, SeenBeat] = {}
ABSENT = ("", 0)
"""The mark of a holder that has no beat on the datastore."""


@dataclass(slots=True)
class _Standing:
    """The role on one datastore, as this host knows it. Instants are Clock.monotonic()."""

    mounted: MountedDatastore
    lease: Lease | None = None
    holder: str | None = None
    is_mine: bool = False
    """Both by `lease`."""
    read_at: float | None = None
    """Start of the last good reading; None: read it at the next tick."""
    mine_at: float | None = None
    """Start of the last reading, or claim, that made it this host's."""
    round: int = 0
    mark: Stillness | None = None
    """Of the holder's (boot id, round)."""
    free_since: float | None = None
    failure: str = ""
    rounds: Rounds = field(init=False)


class ActivePrimary:
    """Whoever judges a datastore calls `finish_round` after each round, whether high availability is enabled or
    not: a holder that finishes none for T loses the role. `silence_s`: since this host heard any other."""

    def __init__(
        self,
        host: str,
        boot_id: str,
        clock: Clock,
        *,
        datastores: Callable[[], Sequence[MountedDatastore]],
        beats: BeatService,
        events: EventLog,
        hosts: Callable[[], list[Host]],
        interval_s: Callable[[], float],
        detection_time_ms: Callable[[], int],
        is_isolated: Callable[[], bool],
        silence_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._me = Holder(host=host, boot_id=boot_id)
        self._clock = clock
        self._datastores = datastores
        self._beats = beats
        self._events = events
        self._hosts = hosts
        self._interval_s = interval_s
        self._detection_time_ms = detection_time_ms
        self._is_isolated = is_isolated
        self._silence_s = silence_s
        self._listed: list[Host] = []
        self._known: dict[str, Host] = {}
        self._is_primary = False
        self._pace_ms = 0
        """The detection time, which gives the pace, at the last tick."""
        self._mounted: list[MountedDatastore] = []
        """What `_standings` follow."""
        self._standings: dict[str, _Standing] = {}
        self._holders: frozenset[str] = frozenset()

    def close(self) -> None:
        """Rounds under way are cut off."""
        cut_off_all(self._standings)

    async def tick(self) -> None:
        """Belongs to each interval. Start a round on every datastore where one is due and none under way."""
        now, interval_s, detection_ms = self._clock.monotonic(), self._interval_s(), self._detection_time_ms()
        self._know()
        mounted = self._datastores()
        if mounted != self._mounted:  # the same objects are compared at a glance
            self._mounted = list(mounted)
            if follow(self._standings, mounted, self._standing):
                self._holders = self._all_holders()
        for name, standing in self._standings.items():
            is_follower = self._is_primary and standing.holder is not None
            seen = self._beats.seen(name) if is_follower else NO_BEATS
            self._observe(standing, seen, self._beats.unreadable(name), detection_ms)
            if self._is_due(standing, seen, now, interval_s):
                standing.rounds.begin()
        self._pace_ms = detection_ms

    def judges(self, datastore: str) -> bool:
        """This host is the active primary of `datastore`, at this very instant."""
        standing = self._standings.get(datastore)
        if standing is None or standing.mine_at is None:
            return False
        return judge_role.counts(self._candidate(datastore), self._clock.monotonic() - standing.mine_at)

    def judge_of(self, datastore: str) -> str | None:
        """Who has the role there, by the last reading; it may have failed since. None: nobody, or not known."""
        standing = self._standings.get(datastore)
        return standing.holder if standing is not None else None

    def holders(self) -> frozenset[str]:
        """Hosts that have the role on any datastore."""
        return self._holders

    def finish_round(self, datastore: str) -> None:
        """All that there was to judge on `datastore` has been judged."""
        if self.judges(datastore):
            self._standings[datastore].round += 1

    def round_of(self, datastore: str) -> int:
        """For this host's beat: grows with each finished round. 0: it has not the role."""
        standing = self._standings.get(datastore)
        return standing.round if standing is not None else 0

    # what is seen ------------------------------------------------------------------------------------

    def _know(self) -> None:
        hosts = self._hosts()
        if hosts != self._listed:
            self._listed = list(hosts)
            self._known = {host.name: host for host in hosts}
            me = self._known.get(self._me.host)
            self._is_primary = me is not None and me.role is Role.PRIMARY

    def _observe(
        self,
        standing: _Standing,
        seen: Mapping[str, SeenBeat],
        unreadable: Container[str],
        detection_ms: int,
    ) -> None:
        """Count how long the holder's round has stood still, in the readings of its beat alone."""
        own, holder = seen.get(self._me.host), standing.holder
        if own is None or holder is None or holder in unreadable:
            standing.mark = None
            return
        beat = seen.get(holder)
        mark = ABSENT if beat is None else (beat.beat.boot_id, beat.beat.judge_round)
        read_at = (own if beat is None else beat).stillness.seen_at
        standing.mark = stillness.observe(standing.mark, mark, read_at, self._gap_s(detection_ms))

    def _is_due(self, standing: _Standing, seen: Mapping[str, SeenBeat], now: float, interval_s: float) -> bool:
        if standing.read_at is None or standing.mine_at is not None:
            return True
        if now - standing.read_at >= SELDOM_INTERVALS * interval_s:
            return True
        return self._is_primary and not self._sees_it_judge(standing, seen, interval_s)

    def _sees_it_judge(self, standing: _Standing, all_seen: Mapping[str, SeenBeat], interval_s: float) -> bool:
        holder = standing.holder
        host = self._known.get(holder) if holder is not None else None
        seen = all_seen.get(holder) if holder is not None else None
        if host is None or seen is None or standing.mark is None:
            return False
        return (
            seen.beat.judge_round > 0
            and not seen.beat.is_isolated
            and standing.mark.still_s < QUIET_INTERVALS * interval_s
            and host.role is Role.PRIMARY
            and not host.is_in_maintenance
        )

    def _candidate(self, name: str) -> Candidate:
        me = self._known.get(self._me.host)
        detection_s, silence_s = self._detection_time_ms() / 1000, self._silence_s()
        # while this host hears others it does not matter whether they hear each other
        is_alone = silence_s >= APART * detection_s
        return Candidate(
            is_primary=self._is_primary,
            is_in_maintenance=me is not None and me.is_in_maintenance,
            is_isolated=self._is_isolated(),
            beat_age_s=self._beats.own_age_s(name),
            detection_time_s=detection_s,
            silence_s=silence_s,
            hear_each_other=is_alone and self._do_others_hear_each_other(name),
        )

    def _do_others_hear_each_other(self, name: str) -> bool:
        """By their beats there."""
        others = [host for host in self._known.values() if host.name != self._me.host]
        seen = self._beats.seen(name)
        hears = {
            host.name: of.beat.hears
            for host in others
            if (of := seen.get(host.name)) is not None and self._beats.is_current(of) and self._could_claim(of)
        }
        fit = {host.name for host in others if host.role is Role.PRIMARY and not host.is_in_maintenance}
        return judge_role.hear_each_other(hears, fit)

    def _incumbent(self, name: str, standing: _Standing) -> Incumbent | None:
        """None: it is no host of the cluster. What was read long ago counts for nothing."""
        lease, seen = standing.lease, self._beats.seen(name)
        host = self._known.get(standing.holder or "")
        if host is None or lease is None or lease.holder is None:
            return None
        beat, own = seen.get(host.name), seen.get(self._me.host)
        is_current = own is not None and self._beats.is_current(own)
        is_same_boot = beat is not None and beat.beat.boot_id == lease.holder.boot_id
        own_ms = self._detection_time_ms()
        return Incumbent(
            is_primary=host.role is Role.PRIMARY,
            is_in_maintenance=host.is_in_maintenance,
            is_isolated=is_current and is_same_boot and beat is not None and beat.beat.is_isolated,
            still_s=standing.mark.still_s if is_current and standing.mark is not None else 0.0,
            detection_time_s=max(own_ms, beat.beat.detection_time_ms if beat is not None else own_ms) / 1000,
        )

    def _rank(self, name: str, standing: _Standing) -> int:
        """Candidates of a smaller ordinal: primaries whose beats move here."""
        me, seen = self._known.get(self._me.host), self._beats.seen(name)
        if me is None:
            return 0
        others = [
            host
            for host in self._known.values()
            if host.ordinal < me.ordinal and host.role is Role.PRIMARY and not host.is_in_maintenance
        ]
        holder = standing.holder
        return sum(host.name != holder and self._could_claim(seen.get(host.name)) for host in others)

    def _could_claim(self, seen: SeenBeat | None) -> bool:
        if seen is None or seen.beat.is_isolated:
            return False
        return seen.stillness.still_s < self._gap_s(self._detection_time_ms())

    def _gap_s(self, detection_ms: int) -> float:
        """A shortened detection time makes no pause of what was still read at the pace before."""
        return APART * max(detection_ms, self._pace_ms) / 1000

    # rounds ------------------------------------------------------------------------------------------

    def _standing(self, mounted: MountedDatastore) -> _Standing:
        standing, name = _Standing(mounted), mounted.datastore.name
        standing.rounds = Rounds(partial(self._round, name, standing), f"active primary of {name}")
        return standing

    async def _round(self, name: str, standing: _Standing) -> None:
        failure = ""
        try:
            started_at = self._clock.monotonic()
            self._take(name, standing, await standing.mounted.role_leases.read(ROLE), started_at)
            await self._act(name, standing)
        except LeaseTaken:
            standing.read_at = None
        except ZugvogelError as error:
            failure = str(error)
            if failure != standing.failure:
                log.warning("role of the active primary of %s: %s", name, error)
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
            if failure != standing.failure:
                log.exception("role of the active primary of %s", name)
        standing.failure = failure

    def _take(self, name: str, standing: _Standing, lease: Lease | None, started_at: float) -> None:
        """What a reading that began at `started_at` shows."""
        before = standing.lease
        if before is not None and (lease is None or lease.epoch < before.epoch):
            return  # a stale listing; it says nothing about now
        if lease is None or lease is not before:
            standing.holder = judge_role.holder_of(lease)
            standing.is_mine = judge_role.is_mine(lease, self._me)
        standing.lease, standing.read_at = lease, started_at
        if before is None or lease is None or lease.epoch != before.epoch:
            standing.mark = standing.free_since = None
            self._holders = self._all_holders()
        if standing.is_mine:
            if standing.mine_at is not None or not self._candidate(name).why_unfit:
                self._hold(name, standing, started_at)
        elif standing.mine_at is not None:
            self._leave(name, standing, f"{standing.holder or 'nobody'} has it now")

    async def _act(self, name: str, standing: _Standing) -> None:
        lease, now, candidate = standing.lease, self._clock.monotonic(), self._candidate(name)
        is_mine = standing.is_mine
        if is_mine != bool(candidate.why_unfit):  # it has the role and may keep it, or may not have it at all
            standing.free_since = None
            return
        holder = None if is_mine else self._incumbent(name, standing)
        is_free = bool(not is_mine and judge_role.why_free(lease, self._me.host, holder))
        standing.free_since = (now if standing.free_since is None else standing.free_since) if is_free else None
        decision = judge_role.decide(
            RoleEvidence(
                me=self._me,
                lease=lease,
                candidate=candidate,
                holder=holder,
                waited_s=now - standing.free_since if standing.free_since is not None else 0.0,
                rank=self._rank(name, standing) if is_free else 0,
                interval_s=self._interval_s(),
            )
        )
        if decision.step is RoleStep.CLAIM:
            claim = judge_role.claim(lease, self._me, why=decision.why, at=self._clock.now_iso())
            self._take(name, standing, await standing.mounted.role_leases.claim(claim), now)
        elif decision.step is RoleStep.RELEASE and lease is not None:
            self._leave(name, standing, decision.why)
            given_up = judge_role.release(lease, why=decision.why, at=self._clock.now_iso())
            self._take(name, standing, await standing.mounted.role_leases.claim(given_up), now)

    def _hold(self, name: str, standing: _Standing, since: float) -> None:
        is_new = standing.mine_at is None
        standing.mine_at = since
        if not is_new or standing.lease is None:
            return
        standing.round = 1
        self._events.emit(
            "ha.role-taken",
            name,
            f"{self._me.host} is the active primary of datastore {name}: {standing.lease.why}",
            evidence={"epoch": standing.lease.epoch, "why": standing.lease.why},
        )

    def _leave(self, name: str, standing: _Standing, why: str) -> None:
        if standing.mine_at is None:
            return
        standing.mine_at, standing.round = None, 0
        self._events.emit(
            "ha.role-left",
            name,
            f"{self._me.host} is no longer the active primary of datastore {name}: {why}",
            evidence={"epoch": standing.lease.epoch if standing.lease is not None else 0, "why": why},
        )

    def _all_holders(self) -> frozenset[str]:
        return frozenset(s.holder for s in self._standings.values() if s.holder is not None)
