"""Whom a host names in its beat as heard by it. A beat has one block, so not everybody fits in a large cluster."""

from __future__ import annotations

from collections.abc import Sequence, Set

ROOM_BYTES = 3000
"""For names and their quotes: a block less what else a beat tells."""
_QUOTES_BYTES = 3


def fits(heard: Sequence[str]) -> bool:
    return sum(map(len, heard)) + _QUOTES_BYTES * len(heard) <= ROOM_BYTES


def told(heard: Sequence[str], moving: Set[str]) -> tuple[str, ...]:
    """As many of `heard` as fit, sorted. "Heard by somebody" keeps a host from being called failed, and only one
    whose beat stands still could be: so those that are not `moving` come first."""
    kept: list[str] = []
    room = ROOM_BYTES
    for name in sorted(heard, key=lambda name: (name in moving, name)):
        room -= len(name) + _QUOTES_BYTES
        if room < 0:
            break
        kept.append(name)
    return tuple(sorted(kept))
