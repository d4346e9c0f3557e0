"""The file system under a path, from /proc/self/mountinfo (proc(5))."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from zugvogel.core.filesystems import classify
from zugvogel.domain.datastore import FileSystem
from zugvogel.errors import Refused

_ESCAPE = re.compile(r"\\([0-7]{3})")


def recognise(path: str) -> FileSystem:
    """Blocking. Raises `Refused` when `path` is no directory."""
    real = os.path.realpath(path)
    if not path.startswith("/") or not Path(real).is_dir():
        raise Refused(f"{path} is no directory on this host", "mount the datastore there first")
    return find_mount(Path("/proc/self/mountinfo").read_text(), real)


def find_mount(mountinfo: str, path: str) -> FileSystem:
    """The mount with the longest prefix of `path`; of two at one place the later covers the earlier."""
    best, depth = classify("unknown", "", ""), -1
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if len(fields) < 6 or len(tail) < 2:
            continue
        point = PurePosixPath(_plain(fields[4]))
        if PurePosixPath(path).is_relative_to(point) and len(point.parts) >= depth:
            depth = len(point.parts)
            best = classify(tail[0], _plain(tail[1]), tail[2] if len(tail) > 2 else "")
    return best


def _plain(field: str) -> str:
    return _ESCAPE.sub(lambda m: chr(int(m[1], 8)), field)
