"""Counters that grow when a guest does something that is seen from outside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

DEVICES = Path("/proc/net/dev")
OPERATIONS = ("rd_operations", "wr_operations", "flush_operations", "unmap_operations", "zone_append_operations")


def operations(blockstats: Sequence[dict[str, Any]]) -> int:
    """Of all disks, from query-blockstats; those that failed too."""
    return sum(
        int(disk["stats"].get(name, 0))
        for disk in blockstats
        for kind in OPERATIONS
        for name in (kind, f"failed_{kind}")
    )


def packets_sent(taps: Sequence[str], devices: Path = DEVICES) -> int:
    """By the guest: what comes in on its taps. What it is sent, such as broadcasts, says nothing of it. 0: no tap,
    or they cannot be read."""
    try:
        lines = devices.read_text().splitlines()
    except OSError:
        return 0
    counted = {name.strip(): fields.split() for name, _, fields in (line.partition(":") for line in lines)}
    return sum(int(counted[tap][1]) for tap in taps if len(counted.get(tap, ())) > 1)
