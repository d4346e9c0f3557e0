"""A QEMU process of ours: found again by pid and start time, watched by pidfd, ended by signal.

The process is no child in the strict sense: it outlives the agent that spawned it. ``spawn.json`` in its run
directory is what a later agent knows of it; only root may write there, because root trusts it. QEMU's own
sockets are in the directory ``sock`` below it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zugvogel.adapters.processes import start_time

SPAWN_FILE = "spawn.json"
SOCKETS = "sock"


@dataclass(slots=True)
class Spawned:
    """Contents of ``spawn.json``."""

    vm: str
    pid: int
    start: int
    taps: list[str]
    tags: dict[str, Any]

    def save(self, directory: Path) -> None:
        data = {"vm": self.vm, "pid": self.pid, "start": self.start, "taps": self.taps, "tags": self.tags}
        temporary = directory / f".{SPAWN_FILE}.{os.getpid()}"
        temporary.write_text(json.dumps(data))
        temporary.replace(directory / SPAWN_FILE)

    @staticmethod
    def load(directory: Path) -> Spawned | None:
        """None where the file is missing or was never finished."""
        try:
            return Spawned(**json.loads((directory / SPAWN_FILE).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    @property
    def is_alive(self) -> bool:
        return start_time(self.pid) == self.start


class ProcessWatch:
    """Calls `on_exit(returncode, how)` once, in the loop, when the process ends; reaps it if it is a child.
    Whoever cleans up after it calls `settle`; until then `wait` waits."""

    def __init__(self, pid: int, on_exit: Callable[[int | None, str], None]) -> None:
        self._pid = pid
        self._on_exit = on_exit
        self._fd = os.pidfd_open(pid)
        self._settled = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._fd, self._ready)

    @property
    def is_alive(self) -> bool:
        return self._fd >= 0

    def _ready(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        returncode, how = _how_it_ended(self._pid)
        os.close(self._fd)
        self._fd = -1
        self._on_exit(returncode, how)

    def close(self) -> None:
        """Watch no more."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def settle(self) -> None:
        self._settled.set()

    def signal(self, number: signal.Signals) -> None:
        if self._fd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, number)

    async def wait(self, timeout_s: float) -> bool:
        """Until it has ended and was cleaned up after."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._settled.wait(), timeout_s)
        return self._settled.is_set()


def processes_with(argument: str) -> list[int]:
    """Pids of processes that have `argument` in one of their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if argument.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def reap(pid: int) -> None:
    """A child that has ended leaves no zombie."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _how_it_ended(pid: int) -> tuple[int | None, str]:
    """(exit code, negative for a signal; in words). An adopted process is no child: its status is not ours to
    know."""
    try:
        _, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None, "it ended"
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return code, f"killed by signal {-code} ({signal.Signals(-code).name})"
    return code, f"exited with status {code}"
