"""A host's path to a datastore: works, answers with errors, or hangs, with the deadlines of the real adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from zugvogel.domain.datastore import Beat, Datastore, FileSystem, Sharing
from zugvogel.domain.host import DatastoreReport
from zugvogel.domain.lease import Lease
from zugvogel.domain.vm import VmDefinition
from zugvogel.errors import AlreadyExists, DeadlineExceeded, NotFound, StorageError, ZugvogelError
from zugvogel.sim.delays import Delays
from zugvogel.sim.files import Folder, LeaseChain, OrderBox, SharedFiles
from zugvogel.sim.loop import DOMAIN, Domain, VirtualLoop
from zugvogel.sim.memory import SimMemory

T = TypeVar("T")

DEADLINE_S = 10.0
LANDING_FACTOR = 10.0
"""What hung takes so many times longer than a write does, once the path works again."""
WRITING_BEAT = "writing the beat"
_GRAIN_BYTES = 64 << 20
_CHECK_IT = "check the mount and the storage behind it"


class Fault(StrEnum):
    """What a host's path to a datastore does."""

    NONE = ""
    CUT = "cut"
    HANG = "hang"


@dataclass(slots=True, eq=False)
class _Hung:
    """A call that the storage has not answered; it is carried out when the storage does."""

    what: str
    effect: Callable[[], Any]
    answer: asyncio.Future[Any]
    lane: int
    domain: Domain | None


class StoragePath:
    """One host's, for as long as the host is powered. `quick`, `slow`: what a read and a durable write take.
    `lanes`: calls that may hang at a time, for work, for leases and orders, and for beats."""

    LANES = (8, 8, 4)

    def __init__(self, loop: VirtualLoop, files: SharedFiles, quick: Delays, slow: Delays) -> None:
        self.files = files
        self.fault = Fault.NONE
        self.on_fault: list[Callable[[], None]] = []
        self.loop = loop
        self._quick = quick
        self._slow = slow
        self._hung: list[_Hung] = []

    @property
    def name(self) -> str:
        return self.files.name

    def hangs(self, what: str) -> bool:
        """Such a call is to be carried out yet, whether anybody still waits for it or not."""
        return bool(self._hung) and any(call.what == what for call in self._hung)

    def is_quick(self) -> bool:
        """The next read is done before anybody else gets a turn; its caller may do it himself."""
        return not (self.fault or self._quick.next())

    async def read(self, what: str, effect: Callable[[], T], lane: int = 0) -> T:
        if self.fault is Fault.NONE:
            wait_s = self._quick.next()
            if wait_s:
                await self.loop.sleep(wait_s)
            if self.fault is Fault.NONE:
                return effect()
        return await self._faulty(what, effect, lane)

    async def write(self, what: str, effect: Callable[[], T], lane: int = 0) -> T:
        """It happens somewhere in between: a caller that is killed meanwhile does not know whether it did."""
        wait_s = self._slow.next()
        if self.fault is Fault.NONE:
            await self.loop.sleep(wait_s / 2)
        if self.fault is not Fault.NONE:
            return await self._faulty(what, effect, lane)
        done = effect()
        await self.loop.sleep(wait_s / 2)
        return done

    async def _faulty(self, what: str, effect: Callable[[], T], lane: int) -> T:
        told = f"datastore {self.name}"
        if self.fault is Fault.CUT:
            raise StorageError(f"{what}: {told} has an I/O error", _CHECK_IT)
        hanging = [call.lane for call in self._hung].count(lane)
        if hanging >= self.LANES[lane]:
            raise DeadlineExceeded(f"{told} hangs: {hanging} calls to it do not come back", _CHECK_IT)
        call = _Hung(what, effect, self.loop.create_future(), lane, DOMAIN.get())
        self._hung.append(call)
        try:
            async with asyncio.timeout(DEADLINE_S):
                found: T = await call.answer
                return found
        except TimeoutError:
            raise DeadlineExceeded(f"{what} on {told} took longer than {DEADLINE_S:g} s", _CHECK_IT) from None

    # faults ----------------------------------------------------------------------------------------

    def set_fault(self, fault: Fault) -> None:
        """Calls that hang are carried out when the path works again, whether anybody still waits for them or not,
        each a moment later and so in any order; of an agent that was killed meanwhile every other one."""
        if fault is self.fault:
            return
        self.fault = fault
        for number, call in enumerate(list(self._hung) if fault is not Fault.HANG else ()):
            is_orphan = call.domain is not None and call.domain.is_ended
            if fault is Fault.CUT or (is_orphan and number % 2):
                self._fail(call)
            else:
                self.loop.world_at(self.loop.now + LANDING_FACTOR * self._slow.next(), self._land, call)
        for told in list(self.on_fault):
            told()

    def _fail(self, call: _Hung) -> None:
        self._hung.remove(call)
        if not call.answer.done():
            call.answer.set_exception(
                StorageError(f"{call.what}: datastore {self.name} has an I/O error", _CHECK_IT)
            )
            call.answer.exception()  # it may be that nobody asks any more

    def _land(self, call: _Hung) -> None:
        """Unless it hangs again, or the host lost its power."""
        if self.fault is Fault.HANG or call not in self._hung:
            return
        self._hung.remove(call)
        try:
            found = call.effect()
        except ZugvogelError as error:
            if not call.answer.done():
                call.answer.set_exception(error)
                call.answer.exception()
            return
        if not call.answer.done():
            call.answer.set_result(found)

    def drop(self) -> None:
        """The host lost its power: what hung never happens."""
        self._hung.clear()


class SimLeases:
    """`chains` of the vms, or of roles. `begun(host, lease)` is told of a claim before `link(host, lease)`."""

    def __init__(
        self,
        path: StoragePath,
        host: str,
        chains: dict[str, LeaseChain],
        link: Callable[[str, Lease], Lease],
        begun: Callable[[str, Lease], None] = lambda host, lease: None,
    ) -> None:
        self._path, self._host, self._chains, self._link, self._begun = path, host, chains, link, begun

    async def read(self, vm: str) -> Lease | None:
        if self._path.is_quick():
            return self._look(vm)
        return await self._path.read(f"reading the lease of {vm}", lambda: self._look(vm), 1)

    def _look(self, vm: str) -> Lease | None:
        chain = self._chains.get(vm)
        return chain.top if chain is not None else None

    async def claim(self, lease: Lease) -> Lease:
        self._begun(self._host, lease)
        return await self._path.write(f"claiming {lease.vm}", lambda: self._link(self._host, lease), 1)


class SimBeats:
    def __init__(self, path: StoragePath, host: str) -> None:
        self._path, self._host = path, host

    async def write(self, beat: Beat) -> None:
        if self._path.is_quick():
            self._put(beat)
        else:
            await self._path.read(WRITING_BEAT, lambda: self._put(beat), 2)

    def may_still_land(self) -> bool:
        return self._path.hangs(WRITING_BEAT)

    def _put(self, beat: Beat) -> None:
        files = self._path.files
        files.beats[beat.host] = beat
        files.on_beat(self._host, beat)

    async def read(self, host: str) -> Beat | None:
        if self._path.is_quick():
            return self._path.files.beats.get(host)
        return await self._path.read("reading its beat", lambda: self._path.files.beats.get(host), 2)

    async def read_all(self) -> dict[str, Beat]:
        if self._path.is_quick():
            return self._path.files.beats.copy()
        return await self._path.read("reading the beats", self._path.files.beats.copy, 2)


class SimOrders:
    def __init__(self, path: StoragePath, kind: str) -> None:
        self._path = path
        self._box = path.files.boxes.setdefault(kind, OrderBox())

    async def give(self, host: str, vm: str, order: bytes) -> None:
        orders = self._box.orders
        await self._path.write("giving an order", lambda: orders.setdefault(host, {}).update({vm: order}), 1)

    async def answer(self, host: str, vm: str, answer: bytes) -> None:
        await self._path.write("answering", lambda: self._box.answers.update({(host, vm): answer}), 1)

    async def withdraw(self, host: str, vm: str) -> None:
        await self._path.write("taking an order back", lambda: self._box.answers.pop((host, vm), None), 1)

    async def take_back(self, host: str, vm: str) -> None:
        def remove() -> None:
            self._box.orders.get(host, {}).pop(vm, None)
            self._box.answers.pop((host, vm), None)

        await self._path.write("taking an order back", remove, 1)

    async def given(self, host: str) -> dict[str, bytes]:
        if self._path.is_quick():
            return dict(self._box.orders.get(host, ()))
        return await self._path.read("looking for orders", lambda: dict(self._box.orders.get(host, ())), 1)

    async def answer_of(self, host: str, vm: str) -> bytes | None:
        return await self._path.read("looking for an answer", lambda: self._box.answers.get((host, vm)), 1)


class SimFolders:
    def __init__(self, path: StoragePath) -> None:
        self._path, self._files = path, path.files

    def path(self, vm: str, file: str = "") -> Path:
        return Path(self._files.datastore.path) / vm / file

    async def names(self) -> list[str]:
        return await self._path.read("listing the vms", lambda: sorted(self._files.folders))

    async def create(self, definition: VmDefinition) -> None:
        def make() -> None:
            if definition.name in self._files.folders:
                raise AlreadyExists(f"there is a vm {definition.name} already", "choose another name")
            self._files.folders[definition.name] = Folder(definition)

        await self._path.write(f"making {definition.name}", make)

    async def read(self, vm: str) -> VmDefinition:
        return await self._path.read(f"reading the definition of {vm}", lambda: self._files.folder(vm).definition)

    async def write(self, definition: VmDefinition) -> None:
        def put() -> None:
            self._files.folder(definition.name).definition = definition

        await self._path.write(f"writing the definition of {definition.name}", put)

    async def delete(self, vm: str) -> None:
        def remove() -> None:
            self._files.folder(vm)
            del self._files.folders[vm]
            self._files.leases.pop(vm, None)

        await self._path.write(f"deleting {vm}", remove)

    async def create_disk(self, vm: str, file: str, format: str, size_bytes: int) -> None:
        def put() -> None:
            self._files.folder(vm).files[file] = size_bytes

        await self._path.write(f"making {file} of {vm}", put)

    async def import_image(self, vm: str, file: str, image: Path, size_bytes: int) -> tuple[str, int]:
        raise NotFound(f"there is no image {image} in a simulated world", "give a disk's size instead")

    async def copy_in(self, vm: str, file: str, source: Path) -> None:
        raise NotFound(f"there is no file {source} in a simulated world", "")

    async def may_be_written(self, vm: str, file: str) -> bool:
        files = self._files
        return await self._path.read(f"looking at the lock of {vm}", lambda: files.has_locks and vm in files.locks)

    async def make_seed(self, vm: str, user_data: Path) -> str:
        raise NotFound(f"there is no file {user_data} in a simulated world", "")

    async def write_note(self, vm: str, name: str, data: bytes) -> None:
        await self._path.write(
            f"writing {name} of {vm}", lambda: self._files.folder(vm).notes.update({name: data})
        )

    async def read_note(self, vm: str, name: str) -> bytes | None:
        def look() -> bytes | None:
            folder = self._files.folders.get(vm)
            return folder.notes.get(name) if folder is not None else None

        return await self._path.read(f"reading {name} of {vm}", look)

    async def list_notes(self, vm: str, prefix: str) -> list[str]:
        return await self._path.read(f"listing the notes of {vm}", lambda: self._notes(vm, prefix))

    def _notes(self, vm: str, prefix: str) -> list[str]:
        folder = self._files.folders.get(vm)
        if folder is None or not folder.notes:
            return []
        return sorted([note for note in folder.notes if note.startswith(prefix)])

    async def delete_note(self, vm: str, name: str) -> None:
        def remove() -> None:
            folder = self._files.folders.get(vm)
            if folder is not None:
                folder.notes.pop(name, None)

        await self._path.write(f"deleting {name} of {vm}", remove)


class SimMount:
    """`zugvogel.ports.storage.MountedDatastore`."""

    def __init__(self, path: StoragePath, host: str, memory: SimMemory) -> None:
        files = path.files
        self._path = path
        self.datastore: Datastore = files.datastore
        self.leases = SimLeases(
            path, host, files.leases, files.claim, lambda host, lease: files.on_claim(host, lease)
        )
        self.role_leases = SimLeases(path, host, files.roles, files.claim_role)
        self.folders = SimFolders(path)
        self.beats = SimBeats(path, host)
        self.memory = memory
        self.orders = SimOrders(path, "resume")
        self.start_orders = SimOrders(path, "start")
        self.isolation_orders = SimOrders(path, "isolation")

    async def report(self) -> DatastoreReport:
        name = self.datastore.name
        try:
            free = await self._path.read("looking", self._path.files.free_bytes)
        except ZugvogelError as error:
            return DatastoreReport(name=name, is_usable=False, why=error.cause)
        return DatastoreReport(
            name=name,
            is_usable=True,
            fs_type=self.datastore.kind.split()[0].lower(),
            free_bytes=free // _GRAIN_BYTES * _GRAIN_BYTES,
            total_bytes=self._path.files.size_bytes,
        )


class SimDatastores:
    """`zugvogel.ports.storage.Datastores`: `mounts` by name, as they were when the agent started."""

    def __init__(self, mounts: dict[str, SimMount]) -> None:
        self._mounts = mounts

    async def recognise(self, path: str) -> FileSystem:
        for mount in self._mounts.values():
            if mount.datastore.path == path:
                kind = mount.datastore.kind
                return FileSystem(fs_type=kind.split()[0].lower(), source="sim", kind=kind, sharing=Sharing.SHARED)
        raise NotFound(f"{path} is no datastore of this simulated world", "name it in the scenario")

    async def write_probe(self, path: str, nonce: str, host: str) -> None:
        await self.recognise(path)

    async def read_probes(self, path: str, nonce: str) -> set[str]:
        raise NotFound("datastores of a simulated world are named in its scenario", "")

    async def clear_probes(self, path: str, nonce: str) -> None:
        await self.recognise(path)

    async def initialise(self, datastore: Datastore) -> None:
        await self.recognise(datastore.path)

    def open(self, datastore: Datastore) -> SimMount:
        mount = self._mounts[datastore.name]
        mount.datastore = datastore
        return mount

    async def find_image(self, datastore: Datastore, image: str) -> dict[str, Path]:
        raise NotFound(f"there is no image {image}", "a simulated world has none")
