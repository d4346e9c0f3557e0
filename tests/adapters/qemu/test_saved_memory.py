"""A vm's memory to a file and back, with real QEMUs: zugvogel.adapters.qemu.saved_memory"""

from __future__ import annotations

import asyncio
import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.qemu.conftest import Spawn, firmware_vm, host
from zugvogel.adapters.datastore.growing_files import GrowingReader, GrowingWriter
from zugvogel.adapters.qemu.saved_memory import takes_direct_io
from zugvogel.domain.memory import MemoryFormat
from zugvogel.errors import Unreachable
from zugvogel.ports.hypervisor import Machine, MachineStatus

FORMATS = [MemoryFormat.MAPPED, MemoryFormat.STREAM]


def memory_file(folder: Path, name: str = "memory") -> Path:
    """As the datastore makes it: empty, QEMU's user may write it."""
    path = folder / name
    path.touch(mode=0o600)
    nobody = pwd.getpwnam("nobody")
    os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return path


async def until(machine: Machine, *statuses: str) -> str:
    while (status := (await machine.migration()).status) not in statuses:  # noqa: ASYNC110 - QEMU is asked
        await asyncio.sleep(0.01)
    return status


async def fingerprint(machine: Machine, root: Path, name: str) -> bytes:
    """A piece of the guest's memory, by way of a file of QEMU's user."""
    path = memory_file(root, name)
    await machine.execute("pmemsave", {"val": 0xF0000, "size": 65536, "filename": str(path)})
    return path.read_bytes()


async def saved(machine: Machine, path: Path, form: MemoryFormat) -> None:
    await machine.stop()
    writer = await ordered(machine, path, form)
    assert await until(machine, "completed", "failed") == "completed"
    while not (writer is None or writer.is_over):  # noqa: ASYNC110 - a thread is asked
        await asyncio.sleep(0.01)
    assert writer is None or not writer.error


async def ordered(machine: Machine, path: Path, form: MemoryFormat) -> GrowingWriter | None:
    """The save is under way."""
    if form is MemoryFormat.MAPPED:
        await machine.save_to(path)
        return None
    writer = GrowingWriter(path, path.with_suffix(".len"), "m", lambda: None)
    await machine.save_stream(writer.fd)
    writer.begin()
    return writer


async def load(machine: Machine, path: Path, form: MemoryFormat) -> GrowingReader | None:
    if form is MemoryFormat.MAPPED:
        await machine.load_from(path)
        return None
    reader = GrowingReader(path, path.with_suffix(".len"), "m", lambda: None)
    await machine.load_stream(reader.fd)
    reader.begin()
    reader.end_at(path.stat().st_size)  # noqa: ASYNC240
    return reader


async def test_this_qemu_maps(root: Path, spawn: Spawn) -> None:
    """What the next tests rely on: QEMU >= 9.1 on the machines that test."""
    machine = await spawn(host(root, "a"), firmware_vm(root))
    assert "mapped-ram" in await machine.migration_capabilities()


@pytest.mark.parametrize("form", FORMATS)
async def test_what_was_saved_goes_on_elsewhere(root: Path, spawn: Spawn, form: MemoryFormat) -> None:
    path = memory_file(root)
    source = await spawn(host(root, "a"), firmware_vm(root))
    await source.cont()
    await asyncio.sleep(0.2)
    await saved(source, path, form)
    before = await fingerprint(source, root, "before")
    assert await source.memory_used_bytes() > 0
    await source.quit()
    target = await spawn(host(root, "b"), firmware_vm(root, incoming=True))
    await load(target, path, form)
    assert await until(target, "completed", "failed") == "completed"
    assert await target.status() is not MachineStatus.RUNNING
    assert await fingerprint(target, root, "after") == before
    await target.cont()
    assert await target.status() is MachineStatus.RUNNING


@pytest.mark.parametrize("machine", ["pc-q35-7.2", "pc-i440fx-7.2"])
@pytest.mark.parametrize("form", FORMATS)
async def test_a_preallocated_qemu_and_a_plain_one_load_what_the_other_saved(
    root: Path, spawn: Spawn, form: MemoryFormat, machine: str
) -> None:
    running = await spawn(host(root, "a"), firmware_vm(root, machine=machine))
    await running.cont()
    for number, is_preallocated in enumerate((True, False)):
        path = memory_file(root, f"memory{number}")
        await saved(running, path, form)
        await running.quit()
        wanted = firmware_vm(root, incoming=True, is_preallocated=is_preallocated, machine=machine)
        running = await spawn(host(root, f"b{number}"), wanted)
        await load(running, path, form)
        assert await until(running, "completed", "failed") == "completed"
        await running.cont()
    assert await running.status() is MachineStatus.RUNNING


@pytest.mark.parametrize("form", FORMATS)
async def test_a_saved_vm_can_go_on_and_be_saved_again(root: Path, spawn: Spawn, form: MemoryFormat) -> None:
    machine = await spawn(host(root, "a"), firmware_vm(root))
    await machine.cont()
    for number, again in enumerate([form, *FORMATS]):
        await saved(machine, memory_file(root, f"memory{number}"), again)
        await machine.forget_save()
        await machine.cont()
        assert await machine.status() is MachineStatus.RUNNING


async def test_a_save_is_slowed_down_and_let_go(root: Path, spawn: Spawn) -> None:
    machine = await spawn(host(root, "a"), firmware_vm(root))
    for bps, told in ((64 << 20, 64 << 20), (0, 1 << 40)):
        await machine.limit_save(bps)
        assert (await machine.execute("query-migrate-parameters"))["max-bandwidth"] == told


@pytest.mark.parametrize("form", FORMATS)
async def test_a_vm_that_came_by_an_encrypted_live_migration_can_be_saved(
    root: Path, spawn: Spawn, form: MemoryFormat
) -> None:
    machine = await spawn(host(root, "a"), firmware_vm(root))
    await machine.cont()
    await machine.execute("migrate-set-parameters", {"tls-creds": "tls-server0"})
    await saved(machine, memory_file(root), form)
    await machine.forget_save()
    await machine.cont()
    assert await machine.status() is MachineStatus.RUNNING


@pytest.mark.parametrize("form", FORMATS)
async def test_a_resumed_vm_can_be_saved_and_resumed_again(root: Path, spawn: Spawn, form: MemoryFormat) -> None:
    machine = await spawn(host(root, "a"), firmware_vm(root))
    await machine.cont()
    for number in range(2):
        path = memory_file(root, f"memory{number}")
        await saved(machine, path, form)
        await machine.quit()
        machine = await spawn(host(root, f"b{number}"), firmware_vm(root, incoming=True))
        await load(machine, path, form)
        assert await until(machine, "completed", "failed") == "completed"
        await machine.cont()
    assert await machine.status() is MachineStatus.RUNNING


@pytest.fixture
def small(root: Path) -> Iterator[Path]:
    """A file system of 64 KiB, too small for any vm."""
    place = root / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "none", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.parametrize("form", FORMATS)
async def test_a_full_file_system_leaves_a_vm_that_can_go_on(
    root: Path, small: Path, spawn: Spawn, form: MemoryFormat
) -> None:
    machine = await spawn(host(root, "a"), firmware_vm(root))
    await machine.cont()
    await asyncio.sleep(0.2)
    await machine.stop()
    writer = await ordered(machine, memory_file(small), form)
    if writer is not None:
        while not writer.is_over:  # noqa: ASYNC110 - a thread is asked
            await asyncio.sleep(0.01)
        assert "No space" in writer.error
    else:
        assert await until(machine, "completed", "failed") == "failed"
        assert (await machine.migration()).error
    assert await machine.status() is not MachineStatus.RUNNING
    await machine.forget_save()
    await machine.cont()
    assert await machine.status() is MachineStatus.RUNNING


@pytest.mark.parametrize("form", FORMATS)
async def test_torn_memory_never_becomes_a_vm(root: Path, spawn: Spawn, form: MemoryFormat) -> None:
    path = memory_file(root)
    source = await spawn(host(root, "a"), firmware_vm(root))
    await source.cont()
    await asyncio.sleep(0.2)
    await saved(source, path, form)
    os.truncate(path, path.stat().st_size // 2 if form is MemoryFormat.STREAM else 8192)
    target = await spawn(host(root, "b"), firmware_vm(root, incoming=True))
    assert await loading_ends(target, path, form) in {"failed", "ended", "unread"}


async def loading_ends(target: Machine, path: Path, form: MemoryFormat) -> str:
    """QEMU's last word, or that it has none any more; "unread" when the stream broke off before it said one."""
    try:
        reader = await load(target, path, form)
        while not (reader is None or reader.is_over):  # noqa: ASYNC110 - a thread is asked
            await asyncio.sleep(0.01)
        if reader is not None and reader.error:
            return "unread"
        return await until(target, "completed", "failed")
    except Unreachable:
        return "ended"


def test_direct_io_is_asked_of_the_file_system(tmp_path: Path) -> None:
    assert not takes_direct_io(tmp_path / "nothing")
