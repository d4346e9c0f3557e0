"""How fast a vm's memory may be written, so that the beats on the same datastore stay in time."""

from __future__ import annotations

SLOW_ABOVE = 0.1
"""Of the detection time: a beat that takes longer makes the writer slow down."""
FREE_BELOW = 0.05
LEAST_BPS = 8 << 20
UNLIMITED = 0


def next_limit(limit_bps: int, written_bps: float, beat_s: float, detection_time_s: float) -> int:
    """Bytes per second from now on; `UNLIMITED` (0) where nothing holds it back.

    `written_bps`: what the writer made since the last look; `beat_s`: what a beat takes on the datastore now.
    """
    if beat_s > SLOW_ABOVE * detection_time_s:
        now = written_bps if limit_bps == UNLIMITED else min(limit_bps, written_bps)
        return max(LEAST_BPS, int(now / 2))
    if limit_bps == UNLIMITED or beat_s >= FREE_BELOW * detection_time_s:
        return limit_bps
    raised = limit_bps * 3 // 2
    return UNLIMITED if raised > 4 * written_bps and written_bps > 0 else raised
