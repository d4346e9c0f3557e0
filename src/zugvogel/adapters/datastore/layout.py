"""Where things lie on a datastore, from validated names, and writes that are whole or absent."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from zugvogel.domain.base import HOST_PATTERN, NAME_PATTERN
from zugvogel.domain.datastore import Datastore
from zugvogel.errors import InvalidInput, StorageError

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}")
_NAME = re.compile(NAME_PATTERN[1:-1])
_HOST = re.compile(HOST_PATTERN[1:-1])
_counter = itertools.count()
TEMPORARY = ".tmp."


def own(path: str | Path) -> Path:
    """The folder of ours on a datastore."""
    return Path(path) / ".zugvogel"


def checked_name(name: str) -> str:
    """Raises `InvalidInput` unless `name` is a vm's or an image's (safe as one path component)."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{name!r} is no name", "use lower case letters, digits and . _ - inside")
    return name


def checked_host(name: str) -> str:
    if not _HOST.fullmatch(name):
        raise InvalidInput(f"{name!r} is no host name", "use a DNS label in lower case")
    return name


def checked_file(name: str) -> str:
    if not _FILE.fullmatch(name):
        raise InvalidInput(f"{name!r} is no file name", "use letters, digits and . _ -")
    return name


def require_id(datastore: Datastore) -> None:
    """Raises `StorageError` unless this very datastore is mounted at its path (blocking)."""
    try:
        found = (own(datastore.path) / "id").read_text().strip()
    except FileNotFoundError:
        raise StorageError(
            f"datastore {datastore.name} is not mounted at {datastore.path}", "mount it there"
        ) from None
    if found != datastore.id:
        raise StorageError(
            f"another datastore (id {found}) is mounted at {datastore.path}, "
            f"not {datastore.name} ({datastore.id})",
            "mount the right one there",
        )


def names_in(folder: Path) -> list[str]:
    """Raises FileNotFoundError at once, unlike iterdir()."""
    return [path.name for path in folder.iterdir()]


def fsync_folder(folder: Path) -> None:
    """Make names in `folder` durable. File systems that cannot (EINVAL) do it with the operation itself."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP}:
            raise
    finally:
        os.close(fd)


@contextlib.contextmanager
def temporary(folder: Path, host: str) -> Iterator[Path]:
    """A path in `folder` no other process uses, removed at the end if it is still there."""
    path = folder / f"{TEMPORARY}{host}.{os.getpid()}.{next(_counter)}"
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def write_durably(path: Path, data: bytes, mode: int) -> None:
    """Make the new file `path` with `data`, on stable storage."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fchmod(fd, mode)
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_durably(path: Path, data: bytes, host: str, mode: int = 0o640) -> None:
    """`path` has its old contents or `data`, at every moment and after every crash."""
    with temporary(path.parent, host) as temp:
        write_durably(temp, data, mode)
        temp.replace(path)
        fsync_folder(path.parent)


def prune_temporaries(folder: Path, host: str) -> None:
    """Remove what dead processes of this host left."""
    mine = f"{TEMPORARY}{host}."
    for path in folder.glob(f"{mine}*"):
        pid = path.name.removeprefix(mine).partition(".")[0]
        if not Path(f"/proc/{pid}").exists():
            with contextlib.suppress(OSError):
                path.unlink()
