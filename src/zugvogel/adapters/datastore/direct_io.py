"""Reads and writes past the page cache of this host.

O_DIRECT asks for aligned memory: anonymous mmap gives it. Where a file system refuses O_DIRECT (EINVAL on
open or on the first transfer: tmpfs before Linux 6.6, some FUSE), O_SYNC with dropped pages takes its place; a
network client revalidates then by its close-to-open rule, since every call opens the file anew.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

BLOCK_BYTES = 4096
_UNSUPPORTED = {errno.EINVAL, errno.EOPNOTSUPP}


def write_block(path: Path, data: bytes) -> None:
    """Write `data`, padded with NUL to one block, at the start of `path`; durable when this returns.
    Makes the file (mode 0644), not its folder."""
    if len(data) > BLOCK_BYTES:
        raise ValueError(f"{len(data)} bytes do not fit a block of {BLOCK_BYTES}")
    with mmap.mmap(-1, BLOCK_BYTES) as block:
        block.write(data)
        try:
            _write(path, block, os.O_DIRECT | os.O_DSYNC)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            _write(path, block, os.O_SYNC)


def read_uncached(path: Path, limit: int = 16 * BLOCK_BYTES) -> bytes:
    """The first `limit` bytes (a multiple of a block) of `path` as the storage has them now."""
    return found_anew(path, lambda: _read_direct(path, limit))


def found_anew(path: Path, read: Callable[[], T]) -> T:
    """`read()`, which opens `path`; twice when it is not there. A network client remembers for a while that a name
    was not there. Opening the folder makes it ask (NFS: close to open), so what has just been made elsewhere is
    found."""
    try:
        return read()
    except FileNotFoundError:
        os.close(os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        return read()


def size_bytes(path: Path) -> int:
    """As the storage has it now: opened anew, so that a network client asks for it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


def _read_direct(path: Path, limit: int) -> bytes:
    with mmap.mmap(-1, limit) as buffer:
        try:
            count = _read(path, buffer, os.O_DIRECT)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            count = _read(path, buffer, 0)
        return buffer[:count]


def _write(path: Path, block: mmap.mmap, flags: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o644)
    try:
        if os.pwrite(fd, block, 0) != len(block):
            raise OSError(errno.EIO, "short write", str(path))
        if not flags & os.O_DIRECT:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def _read(path: Path, buffer: mmap.mmap, flags: int) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        if not flags & os.O_DIRECT:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.preadv(fd, [buffer], 0)
    finally:
        os.close(fd)


def pread_uncached(path: Path, places: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """What lies at each (offset, length), as the storage has it now; both a multiple of a block. Less at the
    end of the file."""
    fd, flags = _open_for_reading(path)
    try:
        with mmap.mmap(-1, max(length for _, length in places)) as buffer:
            for offset, length in places:
                view = memoryview(buffer)[:length]
                try:
                    yield bytes(view[: os.preadv(fd, [view], offset)])
                except OSError as error:
                    if error.errno not in _UNSUPPORTED or not flags:
                        raise
                    os.close(fd)
                    fd, flags = os.open(path, os.O_RDONLY | os.O_CLOEXEC), 0
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                    yield bytes(view[: os.preadv(fd, [view], offset)])
                finally:
                    view.release()
    finally:
        os.close(fd)


def _open_for_reading(path: Path) -> tuple[int, int]:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT), os.O_DIRECT
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return fd, 0
