"""Saved memory in a simulated world: files that grow while QEMU writes, and are loaded while they grow."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from zugvogel.domain.memory import DiskState, Manifest, StreamSum
from zugvogel.errors import AlreadyExists, NotFound, Refused
from zugvogel.sim.files import MemoryFile
from zugvogel.sim.loop import DOMAIN

if TYPE_CHECKING:
    from zugvogel.sim.storage import StoragePath

WRITE_BPS = 400e6
READ_BPS = 800e6
NO_CEILING = 1 << 62


class Pipe:
    """One end of a memory file, for a QEMU of this host. It breaks when its agent ends."""

    def __init__(self, fd: int, path: StoragePath, file: MemoryFile | None, vm: str, memory_id: str) -> None:
        self.fd = fd
        self.path = path
        self.ceiling = NO_CEILING
        self.file_bytes = 0
        self.error = ""
        self.is_over = False
        self._file = file
        self._vm, self._id = vm, memory_id
        self._end: int | None = None
        self._domain = DOMAIN.get()

    @property
    def is_broken(self) -> bool:
        return bool(self.error) or (self._domain is not None and self._domain.is_ended)

    @property
    def file(self) -> MemoryFile | None:
        """None while it is not there yet."""
        if self._file is None:
            folder = self.path.files.folders.get(self._vm)
            self._file = folder.memory.get(self._id) if folder is not None else None
        return self._file

    @property
    def sum(self) -> StreamSum:
        return StreamSum(size_bytes=self.file_bytes, checksum=f"{self._id}-{self.file_bytes}")

    def begin(self) -> None:
        """QEMU has its end."""

    def belongs_to_qemu(self) -> None:
        """QEMU opened the file itself, which is whole: no agent stands between."""
        self._domain = None
        self._end = self.file.length if self.file is not None else None

    def end_at(self, size_bytes: int) -> None:
        self._end = size_bytes

    @property
    def end(self) -> int | None:
        return self._end

    def close(self) -> None:
        if not self.is_over:
            self.error = self.error or "it was closed"
            self.is_over = True


class Pipes:
    """The open files of a host's agents and QEMUs, by number."""

    def __init__(self) -> None:
        self._numbers = itertools.count(100)
        self._open: dict[int, Pipe] = {}

    def new(self, path: StoragePath, file: MemoryFile | None, vm: str, memory_id: str) -> Pipe:
        fd = next(self._numbers)
        pipe = self._open[fd] = Pipe(fd, path, file, vm, memory_id)
        return pipe

    def take(self, fd: int) -> Pipe:
        return self._open.pop(fd)


class SimMemory:
    """`zugvogel.ports.storage.MemoryStore`."""

    def __init__(self, path: StoragePath, pipes: Pipes) -> None:
        self._path, self._files, self._pipes = path, path.files, pipes

    def writer(self, vm: str, memory_id: str, *, is_compressed: bool) -> Pipe:
        return self._pipes.new(self._path, self._files.folder(vm).memory[memory_id], vm, memory_id)

    def reader(self, vm: str, memory_id: str) -> Pipe:
        return self._pipes.new(self._path, None, vm, memory_id)

    async def free_bytes(self) -> int:
        return await self._path.read("looking at its free space", self._files.free_bytes)

    async def measure_write_bps(self, vm: str, size_bytes: int) -> float:
        return await self._path.write("measuring its speed", lambda: WRITE_BPS)

    async def make(self, vm: str, memory_id: str) -> Path:
        def put() -> Path:
            memory = self._files.folder(vm).memory
            if memory_id in memory:
                raise AlreadyExists(f"{memory_id} exists already", "remove it, or try again")
            memory[memory_id] = MemoryFile()
            self._files.saved.add(vm)
            return self._file(vm, memory_id)

        return await self._path.write(f"making the memory file of {vm}", put)

    def _file(self, vm: str, memory_id: str) -> Path:
        return Path(self._files.datastore.path) / vm / f"memory.{memory_id}.ram"

    def _known(self, vm: str, memory_id: str) -> MemoryFile:
        found = self._files.folder(vm).memory.get(memory_id)
        if found is None:
            raise NotFound(f"the saved memory of {vm} ({memory_id}) is not there", f"zv vm discard {vm}")
        return found

    async def path(self, vm: str, memory_id: str) -> Path:
        def look() -> Path:
            self._known(vm, memory_id)
            return self._file(vm, memory_id)

        return await self._path.read(f"looking for the memory of {vm}", look)

    async def seal(self, manifest: Manifest) -> Manifest:
        def put() -> Manifest:
            folder, file = self._files.folder(manifest.vm), self._known(manifest.vm, manifest.id)
            whole = manifest.model_copy(
                update={
                    "size_bytes": file.length,
                    "used_bytes": file.length,
                    "checksum": manifest.checksum or f"{manifest.id}-{file.length}",
                    "disks": (DiskState(file="disk0", size_bytes=1, changed_ns=folder.disk_version),),
                }
            )
            folder.manifests[manifest.id] = whole
            return whole

        return await self._path.write(f"making the memory of {manifest.vm} durable", put)

    async def read(self, vm: str, memory_id: str) -> Manifest:
        def look() -> Manifest:
            found = self._files.folder(vm).manifests.get(memory_id)
            if found is None:
                raise NotFound(f"there is no manifest of the saved memory of {vm}", f"zv vm discard {vm}")
            return found

        return await self._path.read(f"reading what was saved of {vm}", look)

    async def verify(self, manifest: Manifest) -> None:
        def look() -> None:
            folder, file = self._files.folder(manifest.vm), self._known(manifest.vm, manifest.id)
            discard = f"throw it away and boot fresh: zv vm discard {manifest.vm}"
            if file.length != manifest.size_bytes or not file.is_whole:
                raise Refused(f"the saved memory of {manifest.vm} is not what was saved", discard)
            if any(disk.changed_ns != folder.disk_version for disk in manifest.disks):
                raise Refused(f"a disk of {manifest.vm} was changed after the vm was suspended", discard)

        await self._path.read(f"checking the saved memory of {manifest.vm}", look)

    async def ids(self, vm: str) -> list[str]:
        def look() -> list[str]:
            folder = self._files.folders.get(vm)
            return sorted({*folder.memory, *folder.manifests}) if folder is not None else []

        return await self._path.read(f"looking for saved memory of {vm}", look)

    async def discard(self, vm: str, memory_id: str) -> None:
        def remove() -> None:
            folder = self._files.folders.get(vm)
            if folder is not None:
                folder.manifests.pop(memory_id, None)
                folder.memory.pop(memory_id, None)
                if not folder.memory:
                    self._files.saved.discard(vm)

        await self._path.write(f"removing the saved memory of {vm}", remove)


def memory_of(path: Path) -> tuple[str, str]:
    """(vm, memory id) of a memory file's path."""
    return path.parent.name, path.name.removeprefix("memory.").removesuffix(".ram")
