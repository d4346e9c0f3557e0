"""QEMU's image lock, looked at without taking it.

A QEMU that may write to an image holds a shared OFD lock on byte 101 of its file ("RAW_LOCK_PERM_BASE" 100, plus
the number of the permission; writing is number 1: block/file-posix.c). It is found as another QEMU finds it before
it starts: by asking whether an exclusive lock of that byte could be had.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

WRITING_BYTE = 101
_FLOCK = "hhqqi0q"
"""struct flock: type, whence, start, length, pid."""


def may_be_written(image: Path) -> bool:
    """A process, here or on another host, has it open to write. False too where there is no such file, and where
    the file system keeps no locks for others to see. Raises OSError."""
    try:
        fd = os.open(image, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, WRITING_BYTE, 1, 0)
        told = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked)
    finally:
        os.close(fd)
    found: int = struct.unpack(_FLOCK, told)[0]
    return found != fcntl.F_UNLCK
