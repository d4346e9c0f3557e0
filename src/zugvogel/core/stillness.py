"""How long a counter stood still, counted on the observer's own monotonic clock."""

from __future__ import annotations

from typing import NamedTuple

Mark = tuple[str, int]
"""(boot id, counter)"""


class Stillness(NamedTuple):
    """Invariant: `since <= seen_at`; the counter showed `mark` in every good observation between the two.

    Only time between good observations counts: `still_s` does not grow while the observer cannot see. A gap
    longer than `max_gap_s` starts the count anew, because during it the counter may have moved and halted
    with everybody else's (an outage of the datastore for all hosts).
    """

    mark: Mark
    since: float
    seen_at: float

    @property
    def still_s(self) -> float:
        return self.seen_at - self.since

    def observe(self, mark: Mark | None, now: float, max_gap_s: float, ended_at: float | None = None) -> Stillness:
        """The value after a good observation that began at `now` and ended at `ended_at` (None: at once).
        `mark` None: the file was torn or absent, which is no sign of life. Any *other* mark is one, also a
        lower counter: doubt is decided for life. It may be as young as the end of the observation."""
        has_moved = mark is not None and mark != self.mark
        if has_moved or now - self.seen_at > max_gap_s or now < self.since:
            return _begun(mark if mark is not None else self.mark, now, ended_at)
        return Stillness(self.mark, self.since, max(now, self.seen_at))


def observe(
    before: Stillness | None, mark: Mark | None, now: float, max_gap_s: float, ended_at: float | None = None
) -> Stillness | None:
    """As `Stillness.observe`, from nothing too. None: this counter was never seen."""
    if before is not None:
        return before.observe(mark, now, max_gap_s, ended_at)
    return None if mark is None else _begun(mark, now, ended_at)


def _begun(mark: Mark, now: float, ended_at: float | None) -> Stillness:
    end = now if ended_at is None else ended_at
    return Stillness(mark, end, end)
