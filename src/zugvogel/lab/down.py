"""Tear-down: leaves nothing, whatever state the lab is in, also after a crash of `lab up`.

Nothing is taken from the state file alone: processes are found by the mark in their environment, namespaces by
their names, mounts by their place.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Callable

from zugvogel.errors import ProcedureFailed, Refused
from zugvogel.lab import context_file, preconditions, processes
from zugvogel.lab.layout import Layout
from zugvogel.lab.namespaces import ip, mounts_below, netns_names, unmount


def lab_down(layout: Layout, progress: Callable[[str], None] = lambda _: None) -> bool:
    """True when there was something to remove. Raises ProcedureFailed when something resists, Refused when
    another lab command is at work or the root is not a lab's."""
    preconditions.require_root()
    with preconditions.exclusively(layout):
        found = bool(leftovers(layout))
        _end_processes(layout, progress)
        for name in netns_names(layout.prefix):
            progress(f"removing namespace {name}")
            with contextlib.suppress(ProcedureFailed):
                ip("netns", "del", name)
        for point in mounts_below(layout.root):
            unmount(point)
        _remove_root(layout)
        preconditions.remove_mount_points(layout)
        context_file.remove(context_file.NAME, owner=str(layout.ca_file))
        remaining = leftovers(layout)
        if remaining:
            raise ProcedureFailed(f"still there: {', '.join(remaining)}", "run `zv lab down` again")
        layout.lock.unlink(missing_ok=True)
    return found


def leftovers(layout: Layout) -> list[str]:
    """Everything of this lab that exists, in words."""
    return [
        *(f"process {pid}" for pid in processes.of_lab(layout.root)),
        *(f"namespace {name}" for name in netns_names(layout.prefix)),
        *(f"mount {point}" for point in mounts_below(layout.root)),
        *([f"folder {layout.root}"] if layout.mark.exists() else []),
    ]


def _end_processes(layout: Layout, progress: Callable[[str], None]) -> None:
    """Inits first: the kernel ends their namespaces with them; then whatever is left, until none is."""
    pids = processes.of_lab(layout.root)
    if pids:
        progress(f"ending {len(pids)} processes")
    for pid in pids:
        if processes.inner_pid(pid) == 1:
            processes.send(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while pids := [p for p in processes.of_lab(layout.root) if processes.state(p) not in ("Z", "X", "")]:
        for pid in pids:
            processes.send(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise ProcedureFailed(f"processes do not die: {pids}", "run `zv lab down` again")
        time.sleep(0.05)


def _remove_root(layout: Layout) -> None:
    if not layout.root.exists():
        return
    if not layout.mark.exists():
        if any(layout.root.iterdir()):
            raise Refused(f"{layout.root} is not a lab's folder: it was left alone", "check ZUGVOGEL_LAB_ROOT")
        return
    for entry in layout.root.iterdir():
        if entry != layout.mark:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    layout.mark.unlink()  # last, so that a tear-down cut short can be repeated
    layout.root.rmdir()
