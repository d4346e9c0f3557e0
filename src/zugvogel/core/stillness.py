"""How long a counter stood still, counted on the observer's own monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass, replace

Mark = tuple[str, int]
"""(boot id, counter)"""


@dataclass(frozen=True, slots=True)
class Stillness:
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

    def observe(self, mark: Mark | None, now: float, max_gap_s: float) -> Stillness:
        """The value after a good observation at `now`. `mark` None: the file was torn or absent, which is
        no sign of life. Any *other* mark is one, also a lower counter: doubt is decided for life."""
        has_moved = mark is not None and mark != self.mark
        if has_moved or now - self.seen_at > max_gap_s or now < self.seen_at:
            return Stillness(mark if mark is not None else self.mark, now, now)
        return replace(self, seen_at=now)


def observe(before: Stillness | None, mark: Mark | None, now: float, max_gap_s: float) -> Stillness | None:
    """As `Stillness.observe`, from nothing too. None: this counter was never seen."""
    if before is not None:
        return before.observe(mark, now, max_gap_s)
    return None if mark is None else Stillness(mark, now, now)
