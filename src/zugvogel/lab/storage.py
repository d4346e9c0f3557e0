"""A host's path to the shared datastore: its own bindfs process, cut, hung and healed from outside."""

from __future__ import annotations

import signal
import sys

from zugvogel.lab import host as lab_host
from zugvogel.lab import processes
from zugvogel.lab.layout import SHARED_IN_HOST, Layout

_REMOUNT = "import sys, pathlib, zugvogel.lab.init as init; init.mount_shared(pathlib.Path(sys.argv[1]))"


def path_pids(layout: Layout, name: str) -> list[int]:
    return [pid for pid in lab_host.members(layout, name) if processes.command_name(pid) == "bindfs"]


def cut(layout: Layout, name: str) -> None:
    """Every access answers with an error ("Transport endpoint is not connected") from now on."""
    lab_host.require_init(layout, name)
    for pid in path_pids(layout, name):
        processes.send(pid, signal.SIGKILL)
    processes.wait_until(
        lambda: not path_pids(layout, name), seconds=10, else_say=f"the storage path of {name} does not end"
    )


def hang(layout: Layout, name: str) -> None:
    """Every access waits. A path that is cut stays cut."""
    lab_host.require_init(layout, name)
    for pid in path_pids(layout, name):
        processes.send(pid, signal.SIGSTOP)


def heal(layout: Layout, name: str) -> None:
    """A hung path goes on; a cut one is mounted anew (files opened before stay dead, as after a lost mount)."""
    lab_host.require_init(layout, name)
    pids = path_pids(layout, name)
    for pid in pids:
        processes.send(pid, signal.SIGCONT)
    if not pids:
        lab_host.execute(layout, name, ["umount", "--lazy", str(SHARED_IN_HOST)])
        lab_host.execute(layout, name, [sys.executable, "-c", _REMOUNT, str(layout.shared)])


def state(layout: Layout, name: str) -> str:
    """``ok``, ``cut`` or ``hung``."""
    pids = path_pids(layout, name)
    if not pids:
        return "cut"
    return "hung" if any(processes.state(pid) in ("T", "t") for pid in pids) else "ok"
