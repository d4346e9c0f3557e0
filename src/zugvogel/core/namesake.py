"""Whether another machine writes beats under this host's name: found out before the first beat of a boot.

Two machines have one name when a host that was replaced comes back, or when a host's disks were copied with its
configuration. Each would take the other's leases for its own of an earlier boot.
"""

from __future__ import annotations

from typing import NamedTuple

from zugvogel.core.stillness import Mark

STILL_INTERVALS = 2.5
"""A machine that lives has written another beat by then. No whole number: readings come an interval apart."""
READINGS = 4
"""That showed the same. Where the datastore is slow they take longer, and so do the other one's beats."""
MOVES = 5
"""Four may be writes of an earlier boot of this machine that hung, and came late."""
TORN: Mark = ("", 0)
"""A beat that was there and cannot be read as one: somebody may be writing it."""


class Namesake(NamedTuple):
    """What was read of a beat of another boot under this host's name. `since`: end of the first of `readings` that
    showed `mark`; `seen_at`: begin of the last one. `beat`: the last mark that was not torn; `moves`: how often it
    was another one."""

    mark: Mark
    since: float
    seen_at: float
    beat: Mark
    readings: int = 1
    moves: int = 0

    def observe(self, mark: Mark, began_at: float, ended_at: float) -> Namesake:
        """After a good reading."""
        if mark != self.mark:
            beat = self.beat if mark == TORN else mark
            return Namesake(mark, ended_at, began_at, beat, moves=self.moves + (beat != self.beat))
        return self._replace(seen_at=began_at, readings=self.readings + 1)

    def lives(self) -> bool:
        """Another machine writes it."""
        return self.moves >= MOVES

    def is_gone(self, interval_s: float) -> bool:
        """Nobody writes it any more."""
        is_still = self.readings >= READINGS and self.seen_at - self.since >= STILL_INTERVALS * interval_s
        return is_still and not self.lives()


def first_seen(mark: Mark, began_at: float, ended_at: float) -> Namesake:
    """`mark`: none that is torn."""
    return Namesake(mark, ended_at, began_at, mark)
