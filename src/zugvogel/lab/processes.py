"""Finding and ending the processes of a lab through /proc, never by name."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from zugvogel.errors import ProcedureFailed
from zugvogel.lab.layout import MARK_VARIABLE

_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


def all_pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def pid_namespace(pid: int) -> str:
    """Identity of its pid namespace; empty when it is gone."""
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except _GONE:
        return ""


def state(pid: int) -> str:
    """``R S D T Z ...``; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except _GONE:
        return ""


def start_ticks(pid: int) -> str:
    """With the pid the identity of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except _GONE:
        return ""


def command_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except _GONE:
        return ""


def arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    except _GONE:
        return []


def inner_pid(pid: int) -> int:
    """Its pid inside its own pid namespace; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    except _GONE:
        pass
    return 0


def in_namespace(namespace: str) -> list[int]:
    """Living processes (zombies not counted) of a pid namespace."""
    if not namespace:
        return []
    return [pid for pid in all_pids() if pid_namespace(pid) == namespace and state(pid) not in ("Z", "X", "")]


def of_lab(root: Path) -> list[int]:
    """Processes marked with this lab's root, without this process and its ancestors."""
    mine = set(_ancestors())
    return [pid for pid in all_pids() if pid not in mine and is_of_lab(pid, root)]


def is_of_lab(pid: int, root: Path) -> bool:
    return f"{MARK_VARIABLE}={root}".encode() in _environment(pid)


def of_other_labs(root: Path) -> list[int]:
    mark, ours = f"{MARK_VARIABLE}=".encode(), f"{MARK_VARIABLE}={root}".encode()
    return [pid for pid in all_pids() if any(v.startswith(mark) and v != ours for v in _environment(pid))]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (*_GONE, OSError):
        return []


def _ancestors() -> Iterator[int]:
    pid = os.getpid()
    while pid > 0:
        yield pid
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except _GONE:
            return


def send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def wait_until(condition: Callable[[], bool], *, seconds: float, else_say: str) -> None:
    """Raises ProcedureFailed with `else_say` when the condition is not met in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ProcedureFailed(else_say)
        time.sleep(0.02)
