"""Leases as files: ``<folder>/<vm>/lease.<epoch>``, made once and complete by link(2).

link(2) of a fsynced file is atomic on every file system we allow. Its NFS reply can be lost: the client sends
it again and gets EEXIST for its own success. The link count of the temporary file, which nobody else links,
tells the truth.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from zugvogel.adapters.datastore import layout
from zugvogel.adapters.datastore.deadline import Deadlines
from zugvogel.adapters.datastore.direct_io import read_uncached
from zugvogel.adapters.datastore.sealed import seal, unseal
from zugvogel.domain.lease import KEPT_EPOCHS, Lease
from zugvogel.errors import LeaseTaken, NotFound, StorageError

_LEASE = re.compile(r"lease\.([1-9][0-9]{0,17})")
_LISTINGS = 5


class FileLeases:
    """`check` (blocking) raises `StorageError` while the datastore is not the one it must be. `makes_folders`: a
    claim makes the folder that it needs."""

    def __init__(
        self,
        folder: Path,
        host: str,
        deadlines: Deadlines,
        check: Callable[[], None],
        *,
        makes_folders: bool = False,
    ) -> None:
        self._folder = folder
        self._host = host
        self._deadlines = deadlines
        self._check = check
        self._makes_folders = makes_folders

    async def read(self, vm: str) -> Lease | None:
        folder = self._folder / layout.checked_name(vm)
        return await self._deadlines.run(f"reading the lease of {vm}", lambda: self._read(folder))

    async def claim(self, lease: Lease) -> Lease:
        folder = self._folder / layout.checked_name(lease.vm)
        await self._deadlines.run(f"claiming {lease.vm}", lambda: self._claim(folder, lease))
        return lease

    def _read(self, folder: Path) -> Lease | None:
        self._check()
        for _ in range(_LISTINGS):
            epoch = highest_epoch(folder)
            if epoch == 0:
                return None
            with contextlib.suppress(FileNotFoundError):  # pruned since: list again
                return read_lease(folder, epoch)
        raise StorageError(f"the leases in {folder} change faster than they can be read", "try again")

    def _claim(self, folder: Path, lease: Lease) -> None:
        self._check()
        target = folder / f"lease.{lease.epoch}"
        data = seal(lease.model_dump_json(indent=1).encode())
        if self._makes_folders and not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            layout.fsync_folder(folder.parent)
            layout.fsync_folder(folder.parent.parent)
        try:
            highest = highest_epoch(folder, is_required=True)
        except FileNotFoundError:
            raise NotFound(f"{lease.vm} has no folder on {self._deadlines.name}") from None
        if highest >= lease.epoch:
            _require_same(folder, lease, highest, data)
            return
        layout.prune_temporaries(folder, self._host)
        if not _link(target, data, self._host):
            _require_same(folder, lease, lease.epoch, data)
        layout.fsync_folder(folder)
        _require_same(folder, lease, highest_epoch(folder), data)
        _prune(folder, lease.epoch)


def highest_epoch(folder: Path, is_required: bool = False) -> int:
    """The highest epoch listed, 0 for none. `is_required`: FileNotFoundError without the folder."""
    try:
        names = layout.names_in(folder)
    except FileNotFoundError:
        if is_required:
            raise
        return 0
    return max((int(m[1]) for m in map(_LEASE.fullmatch, names) if m), default=0)


def read_lease(folder: Path, epoch: int) -> Lease:
    """Raises FileNotFoundError, or `StorageError` for a damaged file: an older epoch never replaces it."""
    path = folder / f"lease.{epoch}"
    body = unseal(read_uncached(path))
    try:
        lease = None if body is None else Lease.model_validate_json(body)
    except ValidationError:
        lease = None
    if lease is None or lease.epoch != epoch or lease.vm != folder.name:
        raise StorageError(
            f"{path} is damaged, so who holds {folder.name} is unknown",
            "make sure that no host runs it, then remove that file",
        )
    return lease


def _link(target: Path, data: bytes, host: str) -> bool:
    """False: the epoch exists and is not ours."""
    with layout.temporary(target.parent, host) as temp:
        layout.write_durably(temp, data, 0o600)
        try:
            os.link(temp, target)
        except OSError as error:
            if _link_count(temp) == 2:  # done, only its reply was lost
                return True
            if isinstance(error, FileExistsError):
                return False
            raise
        return True


def _link_count(path: Path) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # opening revalidates an NFS client's attributes
    try:
        return os.fstat(fd).st_nlink
    finally:
        os.close(fd)


def _require_same(folder: Path, lease: Lease, highest: int, data: bytes) -> None:
    """Raises `LeaseTaken` unless the highest epoch is byte for byte this claim."""
    if highest <= lease.epoch:
        with contextlib.suppress(FileNotFoundError):
            if read_uncached(folder / f"lease.{lease.epoch}") == data:
                return
    winner = max(highest, lease.epoch)
    raise LeaseTaken(
        f"another claim on {lease.vm} won epoch {winner}{_holder(folder, winner)}",
        "read the lease again before deciding",
        epoch=winner,
    )


def _holder(folder: Path, epoch: int) -> str:
    try:
        holder = read_lease(folder, epoch).holder
    except (OSError, StorageError):
        return ""
    return f" (held by {holder.host})" if holder else " (released)"


def _prune(folder: Path, epoch: int) -> None:
    with contextlib.suppress(OSError):
        for name in layout.names_in(folder):
            found = _LEASE.fullmatch(name)
            if found and int(found[1]) <= epoch - KEPT_EPOCHS:
                (folder / name).unlink(missing_ok=True)
