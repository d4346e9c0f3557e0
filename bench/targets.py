"""What Zugvogel promised to reach, judged from one run's samples. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.idle import Idle
from bench.sample import Sample, middle, ratio, typical
from bench.scenarios import (
    LIBVIRT,
    LIBVIRT_30,
    RAW,
    SCENARIOS,
    TITLES,
    ZUGVOGEL_PLAIN,
    ZUGVOGEL_TLS,
)

OVER_RAW_MS = 15.0
OVER_GOODPUT = 1.05
FIRST_BYTE_S = 0.25
WALL_OF_LIBVIRT = {"idle": 0.5, "idle-1g": 0.65}
GAP_OF_LIBVIRT = 0.6
LOST_10MS = 3
ENOUGH_BYTES = 256 * 1000 * 1000
CORE_PERCENT, RSS_MB = 1.0, 90.0

Samples = Mapping[str, Mapping[str, Sequence[Sample]]]


@dataclass(frozen=True, slots=True)
class Check:
    """`value` against `limit` (at most), both in `unit`. `is_met` None: it could not be measured."""

    scenario: str
    row: str
    what: str
    unit: str
    value: float | None
    limit: float

    @property
    def is_met(self) -> bool | None:
        return None if self.value is None else self.value <= self.limit


def judge(samples: Samples, idle: Idle | None) -> list[Check]:
    """Every target of the project for every row of Zugvogel that was measured."""
    found: list[Check] = []
    for scenario in (s.name for s in SCENARIOS if s.name in samples):
        rows = samples[scenario]
        for row in (r for r in (ZUGVOGEL_TLS, ZUGVOGEL_PLAIN) if r in rows):
            found += _of_row(scenario, row, rows)
    found.append(
        _check("idle cluster", "agent", "CPU", "% of a core", idle.core_percent if idle else None, CORE_PERCENT)
    )
    found.append(_check("idle cluster", "agent", "memory", "MB", idle.rss_mb if idle else None, RSS_MB))
    return found


def _check(scenario: str, row: str, what: str, unit: str, value: float | None, limit: float) -> Check:
    return Check(scenario, TITLES.get(row, row), what, unit, value, limit)


def _of_row(scenario: str, row: str, rows: Mapping[str, Sequence[Sample]]) -> Iterator[Check]:
    mine, raw = typical(rows[row]), typical(rows.get(RAW, ()))
    if raw.downtime_ms is not None:
        limit = raw.downtime_ms + OVER_RAW_MS
        yield _check(scenario, row, "downtime, raw QMP + 15 ms", "ms", mine.downtime_ms, limit)
    if scenario == "idle":
        yield _check(scenario, row, "request to first byte", "s", mine.first_byte_s, FIRST_BYTE_S)
        yield _check(scenario, row, "lost at 10 ms, worst move", "", _worst(rows[row], "lost_10ms"), LOST_10MS)
        yield _check(scenario, row, "lost at 1 s, worst move", "", _worst(rows[row], "lost_1s"), 0)
    if scenario == "idle-1g" and (mine.sent_bytes or 0) >= ENOUGH_BYTES:
        share = middle(s.share_of_goodput for s in rows[row] if not s.error)
        yield _check(scenario, row, "total / (bytes sent / goodput)", "x", share, OVER_GOODPUT)
    for peer in (p for p in (LIBVIRT, LIBVIRT_30) if p in rows):
        theirs = typical(rows[peer])
        if scenario in WALL_OF_LIBVIRT:
            limit, name = WALL_OF_LIBVIRT[scenario], TITLES[peer]
            yield _check(scenario, row, f"wall / {name}", "x", ratio(mine.wall_s, theirs.wall_s), limit)
            share = ratio(mine.total_s, theirs.wall_s)
            yield _check(scenario, row, f"request to running / wall of {name}", "x", share, limit)
        share = ratio(mine.max_gap_ms, theirs.max_gap_ms)
        yield _check(scenario, row, f"ping gap / {TITLES[peer]}", "x", share, GAP_OF_LIBVIRT)


def _worst(samples: Sequence[Sample], figure: str) -> float | None:
    known = [v for s in samples if not s.error and (v := getattr(s, figure)) is not None]
    return float(max(known)) if known else None
