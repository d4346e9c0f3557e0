from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.datastore.conftest import opened
from tests.adapters.datastore.test_folders import WEB
from zugvogel.adapters.datastore.store import FileMountedDatastore
from zugvogel.domain.host import CpuFacts
from zugvogel.domain.memory import Manifest, MemoryFormat
from zugvogel.errors import AlreadyExists, NotFound, Refused, StorageError

MIB = 1 << 20
CPU = CpuFacts(vendor="AuthenticAMD", family=25, model=1, stepping=1, name="cpu", flags=frozenset({"sse4_2"}))


def manifest(memory_id: str = "m1") -> Manifest:
    return Manifest(
        id=memory_id,
        vm="web",
        host="host1",
        epoch=3,
        format=MemoryFormat.MAPPED,
        definition=WEB,
        cpu=CPU,
        accelerator="tcg",
        qemu_version="10.0.2",
    )


@pytest.fixture
async def store(tmp_path: Path) -> FileMountedDatastore:
    found = await opened(tmp_path)
    await found.folders.create(WEB)
    (tmp_path / "web" / "disk0.qcow2").write_bytes(b"disk")
    return found


async def saved(store: FileMountedDatastore, size: int = 9 * MIB + 4096) -> tuple[Path, Manifest]:
    path = await store.memory.make("web", "m1")
    path.write_bytes(os.urandom(size))
    return path, await store.memory.seal(manifest())


async def test_what_was_sealed_is_read_and_verified(store: FileMountedDatastore) -> None:
    path, whole = await saved(store)
    assert whole.size_bytes == path.stat().st_size
    assert whole.used_bytes >= whole.size_bytes
    assert [d.file for d in whole.disks] == ["disk0.qcow2"]
    assert await store.memory.read("web", "m1") == whole
    await store.memory.verify(whole)
    assert await store.memory.ids("web") == ["m1"]


@pytest.mark.parametrize("size", [1, 4096, MIB, 2 * MIB, 3 * MIB + 5])
async def test_memory_of_any_size(store: FileMountedDatastore, size: int) -> None:
    _, whole = await saved(store, size)
    await store.memory.verify(whole)


@pytest.mark.parametrize("place", [0, 5 * MIB, -1])
async def test_a_changed_file_is_refused(store: FileMountedDatastore, place: int) -> None:
    """At both ends any byte counts; between them a part that is missing shows in the samples."""
    path, whole = await saved(store)
    with path.open("r+b") as file:
        file.seek(place, os.SEEK_END if place < 0 else os.SEEK_SET)
        file.write(bytes(MIB) if place > 0 else b"\0" if place else b"\0\0\0\0")
    with pytest.raises(Refused, match="not what was saved"):
        await store.memory.verify(whole)


async def test_a_file_that_was_cut_is_refused(store: FileMountedDatastore) -> None:
    path, whole = await saved(store)
    os.truncate(path, whole.size_bytes - 4096)
    with pytest.raises(Refused, match="not what was saved"):
        await store.memory.verify(whole)


async def test_a_file_that_is_gone_is_refused(store: FileMountedDatastore) -> None:
    path, whole = await saved(store)
    path.unlink()
    with pytest.raises(Refused, match="not there"):
        await store.memory.verify(whole)
    with pytest.raises(NotFound):
        await store.memory.path("web", "m1")


async def test_a_disk_that_was_changed_is_refused(store: FileMountedDatastore) -> None:
    path, whole = await saved(store)
    disk = path.parent / "disk0.qcow2"
    os.utime(disk, ns=(1, 1))
    with pytest.raises(Refused, match=r"disk0\.qcow2 of web was changed"):
        await store.memory.verify(whole)
    disk.unlink()
    with pytest.raises(Refused, match="not there"):
        await store.memory.verify(whole)


async def test_without_a_manifest_nothing_was_saved(store: FileMountedDatastore) -> None:
    await store.memory.make("web", "m1")
    with pytest.raises(NotFound, match="no manifest"):
        await store.memory.read("web", "m1")


@pytest.mark.parametrize("data", [b"", b"{}", b"half"])
async def test_a_torn_manifest_is_an_error(store: FileMountedDatastore, data: bytes) -> None:
    path, _ = await saved(store)
    path.with_suffix(".json").write_bytes(data)
    with pytest.raises(StorageError, match="damaged"):
        await store.memory.read("web", "m1")


async def test_a_manifest_of_another_vm_is_an_error(store: FileMountedDatastore) -> None:
    path, _ = await saved(store)
    path.with_suffix(".json").rename(path.with_name("memory.m2.json"))
    with pytest.raises(StorageError, match="another vm"):
        await store.memory.read("web", "m2")


async def test_a_memory_file_is_never_written_over(store: FileMountedDatastore) -> None:
    await store.memory.make("web", "m1")
    with pytest.raises(AlreadyExists):
        await store.memory.make("web", "m1")


@pytest.mark.parametrize("memory_id", ["", "../x", "a/b", "A", "x" * 41])
async def test_ids_never_become_paths(store: FileMountedDatastore, memory_id: str) -> None:
    with pytest.raises(NotFound):
        await store.memory.make("web", memory_id)


async def test_discarding_leaves_nothing_and_may_be_repeated(store: FileMountedDatastore) -> None:
    await saved(store)
    await store.memory.discard("web", "m1")
    await store.memory.discard("web", "m1")
    assert await store.memory.ids("web") == []


async def test_measuring_leaves_nothing(store: FileMountedDatastore, tmp_path: Path) -> None:
    before = sorted((tmp_path / "web").iterdir())
    assert await store.memory.measure_write_bps("web", 4 * MIB) > 0
    assert sorted((tmp_path / "web").iterdir()) == before
    assert await store.memory.free_bytes() > 0


async def test_the_vms_deletion_takes_its_memory_along(store: FileMountedDatastore, tmp_path: Path) -> None:
    await saved(store)
    await store.folders.delete("web")
    assert not (tmp_path / "web" / "memory.m1.ram").exists()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.skipif(os.getuid() != 0, reason="mounting needs root")
async def test_a_full_datastore_is_one_plain_error(small: Path) -> None:
    store = await opened(small)
    await store.folders.create(WEB)
    with pytest.raises(StorageError, match="full"):
        await store.memory.measure_write_bps("web", 32 * MIB)
    assert sorted(p.name for p in (small / "web").iterdir()) == ["vm.toml"]
