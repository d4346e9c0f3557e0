"""How long a host has given no sign of life, drawn against what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zugvogel.console.tables import natural
from zugvogel.core.isolation import ISOLATED_AFTER
from zugvogel.core.verdicts import FROZEN_AFTER

FROZEN, ISOLATED, FAILED = "frozen", "isolated", "failed"
PARTS = {FROZEN: FROZEN_AFTER, ISOLATED: ISOLATED_AFTER, FAILED: 1.0}
"""After which part of das.failuredetectiontime."""
OF_HEARTBEATS, OF_BEATS = (ISOLATED, FAILED), (FROZEN, FAILED)
END = 1.2
"""Where the axis ends, in the same parts."""


@dataclass(frozen=True, slots=True)
class Mark:
    """`x`: percent of the axis."""

    name: str
    at_s: float
    x: float


@dataclass(frozen=True, slots=True)
class Silence:
    """`of`: a datastore for its beat; empty for the heartbeat. `age_s` None: there never was one. `width`: percent
    of the axis. `reached`: the last mark it is beyond; empty: none."""

    of: str
    age_s: float | None
    width: float
    marks: tuple[Mark, ...]
    reached: str


@dataclass(frozen=True, slots=True)
class Scale:
    marks: tuple[Mark, ...]
    rows: tuple[Silence, ...]


def scale(detection_time_s: float, heartbeat_age_s: float | None, beat_ages_s: Mapping[str, float]) -> Scale:
    """The heartbeat first, then the beats by datastore. Without beats a host's guard freezes its vms; that nobody
    hears it, makes it isolated; without both it has failed."""
    marks = marks_of(detection_time_s)
    return Scale(marks, (
        _silence("", heartbeat_age_s, detection_time_s, OF_HEARTBEATS),
        *(beat(name, beat_ages_s[name], detection_time_s) for name in sorted(beat_ages_s, key=natural)),
    ))  # fmt: skip


def beat(datastore: str, age_s: float | None, detection_time_s: float) -> Silence:
    return _silence(datastore, age_s, detection_time_s, OF_BEATS)


def marks_of(detection_time_s: float) -> tuple[Mark, ...]:
    return tuple(
        Mark(name, round(part * detection_time_s, 3), round(100 * part / END, 2)) for name, part in PARTS.items()
    )


def _silence(of: str, age_s: float | None, detection_time_s: float, names: tuple[str, ...]) -> Silence:
    marks = tuple(mark for mark in marks_of(detection_time_s) if mark.name in names)
    if age_s is None:
        return Silence(of, None, 0.0, marks, "")
    width = min(100.0, 100 * age_s / (END * detection_time_s)) if detection_time_s else 0.0
    reached = [mark.name for mark in marks if age_s >= mark.at_s]
    return Silence(of, age_s, round(width, 1), marks, reached[-1] if reached else "")
