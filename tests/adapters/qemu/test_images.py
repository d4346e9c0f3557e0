"""zugvogel.adapters.qemu.images: what QEMU was told, and the flush through another open"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.adapters.qemu.test_command_line import line
from zugvogel.adapters.qemu.images import Image, of_arguments, options, settle
from zugvogel.domain.vm import Disk


def test_the_nodes_of_each_disk_are_those_that_qemu_was_told_to_make() -> None:
    disk = Disk(file="disk0.qcow2", format="qcow2", size_bytes=1 << 30)
    data, seed = of_arguments(line(disks=(disk,), cloud_init="seed.iso"))
    cache = {"direct": True, "no-flush": False}
    assert data == Image(
        "0",
        {
            "driver": "file",
            "node-name": "f0",
            "filename": "/srv/shared/web1/disk0.qcow2",
            "locking": "on",
            "cache": cache,
            "aio": "native",
            "discard": "unmap",
            "read-only": False,
        },
        {
            "driver": "raw",
            "node-name": "r0",
            "file": "f0",
            "cache": cache,
            "discard": "unmap",
            "read-only": False,
        },
        {
            "driver": "qcow2",
            "node-name": "disk0",
            "file": "r0",
            "cache": cache,
            "discard": "unmap",
            "read-only": False,
        },
    )
    assert (seed.name, seed.path, seed.filter["read-only"]) == ("seed", "/srv/shared/web1/seed.iso", True)
    assert of_arguments(line(disks=())) == []


@pytest.mark.parametrize(
    ("format", "cache", "whole"),
    [("raw", "none", True), ("qcow2", "none", False), ("raw", "writeback", False), ("raw", "writethrough", False)],
)
def test_only_a_raw_image_past_the_page_cache_can_be_changed_whole(format: str, cache: str, whole: bool) -> None:
    disk = Disk.model_validate({"file": "d", "format": format, "size_bytes": 1 << 30, "cache": cache})
    [image] = of_arguments(line(disks=(disk,)))
    assert image.can_be_changed_whole is whole


def test_a_comma_in_a_value_is_doubled() -> None:
    assert options("driver=file,filename=/a,,b/c=d,cache.direct=off") == {
        "driver": "file",
        "filename": "/a,b/c=d",
        "cache": {"direct": False},
    }


def test_a_file_is_flushed_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "disk"
    file.write_bytes(b"x" * 700)
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: flushed.append(os.fstat(fd).st_ino))
    assert settle(str(file)) == 700
    assert flushed == [file.stat().st_ino]


def test_nothing_but_a_plain_file_is_opened(tmp_path: Path) -> None:
    """QEMU's user may have put something else there: a FIFO would hold root up, a device act on being opened."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/dev/null")
    for name in ("fifo", "link", "."):
        with pytest.raises(OSError, match="no plain file"):
            settle(str(tmp_path / name))
