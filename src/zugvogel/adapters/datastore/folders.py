"""VM folders: definition, disks, kernel, notes.

The folder belongs to root and is open to QEMU's group; QEMU's user owns its disks and nothing else, so a guest
that breaks out of QEMU cannot change a lease or a definition.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from zugvogel.adapters.datastore import definition_file, image_locks, images, layout
from zugvogel.adapters.datastore.deadline import Deadlines
from zugvogel.adapters.datastore.direct_io import found_anew
from zugvogel.domain.vm import VmDefinition
from zugvogel.errors import AlreadyExists, InvalidInput, NotFound, Refused

_OURS = re.compile(
    r"vm\.toml|lease\.\d+|\.tmp\..*|memory\..*|disk\d*(\.(raw|qcow2))?|kernel|initrd|seed\.iso|[A-Za-z0-9._-]+\.json|word.*"
)
_STILL_OPEN = re.compile(r"\.nfs[0-9a-f]+|\.fuse_hidden[0-9a-f]+")
"""What NFS and FUSE make of a file that is removed while a process has it open; it goes when that ends."""
_KEPT_FROM_CUT = re.compile(rf"lease\.\d+|\.tmp\..*|{_STILL_OPEN.pattern}")
_CLOSE_S = 20.0
_NO_NOTE = re.compile(r"vm\.toml|lease\..*|.*\.(raw|qcow2|iso)|memory\..*")
_LONG_S = 6 * 3600 + 60.0


class FileFolders:
    """`check` as for the leases. Disks are given to `uid`:`gid`, the user QEMU runs as."""

    def __init__(
        self, root: Path, host: str, uid: int, gid: int, deadlines: Deadlines, check: Callable[[], None]
    ) -> None:
        self._root, self._host, self._uid, self._gid = root, host, uid, gid
        self._deadlines = deadlines
        self._check = check

    def path(self, vm: str, file: str = "") -> Path:
        folder = self._root / layout.checked_name(vm)
        return folder / layout.checked_file(file) if file else folder

    async def names(self) -> list[str]:
        return await self._deadlines.run("listing the vms", self._names)

    async def create(self, definition: VmDefinition) -> None:
        folder = self.path(definition.name)
        await self._deadlines.run(f"making {definition.name}", lambda: self._create(folder, definition))

    async def read(self, vm: str) -> VmDefinition:
        folder = self.path(vm)
        return await self._deadlines.run(f"reading the definition of {vm}", lambda: self._read(folder))

    async def write(self, definition: VmDefinition) -> None:
        folder = self.path(definition.name)
        data = definition_file.write(definition)
        await self._deadlines.run(
            f"writing the definition of {definition.name}",
            lambda: self._replace(folder, definition_file.FILE, data),
        )

    async def delete(self, vm: str) -> None:
        folder = self.path(vm)
        await self._deadlines.run(f"deleting {vm}", lambda: self._delete(folder), 120)

    async def create_disk(self, vm: str, file: str, format: str, size_bytes: int) -> None:
        def make(temp: Path) -> None:
            images.create_disk(temp, format, size_bytes)

        await self._add(vm, file, make, is_writable=True)

    async def import_image(self, vm: str, file: str, image: Path, size_bytes: int) -> tuple[str, int]:
        made: list[tuple[str, int]] = []

        def make(temp: Path) -> None:
            made.append(images.import_image(image, temp, size_bytes))

        await self._add(vm, file, make, is_writable=True)
        return made[0]

    async def copy_in(self, vm: str, file: str, source: Path) -> None:
        def make(temp: Path) -> None:
            if not source.is_file():
                raise NotFound(f"there is no file {source} on this host", "give the path of a file")
            shutil.copyfile(source, temp)

        await self._add(vm, file, make, is_writable=False)

    async def make_seed(self, vm: str, user_data: Path) -> str:
        """A NoCloud seed image from a user-data file; returns its file name in the folder. The instance id
        follows the vm's uuid, so that cloud-init runs once for each vm. Needs the package genisoimage."""
        definition = await self.read(vm)
        file = "seed.iso"

        def make(temp: Path) -> None:
            images.make_seed(temp, user_data, definition.uuid, vm.replace(".", "-").replace("_", "-"))

        await self._add(vm, file, make, is_writable=False)
        return file

    async def may_be_written(self, vm: str, file: str) -> bool:
        path = self.path(vm, file)

        def look() -> bool:
            self._check()
            return image_locks.may_be_written(path)

        return await self._deadlines.run(f"looking at the lock of {file} of {vm}", look)

    async def write_note(self, vm: str, name: str, data: bytes) -> None:
        folder = self._note(vm, name).parent
        await self._deadlines.run(f"writing {name} of {vm}", lambda: self._replace(folder, name, data))

    async def read_note(self, vm: str, name: str) -> bytes | None:
        path = self._note(vm, name)

        def read() -> bytes | None:
            self._check()
            try:
                return found_anew(path, path.read_bytes)
            except FileNotFoundError:
                return None

        return await self._deadlines.run(f"reading {name} of {vm}", read)

    async def list_notes(self, vm: str, prefix: str) -> list[str]:
        folder = self.path(vm)

        def names() -> list[str]:
            self._check()
            with contextlib.suppress(FileNotFoundError):
                found = (n for n in layout.names_in(folder) if n.startswith(prefix) and n[0] != ".")
                return sorted(n for n in found if not _NO_NOTE.fullmatch(n))
            return []

        return await self._deadlines.run(f"listing the notes of {vm}", names)

    async def delete_note(self, vm: str, name: str) -> None:
        path = self._note(vm, name)

        def delete() -> None:
            self._check()
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                layout.fsync_folder(path.parent)

        await self._deadlines.run(f"deleting {name} of {vm}", delete)

    def _note(self, vm: str, name: str) -> Path:
        if _NO_NOTE.fullmatch(name):
            raise InvalidInput(f"{name} is no name for a note", "choose another")
        return self.path(vm, name)

    def _names(self) -> list[str]:
        self._check()
        return sorted(
            n
            for n in layout.names_in(self._root)
            if n[0] != "." and (self._root / n / definition_file.FILE).is_file()
        )

    def _create(self, folder: Path, definition: VmDefinition) -> None:
        self._check()
        try:
            folder.mkdir(mode=0o750)
        except FileExistsError:
            # what a cut create or delete left; the lease chain is kept, so that epochs never start anew
            if any(not _KEPT_FROM_CUT.fullmatch(n) for n in layout.names_in(folder)):
                raise AlreadyExists(
                    f"there is a folder {folder} already", f"register it, or delete {definition.name} first"
                ) from None
        folder.chmod(0o750)
        os.chown(folder, -1, self._gid)
        layout.fsync_folder(folder.parent)
        with layout.temporary(folder, self._host) as temp:
            layout.write_durably(temp, definition_file.write(definition), 0o640)
            try:
                os.link(temp, folder / definition_file.FILE)  # unlike rename it loses against another create
            except FileExistsError:
                raise AlreadyExists(f"there is a vm {definition.name} already", "choose another name") from None
        layout.fsync_folder(folder)

    def _read(self, folder: Path) -> VmDefinition:
        self._check()
        try:
            data = (folder / definition_file.FILE).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"there is no vm {folder.name} on {self._deadlines.name}") from None
        return definition_file.read(data, folder.name)

    def _replace(self, folder: Path, file: str, data: bytes) -> None:
        self._check()
        if not folder.is_dir():
            raise NotFound(f"there is no vm {folder.name} on {self._deadlines.name}")
        layout.replace_durably(folder / file, data, self._host)

    def _delete(self, folder: Path) -> None:
        self._check()
        if not folder.is_dir():
            raise NotFound(f"there is no vm {folder.name} on {self._deadlines.name}")
        names = [n for n in layout.names_in(folder) if not _STILL_OPEN.fullmatch(n)]
        known = self._files_of(folder)
        foreign = sorted(n for n in names if n not in known and not _OURS.fullmatch(n))
        if foreign:
            raise Refused(
                f"the folder of {folder.name} holds what Zugvogel did not put there: {', '.join(foreign)}",
                f"move it out of {folder} and delete again",
            )
        # the definition first: a delete cut in between leaves no vm with missing disks; leases last
        for name in sorted(names, key=lambda n: (n != definition_file.FILE, n.startswith("lease."), n)):
            (folder / name).unlink(missing_ok=True)
        _remove_folder(folder)
        layout.fsync_folder(folder.parent)

    def _files_of(self, folder: Path) -> set[str]:
        try:
            definition = self._read(folder)
        except (NotFound, InvalidInput):
            return set()
        boot = definition.boot
        named = {boot.kernel, boot.initrd} if boot else set()
        return named | {disk.file for disk in definition.disks} | {definition.cloud_init}

    async def _add(self, vm: str, file: str, make: Callable[[Path], None], *, is_writable: bool) -> None:
        path = self.path(vm, file)
        await self._deadlines.run(f"making {file} of {vm}", lambda: self._make(path, make, is_writable), _LONG_S)

    def _make(self, path: Path, make: Callable[[Path], None], is_writable: bool) -> None:
        """`make` fills a temporary file, which becomes `path` when it is whole and durable."""
        self._check()
        if not path.parent.is_dir():
            raise NotFound(f"there is no vm {path.parent.name} on {self._deadlines.name}")
        layout.prune_temporaries(path.parent, self._host)
        with layout.temporary(path.parent, self._host) as temp:
            make(temp)
            os.chown(temp, self._uid if is_writable else -1, self._gid)
            temp.chmod(0o600 if is_writable else 0o640)
            fd = os.open(temp, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            try:
                os.link(temp, path)  # never over an existing disk
            except FileExistsError:
                raise AlreadyExists(f"{path.parent.name} has a file {path.name} already") from None
        layout.fsync_folder(path.parent)


def _remove_folder(folder: Path) -> None:
    """Waits for what a QEMU that ended a moment ago has not closed yet."""
    deadline = time.monotonic() + _CLOSE_S
    while True:
        try:
            return folder.rmdir()
        except OSError as error:
            left = layout.names_in(folder)
            if error.errno != errno.ENOTEMPTY or any(not _STILL_OPEN.fullmatch(n) for n in left):
                raise
            if time.monotonic() > deadline:
                raise Refused(
                    f"{folder} still has files that a process has open, on one of the hosts: {', '.join(left)}",
                    "end that process (see: fuser), then delete again",
                ) from error
        time.sleep(0.1)
