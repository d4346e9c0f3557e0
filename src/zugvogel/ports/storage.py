"""Datastores as services see them: VM folders, leases, beats, the sharing proof.

All paths are made inside the adapter from validated names. Every call has a deadline: a hung datastore
raises `DeadlineExceeded` (and says nothing about whether the operation happened), an error `StorageError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from zugvogel.domain.datastore import Beat, Datastore, FileSystem
from zugvogel.domain.host import DatastoreReport
from zugvogel.domain.lease import Lease
from zugvogel.domain.memory import Manifest, StreamSum
from zugvogel.domain.vm import VmDefinition


class LeaseStore(Protocol):
    """Leases of the vms on one datastore; also of ``.zugvogel/roles/active-primary``."""

    async def read(self, vm: str) -> Lease | None:
        """The lease with the highest epoch found, or None where there never was one. A listing never
        proves that no higher epoch exists: only `claim` decides."""

    async def claim(self, lease: Lease) -> Lease:
        """Link ``lease.<lease.epoch>``, complete and durable. Raises `LeaseTaken` when that epoch (or a
        higher one) exists and is not byte for byte this claim. Prunes epochs older than
        `lease.epoch - KEPT_EPOCHS`. The caller passes judged epoch + 1, never more."""


class VmFolders(Protocol):
    """VM folders of one datastore."""

    async def names(self) -> list[str]:
        """Names of folders that hold a vm.toml."""

    async def create(self, definition: VmDefinition) -> None:
        """Make folder and vm.toml, durable. Raises `AlreadyExists`."""

    async def read(self, vm: str) -> VmDefinition:
        """Raises `NotFound`, or `InvalidInput` naming the line that is wrong."""

    async def write(self, definition: VmDefinition) -> None:
        """Replace vm.toml atomically and durably."""

    async def delete(self, vm: str) -> None:
        """Remove the folder and all in it (files this product knows; anything foreign is kept, and the
        error says what)."""

    async def create_disk(self, vm: str, file: str, format: str, size_bytes: int) -> None: ...

    async def import_image(self, vm: str, file: str, image: Path, size_bytes: int) -> tuple[str, int]:
        """Copy `image` (raw or qcow2, recognised by content, never by header trust alone) as disk `file`,
        grown to `size_bytes` if larger. Returns its format and size. Raises
        `Refused` for images with a backing file."""

    async def copy_in(self, vm: str, file: str, source: Path) -> None:
        """Copy a plain file (kernel, initrd, seed) into the folder."""

    async def may_be_written(self, vm: str, file: str) -> bool:
        """QEMU's lock of that disk says that a process has it open to write, on whatever host; one that stands
        still too. False also where there is no such file. Takes no lock. Of use only where the locks of a host are
        seen by the others."""

    async def make_seed(self, vm: str, user_data: Path) -> str:
        """A NoCloud seed image in the folder, made of `user_data`. Returns its file name."""

    async def write_note(self, vm: str, name: str, data: bytes) -> None:
        """Write a small file of ours (procedure record, word) atomically and durably."""

    async def read_note(self, vm: str, name: str) -> bytes | None: ...

    async def list_notes(self, vm: str, prefix: str) -> list[str]: ...

    async def delete_note(self, vm: str, name: str) -> None: ...

    def path(self, vm: str, file: str = "") -> Path:
        """Absolute path on this host, for QEMU."""


class MemoryStream(Protocol):
    """One end of a memory file that grows. `fd` is the pipe's end for QEMU, ours until `begin`, which is called
    once QEMU has it."""

    fd: int

    def begin(self) -> None: ...

    @property
    def is_over(self) -> bool:
        """All is done, or there is an `error`; or it was closed before it began."""

    @property
    def error(self) -> str: ...
    @property
    def file_bytes(self) -> int:
        """How far in the file this end is."""

    @property
    def sum(self) -> StreamSum: ...

    def close(self) -> None:
        """Give up; QEMU sees its pipe closed."""


class MemoryWriter(MemoryStream, Protocol):
    """It is over when QEMU has closed its end and all is durable. `ceiling`: the file grows no further for now."""

    ceiling: int


class MemoryReader(MemoryStream, Protocol):
    """It passes on what is durable, each frame checked, and is over at the end that `end_at` names."""

    def end_at(self, size_bytes: int) -> None: ...


class MemoryStore(Protocol):
    """Saved memory of the vms on one datastore: ``memory.<id>.ram`` and its manifest ``memory.<id>.json`` in the
    vm's folder."""

    def writer(self, vm: str, memory_id: str, *, is_compressed: bool) -> MemoryWriter:
        """Of a file that was made before. `is_compressed`: with zstd, where that makes it smaller."""

    def reader(self, vm: str, memory_id: str) -> MemoryReader:
        """Of a file that grows, or was sealed; it need not be there yet."""

    async def free_bytes(self) -> int: ...

    async def measure_write_bps(self, vm: str, size_bytes: int) -> float:
        """Write a temporary file of that size in the vm's folder, past the page cache and durably; bytes/s."""

    async def make(self, vm: str, memory_id: str) -> Path:
        """A new empty memory file that QEMU's user may write. Raises `AlreadyExists`."""

    async def path(self, vm: str, memory_id: str) -> Path:
        """Where the memory file lies. Raises `NotFound`."""

    async def seal(self, manifest: Manifest) -> Manifest:
        """Make the memory file durable, take size, checksum (a stream's is known) and the disks' states, write the
        manifest durably. From here on the memory can be loaded. Returns the whole manifest."""

    async def read(self, vm: str, memory_id: str) -> Manifest:
        """The manifest as written. Raises `NotFound`, or `StorageError` when it is torn or of another vm."""

    async def verify(self, manifest: Manifest) -> None:
        """Raises `Refused` when the memory file is torn or another one (of a stream only its length is looked at;
        its frames are checked as they are read), or a disk changed since."""

    async def ids(self, vm: str) -> list[str]:
        """Of all memory files and manifests in the vm's folder."""

    async def discard(self, vm: str, memory_id: str) -> None:
        """Remove manifest and file, in this order; nothing if they are not there."""


class Orders(Protocol):
    """Orders of one kind between hosts through the datastore alone: ``.zugvogel/orders/<host>/<vm>.<kind>`` and
    the answer beside it. Whoever gives an order takes it back when it is done with."""

    async def give(self, host: str, vm: str, order: bytes) -> None: ...

    async def withdraw(self, host: str, vm: str) -> None:
        """Remove the answer alone."""

    async def take_back(self, host: str, vm: str) -> None:
        """The order and its answer; nothing if they are not there."""

    async def given(self, host: str) -> dict[str, bytes]:
        """vm -> order, of all that were given to `host` and not taken back."""

    async def answer(self, host: str, vm: str, answer: bytes) -> None: ...

    async def answer_of(self, host: str, vm: str) -> bytes | None: ...


class Beats(Protocol):
    """Host beats on one datastore."""

    async def write(self, beat: Beat) -> None:
        """Direct, synchronous I/O past the client's cache."""

    def may_still_land(self) -> bool:
        """A write that was given up has not come back: it may still replace what was written after it."""

    async def read(self, host: str) -> Beat | None:
        """As it stands on the datastore now, past this client's cache. None: there is none, or a torn one."""

    async def read_all(self) -> Mapping[str, Beat | str]:
        """host -> its beat as it stands on the datastore now, past this client's cache; or why its file cannot be
        read, which tells neither life nor silence. Torn or foreign files are left out. Raises `StorageError` where
        none can be read."""


class MountedDatastore(Protocol):
    """One datastore on this host."""

    @property
    def datastore(self) -> Datastore: ...
    @property
    def leases(self) -> LeaseStore: ...
    @property
    def folders(self) -> VmFolders: ...
    @property
    def beats(self) -> Beats: ...
    @property
    def memory(self) -> MemoryStore: ...
    @property
    def orders(self) -> Orders:
        """To load saved memory (`ResumeOrder`)."""

    @property
    def start_orders(self) -> Orders:
        """Of the active primary: `StartOrder`."""

    @property
    def isolation_orders(self) -> Orders:
        """Of the active primary to an isolated host: `IsolationOrder`."""

    @property
    def role_leases(self) -> LeaseStore:
        """Leases in ``.zugvogel/roles``, the name of the role in place of the vm's."""

    async def report(self) -> DatastoreReport: ...


class Datastores(Protocol):
    """All datastores as this host reaches them."""

    async def recognise(self, path: str) -> FileSystem:
        """The file system under `path` on this host. Raises `Refused` when it is no directory."""

    async def write_probe(self, path: str, nonce: str, host: str) -> None:
        """First half of the sharing proof: ``<path>/.zugvogel/probe/<nonce>.<host>``."""

    async def read_probes(self, path: str, nonce: str) -> set[str]:
        """Second half: the hosts whose probe with `nonce` this host sees."""

    async def clear_probes(self, path: str, nonce: str) -> None: ...

    async def initialise(self, datastore: Datastore) -> None:
        """Make ``.zugvogel`` with the id; refuses a datastore that carries another id (a foreign cluster's)."""

    def open(self, datastore: Datastore) -> MountedDatastore:
        """Does no I/O; a wrong or absent mount shows in `report()` and as StorageError."""

    async def find_image(self, datastore: Datastore, image: str) -> dict[str, Path]:
        """An image by name from ``<path>/.zugvogel/images/<image>/`` or a file by absolute path.
        Keys: "disk" and/or "kernel", "initrd"; and "append" (a file with the kernel command line).
        Raises `NotFound` listing what there is."""
