"""The logs of a vm on this host: never followed through a link, kept to a bounded size."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

KEPT_BYTES = 4 << 20
"""A log above this is kept as ``<name>.1`` when the vm starts."""
RUNNING_BYTES = 32 << 20
"""A log of a running vm above this is cut; what was in it is kept as ``<name>.1``."""
TAIL_BYTES = 256 << 10


def open_for_append(path: Path, owner: int) -> int:
    """A file descriptor; the file is made if need be and belongs to `owner` (uid)."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    os.fchown(fd, owner, -1)
    return fd


def keep_previous(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.is_symlink():
            path.unlink()
        elif path.lstat().st_size > KEPT_BYTES:
            path.replace(_previous(path))


def bound(path: Path) -> None:
    """QEMU has the file open for appending, so it is copied and cut, not renamed."""
    with contextlib.suppress(OSError):
        if path.is_symlink() or path.lstat().st_size <= RUNNING_BYTES:
            return
        _previous(path).unlink(missing_ok=True)
        kept = os.open(_previous(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o640)
        with path.open("rb") as full, os.fdopen(kept, "wb") as copy:
            full.seek(-KEPT_BYTES, os.SEEK_END)
            copy.write(full.read(KEPT_BYTES))
        os.truncate(path, 0)


def _previous(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def tail(path: Path, lines: int) -> str:
    """The last `lines` lines, at most 256 KiB; empty where there is no log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return b"\n".join(file.read().splitlines()[-lines:]).decode(errors="replace")
    except OSError:
        return ""
