"""Failpoints: places where a test can hold an agent, to cut it there. A no-op in production."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

VARIABLE = "ZUGVOGEL_FAILPOINTS"
LONGEST_HOLD_S = 120.0


async def failpoint(step: str) -> None:
    """While the file ``<dir>/<step>`` exists, wait; ``<step>.reached`` tells the test that it waits."""
    directory = os.environ.get(VARIABLE)
    if not directory:
        return
    hold = Path(directory) / step
    if not hold.exists():
        return
    hold.with_name(f"{step}.reached").touch()
    for _ in range(int(LONGEST_HOLD_S / 0.02)):
        if not hold.exists():
            return
        await asyncio.sleep(0.02)
