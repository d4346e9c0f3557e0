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
        before, since, seen_at = self
        has_moved = mark is not None and mark != before
        if has_moved or now - seen_at > max_gap_s or now < since:
            end = now if ended_at is None else ended_at
            return Stillness(before if mark is None else mark, end, end)
        return Stillness(before, since, now if now > seen_at else seen_at)


def observe(
    before: Stillness | None, mark: Mark | None, now: float, max_gap_s: float, ended_at: float | None = None
) -> Stillness | None:
    """As `Stillness.observe`, from nothing too. None: this counter was never seen."""
    if before is not None:
        return before.observe(mark, now, max_gap_s, ended_at)
    if mark is None:
        return None
    end = now if ended_at is None else ended_at
    return Stillness(mark, end, end)
