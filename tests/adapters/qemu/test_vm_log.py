"""zugvogel.adapters.qemu.vm_log"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zugvogel.adapters.qemu import vm_log


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(vm_log, "KEPT_BYTES", 10)
    monkeypatch.setattr(vm_log, "RUNNING_BYTES", 20)
    return tmp_path / "serial.log"


def test_a_long_log_is_kept_aside_when_the_vm_starts(log: Path) -> None:
    log.write_text("x" * 10)
    vm_log.keep_previous(log)
    assert log.exists()
    log.write_text("x" * 11)
    vm_log.keep_previous(log)
    assert not log.exists()
    assert (log.parent / "serial.log.1").read_text() == "x" * 11


def test_a_running_vms_log_is_cut_and_goes_on(log: Path) -> None:
    fd = vm_log.open_for_append(log, os.getuid())
    os.write(fd, b"a" * 21 + b"b" * 10)
    vm_log.bound(log)
    os.write(fd, b"c")
    os.close(fd)
    assert log.read_text() == "c"
    assert (log.parent / "serial.log.1").read_text() == "b" * 10


def test_no_link_is_followed(log: Path) -> None:
    precious = log.parent / "precious"
    precious.write_text("p" * 30)
    log.symlink_to(precious)
    vm_log.bound(log)
    with pytest.raises(OSError, match="symbolic"):
        vm_log.open_for_append(log, os.getuid())
    vm_log.keep_previous(log)
    log.write_text("x" * 30)
    (log.parent / "serial.log.1").symlink_to(precious)
    vm_log.bound(log)
    assert precious.read_text() == "p" * 30


def test_the_end_of_a_log(log: Path) -> None:
    assert vm_log.tail(log, 5) == ""
    log.write_text("1\n2\n3\n")
    assert vm_log.tail(log, 2) == "2\n3"
