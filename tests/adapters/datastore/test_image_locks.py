"""zugvogel.adapters.datastore.image_locks against the locks that QEMU itself takes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.adapters.datastore.conftest import opened
from tests.core.facts import definition
from zugvogel.adapters.datastore.image_locks import may_be_written
from zugvogel.errors import StorageError

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(60)]

Run = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk0.raw"
    path.touch()
    os.truncate(path, 1 << 20)
    return path


@pytest.fixture
def run() -> Iterator[Run]:
    """QEMUs with a disk, opened as our vms open theirs, whose vCPUs do not run; returned once QMP has
    answered, and so has its disks."""
    made: list[subprocess.Popen[bytes]] = []

    def start(disk: Path, *, format: str = "raw", is_readonly: bool = False) -> subprocess.Popen[bytes]:
        mode = "on" if is_readonly else "off"
        command = [
            "qemu-system-x86_64", "-S", "-M", "q35,accel=tcg", "-m", "32", "-nodefaults", "-display", "none",
            "-qmp", "stdio",
            "-blockdev", f"driver=file,node-name=f,filename={disk},locking=on,read-only={mode}",
            "-blockdev", f"driver={format},node-name=d,file=f,read-only={mode}",
            "-device", "virtio-blk-pci,drive=d",
        ]  # fmt: skip
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        made.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b'{"execute": "qmp_capabilities"}\n')
        process.stdin.flush()
        assert b"QMP" in process.stdout.readline()
        assert b"return" in process.stdout.readline()
        return process

    yield start
    for process in made:
        process.kill()
        process.wait()
        for end in (process.stdin, process.stdout):
            assert end is not None
            end.close()


def test_nobody_holds_a_disk_that_is_not_open(disk: Path) -> None:
    assert not may_be_written(disk)
    assert not may_be_written(disk.with_name("none.raw"))


def test_a_qemu_holds_its_disk_until_it_ends_even_when_it_is_stopped(disk: Path, run: Run) -> None:
    process = run(disk)
    assert may_be_written(disk)
    assert may_be_written(disk), "looking took the lock away"
    process.send_signal(signal.SIGSTOP)
    assert may_be_written(disk)
    process.kill()
    process.wait()
    assert not may_be_written(disk)


def test_looking_keeps_no_qemu_from_its_disk(disk: Path, run: Run) -> None:
    with disk.open("rb"):
        assert not may_be_written(disk)
        run(disk)
    assert may_be_written(disk)


def test_a_qcow2_is_held_as_well(tmp_path: Path, run: Run) -> None:
    image = tmp_path / "disk0.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "1M"], check=True)
    run(image, format="qcow2")
    assert may_be_written(image)


def test_one_that_only_reads_does_not_count(disk: Path, run: Run) -> None:
    run(disk, is_readonly=True)
    assert not may_be_written(disk)


async def test_it_is_asked_by_name_of_vm_and_disk(tmp_path: Path, run: Run) -> None:
    folders = (await opened(tmp_path)).folders
    await folders.create(definition(name="web"))
    await folders.create_disk("web", "disk0.raw", "raw", 1 << 20)
    assert not await folders.may_be_written("web", "disk0.raw")
    run(folders.path("web", "disk0.raw"))
    assert await folders.may_be_written("web", "disk0.raw")
    (tmp_path / "web" / "link.raw").symlink_to(folders.path("web", "disk0.raw"))
    with pytest.raises(StorageError):
        await folders.may_be_written("web", "link.raw")
