"""A vm's VGA card and its VNC socket with real QEMUs: who may look, and that both go with a vm that moves."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import stat
from pathlib import Path

import pytest

from tests.adapters.qemu.conftest import Spawn, firmware_vm, host
from tests.adapters.qemu.test_migration import Pair
from tests.adapters.qemu.test_saved_memory import FORMATS, load, memory_file, saved, until
from tests.rfb import Picture, Viewer
from zugvogel.domain.memory import MemoryFormat
from zugvogel.domain.vm import Boot
from zugvogel.lab import guest
from zugvogel.ports.hypervisor import Machine, MachineSpec, MachineStatus

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(90)]

MACHINES = ("pc-q35-7.2", "pc-i440fx-7.2")
STRANGER = 1
"""Neither root nor QEMU's user."""
CURSOR = 9 * 16
"""Pixels of a letter: it blinks."""


def socket_of(machine: Machine) -> Path:
    assert machine.display_socket is not None
    return machine.display_socket


async def shown(machine: Machine) -> Picture:
    viewer = await Viewer.connect(socket_of(machine))
    try:
        return await viewer.picture()
    finally:
        viewer.close()


async def writing(machine: Machine) -> Machine:
    """It runs, and its firmware has begun to write."""
    await machine.cont()
    viewer = await Viewer.connect(socket_of(machine))
    await viewer.picture_where(is_text)
    viewer.close()
    return machine


def is_text(picture: Picture) -> bool:
    """In a PC's text mode; before, QEMU itself says that the guest has shown nothing yet."""
    return picture.height == 400 and picture.lit > 10 * CURSOR


def is_same(one: Picture, other: Picture) -> bool:
    return one.differs_in(other) <= CURSOR


async def test_vnc_asks_for_no_password_and_shows_what_the_firmware_writes(root: Path, spawn: Spawn) -> None:
    machine = await spawn(host(root, "a"), firmware_vm(root, display="vga"))
    viewer = await Viewer.connect(socket_of(machine))
    assert viewer.version == b"RFB 003.008\n"
    assert viewer.security == (1,)
    assert not is_text(await viewer.picture())
    await machine.cont()
    await viewer.picture_where(is_text)


async def test_a_viewer_that_wants_to_be_alone_shuts_nobody_out(root: Path, spawn: Spawn) -> None:
    machine = await spawn(host(root, "a"), firmware_vm(root, display="vga"))
    first = await Viewer.connect(socket_of(machine))
    await first.picture()
    second = await Viewer.connect(socket_of(machine), is_shared=False)
    await second.picture()
    await first.picture()


async def test_only_root_and_qemus_user_can_look(root: Path, spawn: Spawn) -> None:
    machine = await spawn(host(root, "a"), firmware_vm(root, display="vga"))
    directory = socket_of(machine).parent.stat()
    assert (directory.st_uid, stat.S_IMODE(directory.st_mode)) == (65534, 0o700)
    with pytest.raises(PermissionError):
        connect_as(STRANGER, socket_of(machine))
    connect_as(65534, socket_of(machine))


def connect_as(user: int, path: Path) -> None:
    os.seteuid(user)
    try:
        with socket.socket(socket.AF_UNIX) as viewer:
            viewer.connect(str(path))
    finally:
        os.seteuid(0)


async def test_the_sandbox_is_on_and_vnc_listens_on_no_port(root: Path, spawn: Spawn) -> None:
    machine = await spawn(host(root, "a"), firmware_vm(root, display="vga"))
    await shown(machine)
    assert "Seccomp:\t2" in await asyncio.to_thread(Path(f"/proc/{machine.pid}/status").read_text)
    told = await machine.execute("query-vnc-servers")
    assert [s["family"] for server in told for s in server["server"]] == ["unix"]


async def test_a_vm_without_a_display_has_none(root: Path, spawn: Spawn) -> None:
    machine = await spawn(host(root, "a"), firmware_vm(root))
    assert machine.display_socket is None
    assert await machine.execute("query-vnc-servers") == []


async def test_a_later_agent_finds_the_display(root: Path, spawn: Spawn) -> None:
    first = await spawn(host(root, "a"), firmware_vm(root, display="vga"))
    await first._client.disconnect()  # type: ignore[attr-defined]  # the agent is gone
    [adopted] = await host(root, "a").adopt()
    assert (await shown(adopted)).width > 0


@pytest.mark.parametrize("machine", MACHINES)
async def test_a_live_migration_takes_the_picture_along(root: Path, spawn: Spawn, machine: str) -> None:
    source = await writing(await spawn(host(root, "a"), firmware_vm(root, display="vga", machine=machine)))
    viewer = await Viewer.connect(socket_of(source))
    wanted = firmware_vm(root, display="vga", machine=machine, incoming=True)
    pair = Pair(source, await spawn(host(root, "b"), wanted))
    await pair.begin({}, {}, {})
    assert await pair.until("completed", "failed") == "completed"
    await until_loaded(pair.target)
    assert socket_of(pair.target) != socket_of(source)
    assert is_same(await shown(pair.target), await shown(source))
    await source.quit()
    await viewer.ended()  # who looks hears that the vm is elsewhere
    await pair.target.cont()
    await shown(pair.target)


async def until_loaded(target: Machine) -> None:
    while await target.status() is MachineStatus.INMIGRATE:  # noqa: ASYNC110 - QEMU is asked
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("form", FORMATS)
async def test_saved_memory_brings_the_picture_back(root: Path, spawn: Spawn, form: MemoryFormat) -> None:
    path = memory_file(root)
    source = await writing(await spawn(host(root, "a"), firmware_vm(root, display="vga")))
    await saved(source, path, form)
    before = await shown(source)
    await source.quit()
    target = await spawn(host(root, "b"), firmware_vm(root, display="vga", incoming=True))
    await load(target, path, form)
    assert await until(target, "completed", "failed") == "completed"
    assert is_same(await shown(target), before)
    assert is_text(before)


async def test_memory_of_a_vm_with_a_display_is_not_loaded_without_one(root: Path, spawn: Spawn) -> None:
    """Why a changed display waits for the next start."""
    source = await writing(await spawn(host(root, "a"), firmware_vm(root, display="vga")))
    target = await spawn(host(root, "b"), firmware_vm(root, incoming=True))
    pair = Pair(source, target)
    await pair.begin({}, {}, {})
    assert await pair.until("completed", "failed") == "failed"


@pytest.mark.timeout(180)
async def test_what_is_typed_into_the_display_reaches_the_guest(root: Path, spawn: Spawn) -> None:
    """The lab's guest has a shell on its screen; what it answers is seen there, and told on the serial line."""
    machine = await spawn(host(root, "a"), screen_vm(root))
    serial = root / "a/log/fw1/serial.log"
    await machine.cont()
    viewer = await Viewer.connect(socket_of(machine))
    while "#" not in serial.read_text(errors="replace"):  # noqa: ASYNC110 - until the other shell is there
        await asyncio.sleep(0.1)
    prompt = await viewer.picture_where(is_text)
    await viewer.type("echo Typed-$((40+2)) | tee /dev/ttyS0\n")
    while "Typed-42" not in serial.read_text(errors="replace"):  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    await viewer.picture_where(lambda p: p.lit > prompt.lit + 10 * CURSOR)


def screen_vm(root: Path) -> MachineSpec:
    image = guest.build()
    for source, name in ((image.kernel, "kernel"), (image.initrd, "initrd")):
        shutil.copyfile(source, root / name)
        (root / name).chmod(0o644)
    boot = Boot(kernel="kernel", initrd="initrd", append=image.append)
    definition = firmware_vm(root, display="vga").definition
    return MachineSpec(definition.model_copy(update={"memory_bytes": 128 << 20, "boot": boot}), root, ())
