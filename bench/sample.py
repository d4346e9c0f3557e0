"""One measured move, and the medians of several. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from statistics import median
from typing import Any


@dataclass(slots=True)
class Sample:
    """`wall_s`: from the command's start until it ends, as a user waits. `total_s`: from the request until the
    guest runs on the target. `downtime_ms`: STOP on the source to RESUME on the target. `max_gap_ms` and the
    lost packets: ping at 10 ms and at 1 s spacing. None: this contender does not tell."""

    wall_s: float | None = None
    total_s: float | None = None
    stream_s: float | None = None
    downtime_ms: float | None = None
    sent_bytes: int | None = None
    first_byte_s: float | None = None
    rounds: int | None = None
    max_gap_ms: float | None = None
    lost_10ms: int | None = None
    lost_1s: int | None = None
    goodput_bps: float | None = None
    """Bytes/s of a plain TCP connection over the same link, just before the move."""
    nonzero_bytes: int | None = None
    """The guest's RAM that was not zero just before the move."""
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds of each phase as Zugvogel's report names them."""
    error: str = ""

    @property
    def share_of_goodput(self) -> float | None:
        """`total_s` over the time that the bytes sent take at the goodput."""
        if not (self.total_s and self.sent_bytes and self.goodput_bps):
            return None
        return self.total_s / (self.sent_bytes / self.goodput_bps)

    def share_of_wire(self, link_mbit: int) -> float | None:
        """`total_s` over the time that the non-zero RAM takes at the link's rate."""
        if not (self.total_s and self.nonzero_bytes and link_mbit):
            return None
        return self.total_s / (self.nonzero_bytes / (link_mbit * 125_000))

    def as_dict(self) -> dict[str, Any]:
        return {key: round(v, 4) if isinstance(v, float) else v for key, v in asdict(self).items()}


_FIGURES = tuple(f.name for f in fields(Sample) if f.name not in {"error", "phases"})


def typical(samples: Sequence[Sample]) -> Sample:
    """Median of each figure over the samples that have it; those that failed do not count."""
    good = [s for s in samples if not s.error]
    found = Sample(error="" if good else "; ".join(sorted({s.error for s in samples})) or "not measured")
    for name in _FIGURES:
        values = [v for s in good if (v := getattr(s, name)) is not None]
        if values:
            setattr(found, name, median(values))
    return found


def middle(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return median(known) if known else None


def ratio(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else value / base
