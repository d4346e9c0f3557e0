"""A process named by its pid and its start time, so that a pid that is used again is never taken for it.

The guard imports this module into its locked memory: nothing large is imported here.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path


def start_time(pid: int) -> int | None:
    """Clock ticks since boot at which `pid` started; None when there is no such process (or a zombie)."""
    fields = _stat(Path(f"/proc/{pid}/stat"))
    return None if not fields or fields[0] in "ZX" else int(fields[19])


def is_stopped(pid: int) -> bool:
    """It was given SIGSTOP and no SIGCONT since. A main thread that waits for a disk stops when that answers; the
    other threads stop at once and tell."""
    state = _state(Path(f"/proc/{pid}/stat"))
    if state != "D":
        return state == "T"
    try:
        return any(_state(thread / "stat") == "T" for thread in Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return False


def send(pid: int, start: int, number: signal.Signals) -> bool:
    """Signal exactly that process. False: it is gone."""
    try:
        fd = os.pidfd_open(pid)
    except (OSError, OverflowError):
        return False
    try:
        if start_time(pid) != start:  # looked at after it is held: another one cannot slip in between
            return False
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def _state(path: Path) -> str:
    fields = _stat(path)
    return fields[0] if fields else ""


def _stat(path: Path) -> list[str]:
    """Fields after the name, from the state on; none when it is gone."""
    try:
        return path.read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return []
