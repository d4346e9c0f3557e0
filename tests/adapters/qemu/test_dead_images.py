"""zugvogel.adapters.qemu.images with a real QEMU, on a FUSE mount whose process is killed and started anew"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.adapters.qemu.conftest import Spawn, firmware_vm, host
from zugvogel.adapters.datastore.deadline import Deadlines
from zugvogel.adapters.qemu import images
from zugvogel.domain.vm import Disk
from zugvogel.errors import ProcedureFailed, Refused, Unreachable
from zugvogel.ports.hypervisor import Machine, MachineSpec, MachineStatus
from zugvogel.services.local_vms import is_locked

HAS_BINDFS = shutil.which("bindfs") is not None and os.access("/dev/fuse", os.W_OK)
pytestmark = [
    pytest.mark.qemu,
    pytest.mark.timeout(60),
    pytest.mark.skipif(not HAS_BINDFS, reason="needs bindfs"),
]

WRITES, READS = 0x43, 0x42
PLACES, APART = 128, 1 << 16
SIZE = (PLACES + 1) * APART
PATIENCE_S = 20.0
DiskFormat = Literal["raw", "qcow2"]
CacheMode = Literal["none", "writethrough", "writeback"]


def boot_sector(function: int) -> bytes:
    """A guest in real mode. It counts in the first word of a buffer and writes that, by the BIOS's extended write
    (0x43), to the next of 128 places 64 KiB apart, or reads there (0x42); a letter E on the serial line for each
    error it sees."""
    code = bytes.fromhex(
        "31c08ed88ec08ed0bc007c"  # no segments, a stack
        "b042e83b00"  # 'B' to the serial line
        "66ff06008066a100806683e07f66c1e007660580000000"  # count; sector = 128 + 128 * (count % 128)
        "66a3587c"
        f"b4{function:02x}b000b280be507ccd13"  # the BIOS's call
        "7305b045e80e00"  # an error: 'E'
        "b9140051b9ffffe2fe59e2f7ebc5"  # wait a little, and again
        "baf803eec3"  # a letter to the serial line
        "10000100008000000000000000000000"  # disk address packet: one sector, buffer at 0x8000
    )
    return code.ljust(510, b"\0") + b"\x55\xaa"


class Mount:
    """A datastore whose access ends with a process."""

    def __init__(self, root: Path) -> None:
        self.real, self.at = root / "real", root / "mounted"
        self.real.mkdir()
        self.at.mkdir()
        self.begin()

    def begin(self) -> None:
        self._process = subprocess.Popen(["bindfs", "-f", str(self.real), str(self.at)])
        deadline = time.monotonic() + PATIENCE_S
        while not os.path.ismount(self.at):
            assert time.monotonic() < deadline, "bindfs did not mount"
            time.sleep(0.01)

    def die(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def end(self) -> None:
        if self._process.poll() is None:
            self.die()
        subprocess.run(["umount", "--lazy", str(self.at)], check=True)


@pytest.fixture
def mount(root: Path) -> Iterator[Mount]:
    made = Mount(root)
    yield made
    made.end()


async def a_vm(
    root: Path,
    mount: Mount,
    spawn: Spawn,
    *,
    function: int = WRITES,
    format: DiskFormat = "raw",
    cache: CacheMode = "none",
    is_let_go: bool = True,
) -> Machine:
    """It runs, and its guest has begun to use the disk. Another disk is only read from."""
    plain = root / "plain"
    plain.write_bytes(boot_sector(function).ljust(SIZE, b"\x55" if function == READS else b"\0"))
    convert = ["qemu-img", "convert", "-f", "raw", "-O", format, str(plain), str(mount.real / "disk0")]
    await asyncio.to_thread(subprocess.run, convert, check=True)
    shutil.copy(plain, mount.real / "seed")
    for name in ("disk0", "seed"):
        os.chown(mount.real / name, pwd.getpwnam("nobody").pw_uid, -1)
    spec = firmware_vm(root)
    disk = Disk(file="disk0", format=format, size_bytes=SIZE, cache=cache)
    definition = spec.definition.model_copy(update={"disks": (disk,), "cloud_init": "seed"})
    machine = await spawn(host(root, "a"), MachineSpec(definition, mount.at, ()))
    if is_let_go:
        await machine.cont()
        await goes_on(machine)
    return machine


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def used(machine: Machine) -> int:
    disks = await machine.execute("query-blockstats")
    return int(disks[0]["stats"]["wr_operations"] + disks[0]["stats"]["rd_operations"])


async def goes_on(machine: Machine, times: int = 5) -> None:
    """Its guest uses the disk."""
    before = await used(machine)

    async def has_used() -> bool:
        return await used(machine) >= before + times

    await until(has_used)
    assert await machine.status() is MachineStatus.RUNNING


async def stands_still(machine: Machine) -> None:
    async def stopped() -> bool:
        return await machine.status() is MachineStatus.IO_ERROR

    await until(stopped)


async def dies_and_comes_back(machine: Machine, mount: Mount) -> None:
    mount.die()
    await stands_still(machine)
    mount.end()
    mount.begin()
    await machine.cont()
    await stands_still(machine)


@contextlib.contextmanager
def held_by_another_process(mount: Mount) -> Iterator[None]:
    """Its image lock."""
    process = subprocess.Popen(
        ["qemu-io", "-f", "raw", str(mount.at / "disk0")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"length\n")
    process.stdin.flush()
    process.stdout.readline()  # it has it open
    try:
        yield
    finally:
        process.communicate()


def letters(root: Path) -> bytes:
    return (root / "a/log/fw1/serial.log").read_bytes()


async def written(root: Path, mount: Mount, format: str) -> list[int]:
    """What the guest wrote last, place by place; the vm has ended."""
    out = root / "out"
    convert = ["qemu-img", "convert", "-f", format, "-O", "raw", str(mount.real / "disk0"), str(out)]
    await asyncio.to_thread(subprocess.run, convert, check=True)
    data = out.read_bytes()
    return sorted(int.from_bytes(data[at : at + 4], "little") for at in range(APART, SIZE, APART))


async def test_a_raw_disk_goes_on_and_nothing_written_is_missing(root: Path, mount: Mount, spawn: Spawn) -> None:
    """QEMU cannot flush the dead file, so the disk is changed at the device."""
    machine = await a_vm(root, mount, spawn)
    await goes_on(machine, PLACES)
    await dies_and_comes_back(machine, mount)
    opened = await machine.reopen_images(keeps_answered_writes=True)
    assert opened == (str(mount.at / "disk0"), str(mount.at / "seed"))
    nodes = {n["node-name"] for n in await machine.execute("query-named-block-nodes")}
    assert nodes == {"f0", "r0", "disk0", "fseed", "rseed", "diskseed"}
    with pytest.raises(ProcedureFailed, match="lock"):  # QEMU's image lock is there again
        await spawn(host(root, "b"), MachineSpec(firmware_with_disk(root), mount.at, ()))
    await machine.cont()
    await goes_on(machine)
    await machine.quit()
    found = await written(root, mount, "raw")
    assert found == list(range(found[0], found[0] + PLACES))
    assert letters(root) == b"B"


def firmware_with_disk(root: Path) -> Any:
    disk = Disk(file="disk0", format="raw", size_bytes=SIZE, cache="none")
    return firmware_vm(root).definition.model_copy(update={"disks": (disk,)})


async def test_a_qcow2_whose_file_has_nothing_to_flush_goes_on(root: Path, mount: Mount, spawn: Spawn) -> None:
    """Its file is changed beneath the raw filter node; what the qcow2 node has in memory stays."""
    machine = await a_vm(root, mount, spawn, function=READS, format="qcow2")
    await dies_and_comes_back(machine, mount)
    assert await machine.reopen_images(keeps_answered_writes=False)
    await machine.cont()
    await goes_on(machine)
    assert letters(root) == b"B"


@pytest.mark.parametrize(
    ("format", "cache", "keeps"),
    [("qcow2", "none", True), ("raw", "none", False), ("raw", "writeback", True)],
)
async def test_one_whose_last_writes_may_be_lost_is_left_as_it_was(
    root: Path, mount: Mount, spawn: Spawn, format: DiskFormat, cache: CacheMode, keeps: bool
) -> None:
    machine = await a_vm(root, mount, spawn, format=format, cache=cache)
    await dies_and_comes_back(machine, mount)
    with pytest.raises(ProcedureFailed, match="cannot be flushed"):
        await machine.reopen_images(keeps_answered_writes=keeps)
    assert not machine.has_closed_images
    nodes = {n["node-name"] for n in await machine.execute("query-named-block-nodes")}
    assert nodes == {"f0", "r0", "disk0", "fseed", "rseed", "diskseed"}
    await machine.cont()
    await stands_still(machine)
    assert letters(root) == b"B"


@pytest.mark.parametrize(("format", "function"), [("raw", WRITES), ("qcow2", READS)])
async def test_while_another_process_holds_the_lock_it_stays_and_a_later_agent_knows(
    root: Path, mount: Mount, spawn: Spawn, format: DiskFormat, function: int
) -> None:
    machine = await a_vm(root, mount, spawn, format=format, function=function)
    await dies_and_comes_back(machine, mount)
    with held_by_another_process(mount):
        for _ in range(2):
            with pytest.raises(ProcedureFailed) as caught:
                await machine.reopen_images(keeps_answered_writes=True)
            assert is_locked(caught.value)
            assert machine.has_closed_images
        with pytest.raises(ProcedureFailed, match="not open"):
            await machine.cont()
        await machine._client.disconnect()  # type: ignore[attr-defined]
        [adopted] = await host(root, "a").adopt()
        assert adopted.has_closed_images
        with pytest.raises(ProcedureFailed, match="not open"):
            await adopted.cont()
    await adopted.reopen_images(keeps_answered_writes=True)
    assert not adopted.has_closed_images
    await adopted.cont()
    await goes_on(adopted)
    assert letters(root) == b"B"


@pytest.mark.parametrize(("format", "function"), [("raw", WRITES), ("qcow2", READS)])
async def test_cut_off_after_any_step_it_is_finished_later(
    root: Path, mount: Mount, spawn: Spawn, format: DiskFormat, function: int
) -> None:
    machine = await a_vm(root, mount, spawn, format=format, function=function)
    await dies_and_comes_back(machine, mount)
    [image, _] = images.of_process(machine.pid)
    steps = 1
    while not await _opened(machine, image, steps):
        steps += 1
        assert steps < 30
    assert steps >= 5
    await machine.execute("cont")
    await goes_on(machine)
    assert letters(root) == b"B"


async def _opened(machine: Machine, image: images.Image, steps: int) -> bool:
    """False: the agent is gone after so many commands that change something."""
    left = steps

    async def execute(command: str, arguments: images.Options | None) -> Any:
        nonlocal left
        if command in {"blockdev-add", "blockdev-del", "blockdev-reopen", "qom-set"}:
            if not left:
                raise Unreachable("the agent ended")
            left -= 1
        return await machine.execute(command, arguments)

    try:
        await images.Reopening(execute, Deadlines("an image"), keeps_answered_writes=True).open_anew(image)
    except Unreachable:
        return False
    return True


async def test_one_let_go_while_something_stands_in_for_its_image_stops_again(
    root: Path, mount: Mount, spawn: Spawn
) -> None:
    machine = await a_vm(root, mount, spawn, function=READS, format="qcow2")
    await dies_and_comes_back(machine, mount)
    [image, _] = images.of_process(machine.pid)
    assert not await _opened(machine, image, 2)  # the one that stands in is beneath r0
    before = await used(machine)
    await machine.execute("cont")
    await stands_still(machine)
    assert await used(machine) == before
    assert letters(root) == b"B"


async def test_what_a_qcow2_has_in_memory_is_not_lost_in_between(root: Path, mount: Mount, spawn: Spawn) -> None:
    """Its metadata of a new cluster is not written yet; a flush meets what stands in, and fails. The BIOS, which
    has each write flushed, does not run yet."""
    machine = await a_vm(root, mount, spawn, format="qcow2", is_let_go=False)
    await _use_disk(machine, "write -P 7 1M 64k")
    [image, _] = images.of_process(machine.pid)
    assert not await _opened(machine, image, 2)
    await machine.execute("stop")  # flushes all
    assert await _opened(machine, image, 30)
    await _use_disk(machine, "read -P 7 1M 64k")
    await machine.quit()
    told = (root / "a/log/fw1/qemu.log").read_text()
    assert told.count("wrote 65536/65536") == 1
    assert told.count("read 65536/65536") == 1
    read = ["qemu-io", "-f", "qcow2", "-c", "read -P 7 1M 64k", str(mount.at / "disk0")]
    found = await asyncio.to_thread(subprocess.run, read, check=True, capture_output=True, text=True)
    assert "Pattern" not in told + found.stdout


async def _use_disk(machine: Machine, command: str) -> None:
    """As the device does, past what it was told of caches by its guest. What comes of it is in QEMU's log."""
    line = f'qemu-io -d /machine/peripheral/vd0/virtio-backend "{command}"'
    await machine.execute("human-monitor-command", {"command-line": line})


async def test_images_that_answer_are_left_alone(root: Path, mount: Mount, spawn: Spawn) -> None:
    machine = await a_vm(root, mount, spawn)
    await machine.stop()
    assert await machine.reopen_images(keeps_answered_writes=True) == ()
    await machine.cont()
    await goes_on(machine)


async def test_nothing_is_done_to_one_that_runs(root: Path, mount: Mount, spawn: Spawn) -> None:
    machine = await a_vm(root, mount, spawn)
    await machine.set_tags(images_closed=True)
    with pytest.raises(Refused, match="runs"):
        await machine.reopen_images(keeps_answered_writes=True)
    assert not machine.has_closed_images
    await goes_on(machine)


async def test_a_datastore_that_is_not_there_yet_leaves_them_as_they_were(
    root: Path, mount: Mount, spawn: Spawn
) -> None:
    machine = await a_vm(root, mount, spawn)
    mount.die()
    await stands_still(machine)
    with pytest.raises(ProcedureFailed, match="cannot be opened"):
        await machine.reopen_images(keeps_answered_writes=True)
    assert not machine.has_closed_images
    mount.end()
    mount.begin()
    await machine.reopen_images(keeps_answered_writes=True)
    await machine.cont()
    await goes_on(machine)
