"""How long a switchover a live migration may take next: the ladder of downtime limits.

QEMU spends all of `downtime-limit` whenever memory is dirtied (measured.md), so the limit starts low and
rises only when the rounds stop shrinking.
"""

from __future__ import annotations

from collections.abc import Sequence

from zugvogel.domain.migration import Round

LADDER_MS = (30, 60, 120, 300)
SHRINKING = 0.75
"""A round shrinks when it leaves less than this share of what the round before left."""


def next_limit_ms(current_ms: int, rounds: Sequence[Round], bound_ms: int) -> int:
    """The downtime limit after the last of `rounds` ended; never above `bound_ms`, never below `current_ms`.

    One rung up as soon as a round fails to shrink what remains.
    """
    if current_ms >= bound_ms or len(rounds) < 2:
        return min(current_ms, bound_ms)
    last, before = rounds[-1], rounds[-2]
    if last.remaining_bytes < SHRINKING * before.remaining_bytes:
        return current_ms
    higher = [ms for ms in (*LADDER_MS, 500, 1000, 2000, 5000, 10_000) if ms > current_ms]
    return min(higher[0] if higher else bound_ms, bound_ms)


def first_limit_ms(bound_ms: int) -> int:
    return min(LADDER_MS[0], bound_ms)


def channels_for(cores: int) -> int:
    """Streams for a migration between hosts of which the smaller has `cores`: one for every four, at most four.
    Where cores are few, several streams compete with the vCPUs and with each other, and the last of them
    lengthens the switchover (measured: docs, "Measurements")."""
    return max(1, min(4, cores // 4))
