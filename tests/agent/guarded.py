"""Processes that stand for QEMUs, and a guard that is told of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zugvogel.adapters import processes
from zugvogel.domain.guard import GuardedVm, GuardOrders

DEADLINE_S = 20.0


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.01)


class GuardedHost:
    """`run_dir` of one host, its guards, and its processes."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.folder = run_dir / "guard"
        self.folder.mkdir()
        self._mine: list[subprocess.Popen[bytes]] = []

    def vm(self, name: str, datastore: str = "ds") -> GuardedVm:
        process = subprocess.Popen(["sleep", "600"])
        self._mine.append(process)
        start = processes.start_time(process.pid)
        assert start is not None
        return GuardedVm(vm=name, pid=process.pid, start=start, datastore=datastore)

    def guard(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-m", "zugvogel.agent.guard", str(self.run_dir)])
        self._mine.append(process)
        return process

    def tell(self, *vms: GuardedVm, good_at: dict[str, float], is_armed: bool = True) -> None:
        orders = GuardOrders(is_armed=is_armed, freeze_after_s=30.0, good_at=good_at, vms=vms)
        temporary = self.folder / "orders.test"
        temporary.write_text(orders.model_dump_json())
        temporary.replace(self.folder / "orders.json")

    def report(self) -> dict[str, Any]:
        path = self.folder / "report.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def ticks(self) -> None:
        """Until the guard has made a whole round that began after now."""
        since = now()
        until(lambda: self.report().get("ticked_at", 0) > since, "a round of the guard")

    def close(self) -> None:
        for process in self._mine:
            process.kill()
            process.wait()

    def end_guard(self) -> None:
        """Whoever started it."""
        lock = self.folder / "lock"
        words = lock.read_text().split() if lock.exists() else []
        if len(words) == 2:
            pid, start = map(int, words)
            processes.send(pid, start, signal.SIGKILL)
            until(lambda: processes.start_time(pid) != start or os.getpid() == pid, "the end of the guard")
