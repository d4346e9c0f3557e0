"""Linux namespaces and mounts from Python 3.11: the few system calls the lab needs, by ctypes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from zugvogel.errors import ProcedureFailed, Refused

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Raises OSError."""
    _check(_libc.unshare(flags), "unshare")


def enter_netns(path: Path) -> None:
    """Moves the calling thread, nothing else. Raises Refused when the namespace is not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Refused(f"the lab has no network namespace {path.name}", "run `zv lab status`") from None
    try:
        _check(_libc.setns(fd, CLONE_NEWNET), f"setns {path}")
    finally:
        os.close(fd)


def mount(source: str, target: Path, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Raises OSError."""
    result = _libc.mount(
        source.encode(), os.fsencode(target), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None
    )
    _check(result, f"mount {target}")


def unmount(target: Path) -> None:
    """Detaches now, even when busy or hung. Raises OSError."""
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH), f"umount {target}")


def mounts_below(root: Path, pid: str = "self") -> Iterator[Path]:
    """Mount points at or below `root` in the mount namespace of `pid`, the deepest first."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
        points = [Path(line.split()[4].encode().decode("unicode_escape")) for line in lines]
        yield from (point for point in reversed(points) if point.is_relative_to(root))


def in_netns(path: Path, function: Callable[[], T]) -> T:
    """`function()` run in a thread that has entered the network namespace. Its exception is raised here."""
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            enter_netns(path)
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name=f"in {path.name}", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def run(arguments: Sequence[str], *, what: str = "") -> str:
    """Standard output of a command. Raises ProcedureFailed with its last line of error output."""
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit {done.returncode}"]
        raise ProcedureFailed(f"{what or ' '.join(arguments)} failed: {lines[-1]}")
    return done.stdout


def ip(*arguments: str, netns: str = "") -> str:
    """`ip` inside a named network namespace (or here). Raises ProcedureFailed."""
    return run(["ip", *(["-n", netns] if netns else []), *arguments])


def tc(netns: str, *arguments: str) -> str:
    return run(["tc", "-n", netns, *arguments])


def add_netns(name: str) -> None:
    """A fresh namespace with loopback up and no IPv6 (the lab's switch carries only what we look for)."""
    ip("netns", "add", name)
    ip("link", "set", "lo", "up", netns=name)

    def quiet() -> None:
        for scope in ("all", "default"):
            setting = Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6")
            if setting.exists():
                setting.write_text("1")

    in_netns(Path("/run/netns") / name, quiet)


def netns_names(prefix: str) -> list[str]:
    folder = Path("/run/netns")
    return sorted(p.name for p in folder.iterdir() if p.name.startswith(prefix)) if folder.is_dir() else []
