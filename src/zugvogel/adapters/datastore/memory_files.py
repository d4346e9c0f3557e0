"""Saved memory as files: ``memory.<id>.ram``, QEMU's own or a stream of its in frames, and its sealed manifest
``memory.<id>.json``.

The manifest is written only after the file is on stable storage, so that its presence proves that the file was
complete; its checksum over both ends and samples tells a file that was cut or replaced later.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from zugvogel.adapters.datastore import layout
from zugvogel.adapters.datastore.deadline import Deadlines
from zugvogel.adapters.datastore.direct_io import pread_uncached, read_uncached, size_bytes
from zugvogel.adapters.datastore.growing_files import GrowingReader, GrowingWriter
from zugvogel.adapters.datastore.sealed import seal, unseal
from zugvogel.domain.memory import DiskState, Manifest, MemoryFormat
from zugvogel.errors import AlreadyExists, NotFound, Refused, StorageError

MIB = 1 << 20
_ID = re.compile(r"[a-z0-9]{1,40}")
_FILE = re.compile(r"memory\.([a-z0-9]{1,40})\.(ram|json|len)")
_ENDS_BYTES = MIB
_SAMPLES = 256
_SAMPLE_BYTES = 4096
_LONG_S = 1800.0
"""For making gigabytes durable."""


class FileMemory:
    """`check` as for the leases. Memory files are given to `uid`:`gid`, the user QEMU runs as."""

    def __init__(
        self, root: Path, host: str, uid: int, gid: int, deadlines: Deadlines, check: Callable[[], None]
    ) -> None:
        self._root, self._host, self._uid, self._gid = root, host, uid, gid
        self._deadlines = deadlines
        self._check = check

    def _file(self, vm: str, memory_id: str, kind: str) -> Path:
        if not _ID.fullmatch(memory_id):
            raise NotFound(f"{memory_id!r} is no saved memory", "")
        return self._root / layout.checked_name(vm) / f"memory.{memory_id}.{kind}"

    async def free_bytes(self) -> int:
        def look() -> int:
            self._check()
            facts = os.statvfs(self._root)
            return facts.f_bavail * facts.f_frsize

        return await self._deadlines.run("looking at its free space", look)

    async def measure_write_bps(self, vm: str, size_bytes: int) -> float:
        folder = self._root / layout.checked_name(vm)
        return await self._deadlines.run("measuring its speed", lambda: self._measure(folder, size_bytes), 60.0)

    async def make(self, vm: str, memory_id: str) -> Path:
        path = self._file(vm, memory_id, "ram")
        await self._deadlines.run(f"making the memory file of {vm}", lambda: self._make(path))
        return path

    async def path(self, vm: str, memory_id: str) -> Path:
        path = self._file(vm, memory_id, "ram")

        def look() -> None:
            self._check()
            if not path.is_file():
                raise NotFound(f"the saved memory of {vm} ({path.name}) is not there", f"zv vm discard {vm}")

        await self._deadlines.run(f"looking for the memory of {vm}", look)
        return path

    def writer(self, vm: str, memory_id: str, *, is_compressed: bool) -> GrowingWriter:
        return GrowingWriter(*self._growing(vm, memory_id), is_compressed=is_compressed)

    def reader(self, vm: str, memory_id: str) -> GrowingReader:
        return GrowingReader(*self._growing(vm, memory_id))

    def _growing(self, vm: str, memory_id: str) -> tuple[Path, Path, str, Callable[[], None]]:
        return self._file(vm, memory_id, "ram"), self._file(vm, memory_id, "len"), memory_id, self._check

    async def seal(self, manifest: Manifest) -> Manifest:
        path = self._file(manifest.vm, manifest.id, "ram")
        return await self._deadlines.run(
            f"making the memory of {manifest.vm} durable", lambda: self._seal(path, manifest), _LONG_S
        )

    async def read(self, vm: str, memory_id: str) -> Manifest:
        path = self._file(vm, memory_id, "json")
        return await self._deadlines.run(
            f"reading what was saved of {vm}", lambda: self._read(path, vm, memory_id)
        )

    async def verify(self, manifest: Manifest) -> None:
        path = self._file(manifest.vm, manifest.id, "ram")
        await self._deadlines.run(
            f"checking the saved memory of {manifest.vm}", lambda: self._verify(path, manifest), 60.0
        )

    async def ids(self, vm: str) -> list[str]:
        folder = self._root / layout.checked_name(vm)

        def look() -> list[str]:
            self._check()
            with contextlib.suppress(FileNotFoundError):
                return sorted({m[1] for m in map(_FILE.fullmatch, layout.names_in(folder)) if m})
            return []

        return await self._deadlines.run(f"looking for saved memory of {vm}", look)

    async def discard(self, vm: str, memory_id: str) -> None:
        paths = [self._file(vm, memory_id, kind) for kind in ("json", "len", "ram")]

        def remove() -> None:
            self._check()
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
            with contextlib.suppress(FileNotFoundError):
                layout.fsync_folder(paths[0].parent)

        await self._deadlines.run(f"removing the saved memory of {vm}", remove, 60.0)

    # blocking ------------------------------------------------------------------------------------

    def _measure(self, folder: Path, size_bytes: int) -> float:
        self._check()
        with layout.temporary(folder, self._host) as temp, mmap.mmap(-1, MIB) as block:
            block.write(os.urandom(MIB))
            fd = _open_direct(temp)
            try:
                began = time.monotonic()
                for _ in range(max(1, size_bytes // MIB)):
                    os.write(fd, block)
                os.fdatasync(fd)
                return max(1, size_bytes // MIB) * MIB / max(1e-6, time.monotonic() - began)
            finally:
                os.close(fd)

    def _make(self, path: Path) -> None:
        self._check()
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise AlreadyExists(f"{path} exists already", "remove it, or try again") from None
        except FileNotFoundError:
            raise NotFound(f"there is no vm {path.parent.name} on {self._deadlines.name}") from None
        try:
            os.fchown(fd, self._uid, self._gid)
        finally:
            os.close(fd)

    def _seal(self, path: Path, manifest: Manifest) -> Manifest:
        self._check()
        folder = path.parent
        _fsync(path)
        facts = path.stat()
        whole = manifest.model_copy(
            update={
                "size_bytes": facts.st_size,
                "used_bytes": facts.st_blocks * 512,
                "checksum": manifest.checksum or checksum(path),
                "disks": tuple(_disk_state(folder, d.file) for d in manifest.definition.disks),
            }
        )
        data = seal(whole.model_dump_json(indent=1).encode())
        layout.replace_durably(self._file(manifest.vm, manifest.id, "json"), data, self._host)
        return whole

    def _read(self, path: Path, vm: str, memory_id: str) -> Manifest:
        self._check()
        try:
            body = unseal(read_uncached(path))
        except FileNotFoundError:
            raise NotFound(
                f"there is no manifest of the saved memory of {vm} ({path.name})",
                f"if the file is lost, throw the rest away and boot fresh: zv vm discard {vm}",
            ) from None
        try:
            found = None if body is None else Manifest.model_validate_json(body)
        except ValidationError:
            found = None
        if found is None or found.vm != vm or found.id != memory_id:
            raise StorageError(
                f"{path} is damaged or belongs to another vm", f"throw it away and boot fresh: zv vm discard {vm}"
            )
        return found

    def _verify(self, path: Path, manifest: Manifest) -> None:
        self._check()
        vm = manifest.vm
        discard = f"throw it away and boot fresh: zv vm discard {vm}"
        is_stream = manifest.format is MemoryFormat.STREAM
        try:
            is_same = size_bytes(path) == manifest.size_bytes
            is_same = is_same and (is_stream or checksum(path) == manifest.checksum)
        except FileNotFoundError:
            raise Refused(f"the saved memory of {vm} ({path.name}) is not there", discard) from None
        if not is_same:
            raise Refused(f"the saved memory of {vm} ({path.name}) is not what was saved", discard)
        for disk in manifest.disks:
            try:
                now = _disk_state(path.parent, disk.file)
            except FileNotFoundError:
                raise Refused(f"disk {disk.file} of {vm} is not there any more", "bring it back") from None
            if now != disk:
                raise Refused(
                    f"disk {disk.file} of {vm} was changed after the vm was suspended; going on would damage it",
                    discard,
                )


def checksum(path: Path) -> str:
    """Over the length, both ends and samples between them, as the storage has them now."""
    size = size_bytes(path)
    last = max(0, size - _ENDS_BYTES) // _SAMPLE_BYTES * _SAMPLE_BYTES
    step = max(1, size // (_SAMPLES + 1) // _SAMPLE_BYTES) * _SAMPLE_BYTES
    places = [(offset, _SAMPLE_BYTES) for offset in range(_ENDS_BYTES, last, step)]
    found = hashlib.sha256(str(size).encode())
    for chunk in pread_uncached(path, [(0, _ENDS_BYTES), *places, (last, _ENDS_BYTES + _SAMPLE_BYTES)]):
        found.update(chunk)
    return found.hexdigest()


def _disk_state(folder: Path, file: str) -> DiskState:
    """Opened anew, so that a network client asks the server."""
    fd = os.open(folder / file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
        facts = os.fstat(fd)
    finally:
        os.close(fd)
    return DiskState(file=file, size_bytes=facts.st_size, changed_ns=facts.st_mtime_ns)


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _open_direct(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_DIRECT, 0o600)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        return os.open(path, flags, 0o600)
