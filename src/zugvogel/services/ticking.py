"""The loop every periodic service runs in."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

from zugvogel.errors import ZugvogelError
from zugvogel.ports.clock import Clock

log = logging.getLogger(__name__)


class Gaps:
    """Tells a loop that it stood still: its tick, or what it does between two, is later than so many intervals.
    The interval may be changed while it sleeps, so the longer one of before and now counts."""

    def __init__(self, clock: Clock, interval_s: Callable[[], float], intervals: int) -> None:
        self._clock = clock
        self._interval_s = interval_s
        self._intervals = intervals
        self.ticked_at = clock.monotonic()
        self.before_s = 0.0
        """The interval at the last tick; 0: there was none yet."""

    def is_late(self) -> bool:
        """The next tick is overdue."""
        return self._is_over(self._clock.monotonic(), self._interval_s())

    def tick(self) -> bool:
        """Whether this tick is late."""
        now, interval_s = self._clock.monotonic(), self._interval_s()
        is_late = self._is_over(now, interval_s)
        self.ticked_at, self.before_s = now, interval_s
        return is_late

    def _is_over(self, now: float, interval_s: float) -> bool:
        longest_s = interval_s if interval_s > self.before_s else self.before_s
        return now - self.ticked_at > self._intervals * longest_s


async def run_every(
    clock: Clock, interval_s: Callable[[], float], tick: Callable[[], Awaitable[None]], what: str
) -> None:
    """Run `tick` every `interval_s()` until cancelled. A failing tick never ends the loop; the same cause
    in a row is logged once, its end too; with a traceback only where it is a defect."""
    await run_all_every(clock, interval_s, {what: tick})


async def run_all_every(
    clock: Clock, interval_s: Callable[[], float], ticks: Mapping[str, Callable[[], Awaitable[None]]]
) -> None:
    """As `run_every`, for several ticks that come one after the other: one timer for them all. None of them may
    wait for anything, since it would hold up the others; a failing one does not."""
    failures: dict[str, str] = {}
    """Of ticks that failed when they were due last."""
    while True:
        started = clock.monotonic()
        for what, tick in ticks.items():
            try:
                await tick()
            except Exception as error:
                failures[what] = _tell(what, error, failures.get(what, ""))
            else:
                if failures and failures.pop(what, ""):
                    log.info("%s: works again", what)
        await clock.sleep(max(0.0, interval_s() - (clock.monotonic() - started)))


def _tell(what: str, error: Exception, before: str) -> str:
    """The cause, logged unless it is the one before."""
    is_defect = not isinstance(error, ZugvogelError)
    cause = f"{type(error).__name__}: {error}" if is_defect else str(error)
    if cause != before:
        log.log(logging.ERROR if is_defect else logging.WARNING, "%s: %s", what, cause, exc_info=is_defect)
    return cause
