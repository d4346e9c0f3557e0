"""The guard of this host as services see it: orders and reports as files on tmpfs, and its process."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

from pydantic import ValidationError

from zugvogel.adapters import processes
from zugvogel.core.guarding import LOCK_FILE, ORDERS_FILE, REPORT_FILE
from zugvogel.domain.guard import GuardOrders, GuardReport

log = logging.getLogger(__name__)

MODULE = "zugvogel.agent.guard"
LOG_FILE = "guard.log"
HUNG_CALLS = 4
"""A guard is hung when so many calls in a row have found the same last round. Calls and not seconds: after a hang
of the whole host nobody may judge before everybody has had its turn."""


class ProcessGuard:
    """`zugvogel.ports.guard.Guard`. The guard outlives the agent; whoever comes next finds it by its lock.
    `run_dir` must not outlive the host's boot (/run)."""

    def __init__(self, run_dir: Path, log_dir: Path) -> None:
        self._run_dir = run_dir
        self._folder = run_dir / "guard"
        self._log_file = log_dir / LOG_FILE
        self._child: subprocess.Popen[bytes] | None = None
        self._seen: float | None = None
        self._seen_calls = 0
        self._failure = ""

    def tell(self, orders: GuardOrders) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = self._folder / f"{ORDERS_FILE}.{os.getpid()}"
            temporary.write_text(orders.model_dump_json())
            temporary.replace(self._folder / ORDERS_FILE)
        except OSError as error:
            self._log_once(f"the guard was not told: {error}; it will freeze vms")
        else:
            self._failure = ""

    def told(self) -> GuardOrders | None:
        with contextlib.suppress(OSError, ValidationError):
            return GuardOrders.model_validate_json((self._folder / ORDERS_FILE).read_bytes())
        return None

    def report(self) -> GuardReport | None:
        with contextlib.suppress(OSError, ValidationError):
            return GuardReport.model_validate_json((self._folder / REPORT_FILE).read_bytes())
        return None

    def ensure_running(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._is_held():
                self._end_hung()
            elif self._child is None or self._child.poll() is not None:
                self._start()
        except OSError as error:
            self._log_once(f"the guard was not started: {error}")

    def _is_held(self) -> bool:
        """Some guard has the lock. (One that is just starting waits while it is tried here.)"""
        fd = os.open(self._folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def _start(self) -> None:
        self._seen_calls = 0
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        with self._log_file.open("ab") as output:
            self._child = subprocess.Popen(
                [sys.executable, "-m", MODULE, str(self._run_dir)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
            )
        log.info("guard started (pid %d)", self._child.pid)

    def _end_hung(self) -> None:
        """The next call starts another one."""
        report = self.report()
        seen = report.ticked_at if report is not None else None
        self._seen_calls = self._seen_calls + 1 if seen == self._seen else 1
        self._seen = seen
        if self._seen_calls < HUNG_CALLS:
            return
        self._seen_calls = 0
        with contextlib.suppress(ValueError):
            pid, start = map(int, (self._folder / LOCK_FILE).read_text().split())
            if processes.send(pid, start, signal.SIGKILL):
                log.error("guard (pid %d) hung and was ended", pid)

    def _log_once(self, text: str) -> None:
        if text != self._failure:
            log.error("%s", text)
        self._failure = text
