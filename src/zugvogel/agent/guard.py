"""`python -m zugvogel.agent.guard RUN_DIR`: freezes the QEMUs of this host when it may no longer run them.

A process of its own, so that an agent that is stuck or dead cannot keep vms running past their right. It depends
on as little as can be: no datastore, no network, no thread, no log file; its memory is locked, its priority
real-time. It freezes (SIGSTOP) and does nothing else: it kills nothing and never thaws.

What it reads and writes lies in RUN_DIR/guard, on tmpfs: the agent's ``orders.json``, its own ``report.json``.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

from zugvogel.adapters import processes
from zugvogel.agent.watchdog import Watchdog
from zugvogel.core.guarding import LOCK_FILE, ORDERS_FILE, REPORT_FILE, may_feed_watchdog, vms_to_freeze

TICK_S = 0.1
IDLE_S = 60.0
"""Without orders and without a QEMU for so long, it ends by itself."""
LOCK_S = 2.0
PRIORITY = 10
_ENDING = {signal.SIGTERM, signal.SIGINT}
_MCL_CURRENT, _MCL_FUTURE = 1, 2


class GuardedVm(NamedTuple):
    """As `zugvogel.domain.guard.GuardedVm`, without what it takes in memory."""

    vm: str
    pid: int
    start: int
    datastore: str


class Orders(NamedTuple):
    """As `zugvogel.domain.guard.GuardOrders`."""

    is_armed: bool
    freeze_after_s: float
    good_at: dict[str, float]
    heard_at: float | None
    vms: tuple[GuardedVm, ...]


def parse(raw: bytes) -> Orders:
    """Raises ValueError, KeyError or TypeError for anything that is no orders."""
    data = json.loads(raw)
    heard_at = data.get("heard_at")
    return Orders(
        is_armed=bool(data["is_armed"]),
        freeze_after_s=float(data["freeze_after_s"]),
        good_at={str(name): float(at) for name, at in data["good_at"].items()},
        heard_at=None if heard_at is None else float(heard_at),
        vms=tuple(
            GuardedVm(str(v["vm"]), int(v["pid"]), int(v["start"]), str(v["datastore"])) for v in data["vms"]
        ),
    )


class OrdersFile:
    """`orders` are the last that were read: a file that goes or is damaged changes nothing, so that its times go
    stale."""

    def __init__(self, path: Path) -> None:
        self.orders: Orders | None = None
        self.is_there = False
        self.trouble = ""
        self._path = path
        self._mark = (0, 0)

    def look(self) -> None:
        """The file is replaced as a whole, so its identity tells whether it is another one."""
        try:
            found = self._path.stat()
            self.is_there = True
            mark = (found.st_ino, found.st_mtime_ns)
            if mark != self._mark:
                self.orders = parse(self._path.read_bytes())
                self._mark, self.trouble = mark, ""
        except FileNotFoundError:
            self.is_there = False
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self.trouble = f"{self._path} cannot be read: {type(error).__name__}: {error}"


class Guard:
    """`granted`: what the kernel has granted this process, for its report."""

    def __init__(self, folder: Path, watchdog: Watchdog, granted: dict[str, bool]) -> None:
        self._file = OrdersFile(folder / ORDERS_FILE)
        self._report = folder / REPORT_FILE
        self._watchdog = watchdog
        self._granted = granted
        self._frozen: dict[str, float] = {}
        self._idle_since: float | None = None
        self._said = ""

    def run(self) -> None:
        """Until SIGTERM, or until there has been nothing to guard for long. The signals must be blocked."""
        while not self.is_idle(_now()):
            try:
                self.round(_now())
            except Exception as error:  # a defect must not end it: the next round may freeze what this one did not
                self._say_once(f"{type(error).__name__}: {error}")
            if signal.sigtimedwait(_ENDING, TICK_S) is not None:
                break
        self._watchdog.close()

    def round(self, now: float) -> None:
        self._file.look()
        orders = self._file.orders
        if orders is not None:
            self._freeze(orders, now)
            self._tend_watchdog(orders, now)
        self._tell(now)

    def is_idle(self, now: float) -> bool:
        if self._file.is_there or self._has_vms():
            self._idle_since = None
            return False
        if self._idle_since is None:
            self._idle_since = now
        return now - self._idle_since > IDLE_S

    def _has_vms(self) -> bool:
        vms = self._file.orders.vms if self._file.orders is not None else ()
        return any(processes.start_time(vm.pid) == vm.start for vm in vms)

    def _freeze(self, orders: Orders, now: float) -> None:
        """In each round anew: whoever lets one go without the right to is stopped again."""
        frozen = {}
        for vm in vms_to_freeze(orders, now):
            if processes.send(vm.pid, vm.start, signal.SIGSTOP):
                frozen[vm.vm] = self._frozen.get(vm.vm, now)
        self._frozen = frozen

    def _tend_watchdog(self, orders: Orders, now: float) -> None:
        if not orders.is_armed:
            self._watchdog.release()
            return
        self._watchdog.hold(orders.freeze_after_s, now)
        if may_feed_watchdog(orders, now):
            self._watchdog.feed()

    def _tell(self, now: float) -> None:
        report = {
            "ticked_at": now,
            "frozen": self._frozen,
            "has_watchdog": self._watchdog.is_held,
            **self._granted,
            "trouble": self._file.trouble or self._watchdog.trouble,
        }
        temporary = self._report.with_suffix(".new")
        try:
            temporary.write_bytes(json.dumps(report).encode())
            temporary.replace(self._report)
        except OSError:
            return  # a report that grows old is told of by the agent

    def _say_once(self, text: str) -> None:
        if text != self._said:
            _say(text)
        self._said = text


def become_dependable() -> dict[str, bool]:
    """Locked memory, real-time priority, out of reach of the kernel's search for memory; each as far as it is
    granted."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        Path("/proc/self/oom_score_adj").write_text("-1000")
    except OSError as error:
        _say(f"the kernel may end it for want of memory: {error}")
    locked = ctypes.CDLL(None, use_errno=True).mlockall(_MCL_CURRENT | _MCL_FUTURE) == 0
    if not locked:
        _say(f"its memory is not locked: {os.strerror(ctypes.get_errno())}")
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError as error:
        _say(f"no real-time priority: {error}")
        return {"is_realtime": False, "is_memory_locked": locked}
    return {"is_realtime": True, "is_memory_locked": locked}


def lock(folder: Path) -> int | None:
    """The lock that makes it the only guard, held until it ends; None: another one has it. Names its holder."""
    fd = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = _now() + LOCK_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if _now() > deadline:
                os.close(fd)
                return None
            time.sleep(TICK_S)
    os.ftruncate(fd, 0)
    os.write(fd, f"{os.getpid()} {processes.start_time(os.getpid())}".encode())
    return fd


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0]) / "guard"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    held = lock(folder)
    if held is None:
        _say("another guard runs on this host")
        return 0
    guard = Guard(folder, Watchdog(), become_dependable())
    _say("starts")
    guard.run()
    os.close(held)
    _say("ends")
    return 0


def _say(text: str) -> None:
    """Hardly ever between its rounds: a log file may lie on a disk that hangs."""
    print(f"guard {os.getpid()}: {text}", file=sys.stderr, flush=True)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
