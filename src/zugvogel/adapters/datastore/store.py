"""All datastores of a host: recognition, the sharing proof, and each datastore's leases, folders and beats."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from zugvogel.adapters.datastore import images, layout, mounts
from zugvogel.adapters.datastore.beats import FileBeats
from zugvogel.adapters.datastore.deadline import Deadlines
from zugvogel.adapters.datastore.folders import FileFolders
from zugvogel.adapters.datastore.leases import FileLeases
from zugvogel.adapters.datastore.memory_files import FileMemory
from zugvogel.adapters.datastore.orders import FileOrders
from zugvogel.domain.datastore import Datastore, FileSystem
from zugvogel.domain.host import DatastoreReport
from zugvogel.errors import Refused, ZugvogelError

_GRAIN_BYTES = 64 * 1024**2
_OWNER = "disk-owner"
"""An empty file of the user to whom disks on this datastore belong."""


class FileMountedDatastore:
    """`ports.storage.MountedDatastore`."""

    def __init__(self, datastore: Datastore, host: str, uid: int, gid: int, deadline_s: float) -> None:
        self._datastore = datastore
        self._host, self._user = host, (uid, gid)
        name = f"datastore {datastore.name}"
        root = Path(datastore.path)
        self._deadlines = Deadlines(name, deadline_s=deadline_s)
        lease_deadlines = Deadlines(name, deadline_s=deadline_s)
        self._beats = FileBeats(datastore, Deadlines(name, threads=4, deadline_s=deadline_s))
        self._folders = FileFolders(root, host, uid, gid, self._deadlines, self._check)
        self._leases = FileLeases(root, host, lease_deadlines, self._check)
        self._memory = FileMemory(root, host, uid, gid, self._deadlines, self._check)
        self._orders = FileOrders(root, host, lease_deadlines, self._check)
        self._start_orders = FileOrders(
            root, host, lease_deadlines, self._check, order="start", answer="start-answer"
        )
        self._isolation_orders = FileOrders(
            root, host, lease_deadlines, self._check, order="isolation", answer="isolation-answer"
        )
        self._role_leases = FileLeases(  # a datastore of an earlier version has no folders for them
            layout.own(root) / "roles", host, lease_deadlines, self._check, makes_folders=True
        )

    @property
    def datastore(self) -> Datastore:
        return self._datastore

    @property
    def leases(self) -> FileLeases:
        return self._leases

    @property
    def folders(self) -> FileFolders:
        return self._folders

    @property
    def beats(self) -> FileBeats:
        return self._beats

    @property
    def memory(self) -> FileMemory:
        return self._memory

    @property
    def orders(self) -> FileOrders:
        return self._orders

    @property
    def start_orders(self) -> FileOrders:
        return self._start_orders

    @property
    def isolation_orders(self) -> FileOrders:
        return self._isolation_orders

    @property
    def role_leases(self) -> FileLeases:
        return self._role_leases

    async def report(self) -> DatastoreReport:
        """Never raises: what is wrong stands in `why`."""
        name = self._datastore.name
        try:
            report = await self._deadlines.run("looking", self._look)
        except ZugvogelError as error:
            return DatastoreReport(name=name, is_usable=False, why=error.cause)
        if self._beats.is_fresh() is False:
            return report.model_copy(update={"is_usable": False, "why": f"no beat could be written to {name}"})
        return report

    def _look(self) -> DatastoreReport:
        self._check()
        space = os.statvfs(self._datastore.path)
        why = self._other_user()
        return DatastoreReport(
            name=self._datastore.name,
            is_usable=not why,
            why=why,
            fs_type=mounts.recognise(self._datastore.path).fs_type,
            free_bytes=_grained(space.f_bavail * space.f_frsize),
            total_bytes=_grained(space.f_blocks * space.f_frsize),
        )

    def _other_user(self) -> str:
        """Why QEMU could not open the disks here: they belong to another number than that of its user."""
        try:
            owner = _user_of(layout.own(self._datastore.path) / _OWNER)
        except FileNotFoundError:
            return ""
        if owner == self._user:
            return ""
        return (
            f"the user of QEMU has {_told(self._user)} on {self._host}, but disks on {self._datastore.name} "
            f"belong to {_told(owner)}"
        )

    def _check(self) -> None:
        layout.require_id(self._datastore)


class FileDatastores:
    """`ports.storage.Datastores`. `uid`, `gid`: the user QEMU runs as. One `FileMountedDatastore` (and its
    threads) a datastore, however often it is opened."""

    def __init__(self, host: str, uid: int, gid: int, deadline_s: float = 10.0) -> None:
        self._host, self._uid, self._gid, self._deadline_s = host, uid, gid, deadline_s
        self._opened: dict[Datastore, FileMountedDatastore] = {}
        self._paths: dict[str, Deadlines] = {}

    async def recognise(self, path: str) -> FileSystem:
        return await self._at(path).run("looking", lambda: mounts.recognise(path))

    async def write_probe(self, path: str, nonce: str, host: str) -> None:
        file = _probes(path) / f"{layout.checked_file(nonce)}.{layout.checked_host(host)}"

        def write() -> None:
            file.parent.mkdir(parents=True, exist_ok=True)
            layout.replace_durably(file, b"", self._host)
            os.chown(file, self._uid, self._gid)
            layout.fsync_folder(Path(path))

        await self._at(path).run("writing a probe", write)

    async def read_probes(self, path: str, nonce: str) -> set[str]:
        """Raises `Refused` where QEMU's user has other numbers on another host: disks are owned by number, and
        each probe belongs to the user of the host that wrote it."""
        prefix = f"{layout.checked_file(nonce)}."

        def read() -> set[str]:
            found = {}
            with contextlib.suppress(FileNotFoundError):
                for name in layout.names_in(_probes(path)):
                    if name.startswith(prefix):
                        found[name.removeprefix(prefix)] = _user_of(_probes(path) / name)
            for host, user in sorted(found.items()):
                self._refuse_other_user(host, user)
            return set(found)

        return await self._at(path).run("reading the probes", read)

    def _refuse_other_user(self, host: str, user: tuple[int, int]) -> None:
        mine = (self._uid, self._gid)
        if user != mine:
            raise Refused(
                f"the user of QEMU has {_told(mine)} on {self._host} but {_told(user)} on {host}, and disks are "
                f"owned by number",
                "give it one uid and gid on all hosts (usermod -u, groupmod -g), then restart the agents",
            )

    async def clear_probes(self, path: str, nonce: str) -> None:
        prefix = f"{layout.checked_file(nonce)}."

        def clear() -> None:
            with contextlib.suppress(FileNotFoundError):
                for name in layout.names_in(_probes(path)):
                    if name.startswith(prefix):
                        (_probes(path) / name).unlink(missing_ok=True)

        await self._at(path).run("removing the probes", clear)

    async def initialise(self, datastore: Datastore) -> None:
        await self._at(datastore.path).run("preparing it", lambda: self._initialise(datastore))

    def open(self, datastore: Datastore) -> FileMountedDatastore:
        if datastore not in self._opened:
            self._opened[datastore] = FileMountedDatastore(
                datastore, self._host, self._uid, self._gid, self._deadline_s
            )
        return self._opened[datastore]

    async def find_image(self, datastore: Datastore, image: str) -> dict[str, Path]:
        return await self._at(datastore.path).run(
            f"looking for image {image}", lambda: images.find_image(datastore.path, image)
        )

    def _at(self, path: str) -> Deadlines:
        return self._paths.setdefault(path, Deadlines(f"the file system at {path}", deadline_s=self._deadline_s))

    def _initialise(self, datastore: Datastore) -> None:
        folder = layout.own(datastore.path)
        if not Path(datastore.path).is_dir():
            raise Refused(f"{datastore.path} is no directory on this host", "mount the datastore there first")
        for name in ("hosts", "probe", "images", "roles/active-primary", "roles/registry"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        with layout.temporary(folder, self._host) as temp, contextlib.suppress(FileExistsError):
            layout.write_durably(temp, f"{datastore.id}\n".encode(), 0o644)
            os.link(temp, folder / "id")  # never over another cluster's
        with layout.temporary(folder, self._host) as temp, contextlib.suppress(FileExistsError):
            layout.write_durably(temp, b"", 0o644)
            os.chown(temp, self._uid, self._gid)
            os.link(temp, folder / _OWNER)
        layout.fsync_folder(folder)
        layout.fsync_folder(folder.parent)
        found = (folder / "id").read_text().strip()
        if found != datastore.id:
            raise Refused(
                f"{datastore.path} belongs to another cluster or was added before (id {found})",
                f"if no other cluster uses it, remove {folder / 'id'} and try again",
            )


def _user_of(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_uid, facts.st_gid


def _told(user: tuple[int, int]) -> str:
    return f"uid {user[0]} and gid {user[1]}"


def _probes(path: str) -> Path:
    return layout.own(path) / "probe"


def _grained(size: int) -> int:
    return size // _GRAIN_BYTES * _GRAIN_BYTES
