"""This host's beat on every datastore, and how long the others' stood still there.

Each datastore has a round of its own (write, then read all). The tick only starts rounds, so a datastore
that hangs holds up neither the loop nor the others: its round is simply still under way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from zugvogel.core import stillness
from zugvogel.core.stillness import Stillness
from zugvogel.core.verdicts import APART
from zugvogel.domain.datastore import Beat
from zugvogel.errors import ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.ticking import run_every

log = logging.getLogger(__name__)

LATE_INTERVALS = 3
"""A beat still under way after that many intervals makes the datastore unusable."""


@dataclass(frozen=True, slots=True)
class SeenBeat:
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
    took_s: float = 0.0
    """What the last good write took."""
    round_since: float | None = None
    failure: str = ""
    seen: dict[str, SeenBeat] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None


class BeatService:
    """`datastores` gives what is mounted now; `hears` whom this host hears by heartbeat."""

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
    ) -> None:
        self._host = host
        self._boot_id = boot_id
        self._clock = clock
        self._datastores = datastores
        self._interval_s = interval_s
        self._detection_time_ms = detection_time_ms
        self._hears = hears
        self._is_isolated = is_isolated
        self._watches: dict[str, _Watch] = {}

    async def run(self) -> None:
        """Until cancelled; rounds under way are cancelled with it."""
        try:
            await run_every(self._clock, self._interval_s, self.tick, "beats")
        finally:
            for watch in self._watches.values():
                if watch.task is not None:
                    watch.task.cancel()

    async def tick(self) -> None:
        """Start a round on every datastore that has none under way."""
        self._follow(self._datastores())
        for watch in self._watches.values():
            if watch.task is None or watch.task.done():
                watch.round_since = self._clock.monotonic()
                watch.task = asyncio.create_task(self._round(watch))

    def names(self) -> tuple[str, ...]:
        return tuple(self._watches)

    def counters(self) -> dict[str, int]:
        """datastore -> counter of this host's last good beat, for heartbeats."""
        return {name: watch.counter for name, watch in self._watches.items() if watch.counter}

    def usable(self, datastore: str) -> tuple[bool, str]:
        """Whether this host's last beat there was written in time, and why not."""
        watch = self._watches.get(datastore)
        if watch is None or watch.last_good_at is None:
            return False, (watch.failure if watch else "") or "no beat was written on it yet"
        if watch.failure:
            return False, watch.failure
        if watch.round_since is not None:
            busy_s = self._clock.monotonic() - watch.round_since
            if busy_s > LATE_INTERVALS * self._interval_s():
                return False, "it does not answer: the last beat is still under way"
        return True, ""

    def has_begun(self) -> bool:
        """Every datastore's first round has ended, well or not."""
        names = {m.datastore.name for m in self._datastores()}
        begun = {n for n, w in self._watches.items() if w.last_good_at is not None or w.failure}
        return names <= begun

    def own_age_s(self, datastore: str) -> float | None:
        """Seconds since this host began its last good beat there; None: there was none yet."""
        watch = self._watches.get(datastore)
        if watch is None or watch.last_good_at is None:
            return None
        return self._clock.monotonic() - watch.last_good_at

    def latency_s(self, datastore: str) -> float:
        """What this host's beat takes there: the last one, or the round under way if that is longer already."""
        watch = self._watches.get(datastore)
        if watch is None:
            return 0.0
        under_way = self._clock.monotonic() - watch.round_since if watch.round_since is not None else 0.0
        return max(watch.took_s, under_way)

    def seen(self, datastore: str) -> dict[str, SeenBeat]:
        """Every host's beat as last read there."""
        watch = self._watches.get(datastore)
        return dict(watch.seen) if watch is not None else {}

    def is_silent(self, datastore: str, host: str) -> bool:
        """That host's beat there was seen to stand still for longer than the detection time."""
        beat = self.seen(datastore).get(host)
        return beat is not None and beat.stillness.still_s > self._detection_time_ms() / 1000

    def _follow(self, mounted: Sequence[MountedDatastore]) -> None:
        now = {m.datastore.name: m for m in mounted}
        for name in self._watches.keys() - now.keys():
            task = self._watches.pop(name).task
            if task is not None:
                task.cancel()
        for name, datastore in now.items():
            watch = self._watches.get(name)
            if watch is None or watch.mounted.datastore != datastore.datastore:
                if watch is not None and watch.task is not None:
                    watch.task.cancel()
                self._watches[name] = _Watch(datastore)
            else:
                watch.mounted = datastore

    async def _round(self, watch: _Watch) -> None:
        name = watch.mounted.datastore.name
        try:
            await self._write(watch)
            read_at = self._clock.monotonic()
            self._judge(watch, await watch.mounted.beats.read_all(), read_at)
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

    async def _write(self, watch: _Watch) -> None:
        started = self._clock.monotonic()
        # From the boot clock, so that it grows across restarts of the agent within one boot as well.
        counter = max(watch.counter + 1, int(started * 1000))
        beat = Beat(
            host=self._host,
            boot_id=self._boot_id,
            counter=counter,
            is_isolated=self._is_isolated(),
            hears=self._hears(),
            detection_time_ms=self._detection_time_ms(),
        )
        await watch.mounted.beats.write(beat)
        watch.counter = counter
        watch.last_good_at = started
        watch.took_s = self._clock.monotonic() - started

    def _judge(self, watch: _Watch, beats: dict[str, Beat], read_at: float) -> None:
        """`read_at` is the start of the read: what it shows is at least that old."""
        max_gap_s = APART * self._detection_time_ms() / 1000
        seen: dict[str, SeenBeat] = {}
        for host in beats.keys() | watch.seen.keys():
            beat, before = beats.get(host), watch.seen.get(host)
            mark = (beat.boot_id, beat.counter) if beat is not None else None
            after = stillness.observe(before.stillness if before else None, mark, read_at, max_gap_s)
            latest = beat if beat is not None else before.beat if before else None
            if after is not None and latest is not None:
                seen[host] = SeenBeat(latest, after)
        watch.seen = seen
