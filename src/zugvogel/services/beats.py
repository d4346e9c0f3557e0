"""This host's beat on every datastore, and how long the others' stood still there.

Each datastore has a round of its own (write, then read all). The tick only starts rounds, so a datastore
that hangs holds up neither the loop nor the others: its round is simply still under way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from zugvogel.core import hearing
from zugvogel.core.namesake import TORN, Namesake, first_seen
from zugvogel.core.stillness import Stillness
from zugvogel.core.verdicts import APART, FROZEN_AFTER, LATE_AFTER
from zugvogel.domain.datastore import Beat
from zugvogel.errors import Refused, StorageError, Unreachable, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.following import cut_off_all, follow
from zugvogel.services.rounds import Rounds

log = logging.getLogger(__name__)

LATE_INTERVALS = 3
"""A beat still under way after that many intervals, and after LATE_AFTER of T, makes the datastore unusable."""
ASKED_S = 60.0
"""So long after somebody asked for them the others' beats are read on a host that judges nobody."""
NO_BEAT = "no beat was written on it yet"


class SeenBeat(NamedTuple):
    """A host's beat on one datastore. `stillness` counts only while this host's own beats and reads work."""

    beat: Beat
    stillness: Stillness


@dataclass(slots=True)
class _Watch:
    """What is known of one datastore. Times are Clock.monotonic()."""

    mounted: MountedDatastore
    counter: int = 0
    """Of the last beat written in full; 0: none yet."""
    last_good_at: float | None = None
    """Start of the last good write: the guard counts from there too."""
    promised_ms: int = 0
    """Lowest detection time in a beat that stands there, or that may stand there; 0: none was tried yet."""
    is_guard_promised: bool = False
    """A beat that stands there, or that may stand there, says that a guard is armed."""
    late_ms: int = 0
    """Lowest detection time of writes that failed or were given up, and of which one may still land; 0: none."""
    is_guard_late: bool = False
    """One of those says that a guard is armed."""
    unbroken_since: float | None = None
    """End of the good beat since which none came so late that others may have counted this host as dead."""
    took_s: float = 0.0
    """What the last good write took."""
    round_since: float | None = None
    failure: str = ""
    seen: dict[str, SeenBeat] = field(default_factory=dict)
    """Replaced by each round, never changed."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """host -> why its file could not be read in the last round."""
    asked_at: float | None = None
    namesake: Namesake | None = None
    """A beat of another boot that stood there under this host's name before this boot's first one."""
    is_alone: bool = False
    """Nobody else beats there under this host's name."""
    rounds: Rounds = field(init=False)


class BeatService:
    """`datastores` gives what is mounted now; `hears` whom this host hears by heartbeat. `may_write` says whether
    a beat may be written, and why not. `on_good` is called at once after each good one; `before_promise` before
    one is written that promises more than those that stand there: a shorter detection time, or a guard.
    `judge_round`: rounds this host has finished as the active primary of a datastore. `is_guarded`: what a beat
    may promise (`Beat`). These may also be set later, before the first tick. `reads_always` False: this host
    judges nobody, so the others' beats are read only while somebody asks for them (of 64 hosts, that is 64 reads a
    second each)."""

    def __init__(
        self,
        host: str,
        boot_id: str,
        clock: Clock,
        *,
        datastores: Callable[[], Sequence[MountedDatastore]],
        interval_s: Callable[[], float],
        detection_time_ms: Callable[[], int],
        hears: Callable[[], tuple[str, ...]] = lambda: (),
        is_isolated: Callable[[], bool] = lambda: False,
        may_write: Callable[[], tuple[bool, str]] = lambda: (True, ""),
        on_good: Callable[[], None] = lambda: None,
        before_promise: Callable[[], None] = lambda: None,
        judge_round: Callable[[str], int] = lambda datastore: 0,
        is_guarded: Callable[[], bool] = lambda: False,
        reads_always: Callable[[], bool] = lambda: True,
    ) -> None:
        self._host = host
        self._boot_id = boot_id
        self._clock = clock
        self._datastores = datastores
        self._interval_s = interval_s
        self._detection_time_ms = detection_time_ms
        self.hears = hears
        self.is_isolated = is_isolated
        self.may_write = may_write
        self.on_good = on_good
        self.is_known: Callable[[], bool] = lambda: False
        """This boot is heard under its name already: a look that fails holds up no beat."""
        self.on_alone: Callable[[str], None] = lambda datastore: None
        """Called when this agent knows that nobody else beats under this host's name on a datastore."""
        self.before_promise = before_promise
        self.judge_round = judge_round
        self.may_promise = is_guarded
        self.on_namesake: Callable[[str, str], None] = lambda datastore, boot_id: None
        """Called where beats of another machine follow each other under this host's name."""
        self._reads_always = reads_always
        self._beat = Beat(host=host, boot_id=boot_id, counter=0)
        self._followed: list[MountedDatastore] = []
        self._watches: dict[str, _Watch] = {}
        self._paces_ms = (0, 0)
        """The detection times, which give the pace, at the tick before the last and at the last."""
        self._fitting: tuple[str, ...] = ()
        """Hosts that this one hears, and that fit a beat."""
        self.rounds = 0
        """Counts what may have changed here: rounds that were begun or have ended."""

    def close(self) -> None:
        """Rounds under way are cut off."""
        cut_off_all(self._watches)

    async def tick(self) -> None:
        """Belongs to each interval. Start a round on every datastore that has none under way."""
        mounted = self._datastores()
        if mounted != self._followed:
            follow(self._watches, mounted, self._watch)
            self._followed = list(mounted)
        self._paces_ms = (self._paces_ms[1], self._detection_time_ms())
        for watch in self._watches.values():
            if watch.rounds.begin():
                watch.round_since = self._clock.monotonic()
                self.rounds += 1

    def names(self) -> tuple[str, ...]:
        return tuple(self._watches)

    def counters(self) -> dict[str, int]:
        """datastore -> counter of this host's last good beat, for heartbeats."""
        return {name: watch.counter for name, watch in self._watches.items() if watch.counter}

    def usable(self, datastore: str) -> tuple[bool, str]:
        """Whether this host's last beat there was written in time, and why not."""
        watch = self._watches.get(datastore)
        if watch is None:
            return False, NO_BEAT
        if watch.failure:
            return False, watch.failure
        if watch.last_good_at is None:
            is_looked_at = watch.namesake is not None and not watch.is_alone
            told = f"whether another machine writes beats as {self._host} is looked at"
            return False, told if is_looked_at else NO_BEAT
        if watch.round_since is not None:
            busy_s = self._clock.monotonic() - watch.round_since
            is_overdue = busy_s > LATE_INTERVALS * self._interval_s()
            if is_overdue and busy_s > LATE_AFTER * self._detection_time_ms() / 1000:
                return False, "it does not answer: the last beat is still under way"
        return True, ""

    def has_begun(self) -> bool:
        """Every datastore's first round has ended, well or not."""
        names = {m.datastore.name for m in self._datastores()}
        begun = {n for n, w in self._watches.items() if w.last_good_at is not None or w.failure}
        return names <= begun

    def is_alone_on(self, datastore: str) -> bool:
        """Nobody else beats there under this host's name, as far as this boot knows."""
        watch = self._watches.get(datastore)
        return watch is not None and watch.is_alone

    def is_alone(self) -> bool:
        """On every datastore."""
        return all(self.is_alone_on(m.datastore.name) for m in self._datastores())

    def own_age_s(self, datastore: str) -> float | None:
        """Seconds since this host began its last good beat there; None: there was none yet."""
        if datastore not in self._watches:
            return None
        began_at = self._watches[datastore].last_good_at
        return None if began_at is None else self._clock.monotonic() - began_at

    def good_times(self) -> dict[str, float]:
        """datastore -> when this host began its last good beat there, on its own clock."""
        return {n: w.last_good_at for n, w in self._watches.items() if w.last_good_at is not None}

    def promised_ms(self) -> int | None:
        """The lowest detection time by which others may judge this host now: it is in the beats they see."""
        lowest = None
        for watch in self._watches.values():
            if watch.promised_ms and (lowest is None or watch.promised_ms < lowest):
                lowest = watch.promised_ms
        return lowest

    def guards_promised(self) -> set[str]:
        """Datastores where others read, or may read, in this host's beat that a guard is armed here."""
        return {name for name, watch in self._watches.items() if watch.is_guard_promised}

    def unbroken_since(self, datastore: str) -> float | None:
        """Since when no beat of this host there came so late that others may have counted it as dead meanwhile;
        whether the next one is overdue by now, `own_age_s` tells. None: there was none yet."""
        watch = self._watches.get(datastore)
        return watch.unbroken_since if watch is not None else None

    def latency_s(self, datastore: str) -> float:
        """What this host's beat takes there: the last one, or the round under way if that is longer already."""
        watch = self._watches.get(datastore)
        if watch is None:
            return 0.0
        under_way = self._clock.monotonic() - watch.round_since if watch.round_since is not None else 0.0
        return max(watch.took_s, under_way)

    def seen(self, datastore: str) -> Mapping[str, SeenBeat]:
        """Every host's beat as last read there."""
        watch = self._watches.get(datastore)
        if watch is None:
            return {}
        watch.asked_at = self._clock.monotonic()
        return watch.seen

    def unreadable(self, datastore: str) -> Mapping[str, str]:
        """Hosts whose file there could not be read last, and why: nothing was observed of them."""
        watch = self._watches.get(datastore)
        return {} if watch is None else watch.unreadable

    def is_silent(self, datastore: str, host: str) -> bool:
        """That host's beat there was seen to stand still for longer than the detection time."""
        beat = self.seen(datastore).get(host)
        if beat is None or not self.is_current(beat):
            return False
        return beat.stillness.still_s > max(self._detection_time_ms(), beat.beat.detection_time_ms) / 1000

    def shows_no_life(self, datastore: str, host: str) -> bool:
        """`is_silent`, or this host reads the beats there and that one has none: nothing of it is proven, but
        nothing speaks against somebody's word."""
        seen = self.seen(datastore)
        if host in seen:
            return self.is_silent(datastore, host)
        if host in self.unreadable(datastore):
            return False
        own = seen.get(self._host)
        return own is not None and self.is_current(own)

    def silent_since_reading(self, datastore: str, host: str, after: float) -> bool:
        """`is_silent`, by a reading of the beats that began at `after` or later, on this host's clock: that host
        had shown no sign of life there yet when something else was known."""
        beat = self.seen(datastore).get(host)
        return beat is not None and beat.stillness.seen_at >= after and self.is_silent(datastore, host)

    def is_guarded(self, datastore: str, host: str) -> bool:
        """The last beat of that host that was seen there says that its guard is armed."""
        beat = self.seen(datastore).get(host)
        return beat is not None and beat.beat.is_guarded

    def is_current(self, seen: SeenBeat) -> bool:
        """It was read so lately that it tells of now."""
        return self._clock.monotonic() - seen.stillness.seen_at <= self._max_gap_s()

    def current_for_s(self) -> float:
        """For so long a beat that was read tells of now (`is_current`)."""
        return self._max_gap_s()

    def _watch(self, mounted: MountedDatastore) -> _Watch:
        watch = _Watch(mounted)
        watch.rounds = Rounds(partial(self._round, watch))
        return watch

    async def _round(self, watch: _Watch) -> None:
        name = watch.mounted.datastore.name
        try:
            await self._write_and_read(watch)
        except ZugvogelError as error:
            if watch.failure != error.cause:
                log.warning("beat on datastore %s: %s", name, error)
            watch.failure = error.cause
        except Exception as error:
            if not watch.failure:
                log.exception("beat on datastore %s", name)
            watch.failure = f"{type(error).__name__}: {error}"
        else:
            if watch.failure:
                log.info("beat on datastore %s: works again", name)
            watch.failure = ""
        watch.round_since = None
        self.rounds += 1

    async def _write_and_read(self, watch: _Watch) -> None:
        if watch.last_good_at is None and not await self._may_begin(watch):
            return
        may_write, why_not = self.may_write()
        if not may_write:
            raise Refused(why_not)
        await self._write(watch)
        self._found_alone(watch)
        if self._is_read(watch):
            read_at = self._clock.monotonic()
            self._judge(watch, await watch.mounted.beats.read_all(), read_at)
        else:
            watch.seen = {}

    async def _may_begin(self, watch: _Watch) -> bool:
        try:
            is_alone = await self._looks_alone(watch)
        except (StorageError, Unreachable):
            if self.is_known():
                return True
            raise
        if is_alone:
            self._found_alone(watch)
        else:
            watch.is_alone = False
        return is_alone

    async def _looks_alone(self, watch: _Watch) -> bool:
        """Nobody else writes beats under this host's name: the first of this boot may be written. False: that is
        not known yet."""
        began_at, mount = self._clock.monotonic(), watch.mounted
        # twice, since one that is being written may look torn
        found = await mount.beats.read(self._host) or await mount.beats.read(self._host)
        last, ended_at = watch.namesake, self._clock.monotonic()
        mark = TORN if found is None else (found.boot_id, found.counter)
        if (found is None and last is None) or mark[0] == self._boot_id:
            return True
        watch.namesake = last.observe(mark, began_at, ended_at) if last else first_seen(mark, began_at, ended_at)
        if watch.namesake.lives():
            self.on_namesake(mount.datastore.name, mark[0])
            raise Refused(f"another machine writes beats as {self._host} there")
        return watch.namesake.is_gone(self._interval_s())

    def _found_alone(self, watch: _Watch) -> None:
        if not watch.is_alone:
            watch.is_alone = True
            self.on_alone(watch.mounted.datastore.name)

    async def _write(self, watch: _Watch) -> None:
        started = self._clock.monotonic()
        # From the boot clock, so that it grows across restarts of the agent within one boot as well.
        counter = max(watch.counter + 1, int(started * 1000))
        # Copied, not validated: these are this host's own values, once an interval for each datastore.
        beat = self._beat = self._beat.replaced(
            counter=counter,
            is_isolated=self.is_isolated(),
            hears=self._told_heard(watch),
            detection_time_ms=self._detection_time_ms(),
            judge_round=self.judge_round(watch.mounted.datastore.name),
            is_guarded=self.may_promise(),
        )
        self._promise(watch, beat)
        try:
            await watch.mounted.beats.write(beat)
        except BaseException:
            watch.late_ms = _lower(beat, watch.late_ms)
            watch.is_guard_late = watch.is_guard_late or beat.is_guarded
            raise
        ended = self._clock.monotonic()
        _follow_streak(watch, ended)
        _stands(watch, beat)
        watch.counter = counter
        watch.last_good_at = started
        watch.took_s = ended - started
        self.on_good()

    def _promise(self, watch: _Watch, beat: Beat) -> None:
        """The guard knows of it before others can: this agent may end right after the write."""
        before = (watch.promised_ms, watch.is_guard_promised)
        watch.promised_ms = _lower(beat, watch.promised_ms)
        watch.is_guard_promised = watch.is_guard_promised or beat.is_guarded
        if (watch.promised_ms, watch.is_guard_promised) != before:
            self.before_promise()

    def _told_heard(self, watch: _Watch) -> tuple[str, ...]:
        """Whom this host hears, as many as fit a beat; those first whose beats do not move here."""
        heard = self.hears()
        if heard == self._fitting:
            return heard
        if hearing.fits(heard):
            self._fitting = heard
            return heard
        gap_s = self._max_gap_s()
        moving = {name for name, seen in watch.seen.items() if seen.stillness.still_s < gap_s}
        return hearing.told(heard, moving)

    def _is_read(self, watch: _Watch) -> bool:
        if self._reads_always():
            return True
        return watch.asked_at is not None and self._clock.monotonic() - watch.asked_at < ASKED_S

    def _judge(self, watch: _Watch, found: Mapping[str, Beat | str], read_at: float) -> None:
        """`read_at` is the start of the read. What it shows may be as young as its end. Of a host whose file could
        not be read nothing was observed, so its stillness does not grow."""
        ended_at = self._clock.monotonic()
        max_gap_s, known = self._max_gap_s(), watch.seen
        seen: dict[str, SeenBeat] = {}
        unreadable: dict[str, str] = {}
        for host, beat in found.items():
            if isinstance(beat, str):
                unreadable[host] = beat
                if host in known:
                    seen[host] = known[host]
                continue
            mark = (beat.boot_id, beat.counter)
            if host in known:
                seen[host] = SeenBeat(beat, known[host].stillness.observe(mark, read_at, max_gap_s, ended_at))
            else:
                seen[host] = SeenBeat(beat, Stillness(mark, ended_at, ended_at))
        if not known.keys() <= seen.keys():
            for host in known.keys() - found.keys():
                last, still = known[host]
                seen[host] = SeenBeat(last, still.observe(None, read_at, max_gap_s, ended_at))
        watch.seen = seen
        if unreadable or watch.unreadable:
            self._tell_unreadable(watch, unreadable)

    def _tell_unreadable(self, watch: _Watch, unreadable: dict[str, str]) -> None:
        name = watch.mounted.datastore.name
        for host, why in unreadable.items():
            if host not in watch.unreadable:
                log.warning("the beat of %s on datastore %s cannot be read here: %s", host, name, why)
        for host in watch.unreadable.keys() - unreadable.keys():
            log.info("the beat of %s on datastore %s can be read here again", host, name)
        watch.unreadable = unreadable

    def _max_gap_s(self) -> float:
        """A shortened detection time makes no pause of what was still read at the pace before."""
        return APART * max(self._detection_time_ms(), *self._paces_ms) / 1000


def _lower(beat: Beat, known_ms: int) -> int:
    """`known_ms` 0: none is known."""
    return beat.detection_time_ms if not known_ms or beat.detection_time_ms < known_ms else known_ms


def _stands(watch: _Watch, beat: Beat) -> None:
    """`beat` was written, and stands until an earlier write that was given up lands over it."""
    if not watch.mounted.beats.may_still_land():
        watch.late_ms, watch.is_guard_late = 0, False
    watch.promised_ms = _lower(beat, watch.late_ms)
    watch.is_guard_promised = beat.is_guarded or watch.is_guard_late


def _follow_streak(watch: _Watch, now: float) -> None:
    """A beat was written. Others saw the one before it from its start on at the earliest, and see this one from
    `now` on at the latest."""
    limit_s = FROZEN_AFTER * watch.promised_ms / 1000
    if watch.last_good_at is None or now - watch.last_good_at >= limit_s:
        watch.unbroken_since = now
