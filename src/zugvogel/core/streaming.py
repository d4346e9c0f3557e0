"""When a vm's memory is written while it runs: whether that ends, and when to stop the vm for the rest.

The guest changes memory while it is written, so it is written in rounds, each of what was changed during the one
before. It ends when the rounds shrink, that is when the guest changes less than the datastore takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from zugvogel.domain.migration import Round

STREAM_SHARE = 0.7
"""A guest that changes more than this share of what the datastore takes is stopped first: the rounds would hardly
shrink."""
SPACE_FACTOR = 2
"""The whole memory once, and room for as much again in later rounds."""
LAST_ROUND_S = 0.06
"""The vm is stopped when what is left is written within this time."""
STREAMED_OUTAGE_S = 0.3 + LAST_ROUND_S
MOST_ROUNDS = 40
SHRINKING = 0.8
STUBBORN_ROUNDS = 3
"""So many rounds on end that did not shrink by a fifth: it gets no better."""


@dataclass(frozen=True, slots=True)
class Method:
    """`is_streamed`: written while the vm runs. `why`: in a sentence, for people; empty where it was asked for."""

    is_streamed: bool
    why: str


def choose(
    wish: bool | None, used_bytes: int, free_bytes: int, write_bps: float, dirty_bps: float | None
) -> Method:
    """How to save. `wish`: streamed, stop-first, or None for whatever serves best. `dirty_bps` None: not known, so
    the rounds will tell."""
    if wish is False:
        return Method(False, "")
    if free_bytes < SPACE_FACTOR * used_bytes:
        need = SPACE_FACTOR * used_bytes >> 20
        return Method(False, f"stop-first: streaming needs {need} MiB free, there are {free_bytes >> 20}")
    if dirty_bps is not None and write_bps and dirty_bps > STREAM_SHARE * write_bps:
        return Method(
            False,
            f"stop-first: the guest changes {dirty_bps / 1e6:.0f} MB/s, the datastore takes {write_bps / 1e6:.0f}",
        )
    return Method(True, "streamed: it runs on while its memory is written")


def most_bytes(used_bytes: int, free_bytes: int) -> int:
    """How long the file may grow."""
    return min(4 * used_bytes, free_bytes)


def is_small(remaining_bytes: int, bps: float) -> bool:
    """What is left takes no longer than the last round may."""
    return remaining_bytes <= LAST_ROUND_S * bps


def why_no_further(rounds: Sequence[Round], written_bytes: int, most: int) -> str:
    """Why no further round is worth it; empty: go on. `rounds` are the finished ones."""
    if len(rounds) >= MOST_ROUNDS:
        return f"{MOST_ROUNDS} rounds did not suffice"
    if rounds and written_bytes + 2 * rounds[-1].remaining_bytes > most:
        return f"the file had grown to {written_bytes / 1e6:.0f} MB"
    last = rounds[-STUBBORN_ROUNDS - 1 :]
    if len(last) > STUBBORN_ROUNDS and all(
        after.remaining_bytes > SHRINKING * before.remaining_bytes for before, after in pairwise(last)
    ):
        return "the rounds did not shrink: the guest changes its memory about as fast as it is written"
    return ""
