"""What must hold before the lab touches anything: root, tools, one lab command at a time, folders to mount on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from zugvogel.errors import Refused
from zugvogel.lab import processes
from zugvogel.lab.init import HOST_FOLDERS
from zugvogel.lab.layout import SHARED_IN_HOST, Layout

_TOOLS = {
    "ip": "iproute2",
    "tc": "iproute2",
    "nsenter": "util-linux",
    "bindfs": "bindfs",
    "dnsmasq": "dnsmasq-base",
}
_FOLDERS_MADE = Path("/run/zugvogel-lab.folders")


def require_root() -> None:
    """Raises Refused."""
    if os.geteuid() != 0:
        raise Refused("the lab makes namespaces and mounts and needs root", "run it with sudo")


def require_tools() -> None:
    """Raises Refused with all missing packages."""
    missing = sorted({package for tool, package in _TOOLS.items() if shutil.which(tool) is None})
    if missing:
        raise Refused(f"the lab needs {', '.join(missing)}", "run `make setup`")
    if not Path("/dev/fuse").exists():
        raise Refused("this kernel has no /dev/fuse, which the lab's datastore needs", "load the module fuse")


@contextlib.contextmanager
def exclusively(layout: Layout, *, wait_s: float = 0.0) -> Iterator[None]:
    """One changing command a lab. Raises Refused, naming the other's pid, when it is at work after `wait_s`."""
    fd = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + wait_s
        while not _try_lock(fd):
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            other = os.pread(fd, 20, 0).decode().strip()
            raise Refused(
                f"another lab command is at work (process {other})", "wait for it, or end it and run `zv lab down`"
            )
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def make_mount_points() -> None:
    """Folders that hosts mount over must exist on the machine; those made here are remembered."""
    for path in (*map(Path, HOST_FOLDERS.values()), SHARED_IN_HOST.parent):
        if not path.exists():
            with _FOLDERS_MADE.open("a") as file:
                file.write(f"{path}\n")
            path.mkdir(parents=True)


def remove_mount_points(layout: Layout) -> None:
    """Those that labs made and that are empty, unless another lab still mounts over them."""
    if not _FOLDERS_MADE.exists() or processes.of_other_labs(layout.root):
        return
    for line in set(_FOLDERS_MADE.read_text().splitlines()):
        with contextlib.suppress(OSError):
            Path(line).rmdir()
    _FOLDERS_MADE.unlink()
