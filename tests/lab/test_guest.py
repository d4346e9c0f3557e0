"""The lab guest is built by the real tools and booted by a real QEMU under TCG."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import ConnectError, QMPClient

from zugvogel.errors import Refused
from zugvogel.lab import guest

BOOT_DEADLINE_S = 120
DISK_BYTES = 16 << 20


class Guest:
    """A running lab guest, its ports forwarded to 127.0.0.1."""

    def __init__(self, process: asyncio.subprocess.Process, qmp: QMPClient, ports: dict[int, int]) -> None:
        self.process = process
        self.qmp = qmp
        self.ports = ports

    async def get(self, target: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(await asyncio.to_thread(self._fetch, target))
        return answer

    def _fetch(self, target: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[80]}{target}", timeout=30) as answer:
            return bytes(answer.read())

    async def refusal(self, target: str) -> int:
        with pytest.raises(urllib.error.HTTPError) as refused:
            await self.get(target)
        assert json.load(refused.value)["error"]
        return refused.value.code


async def _connect_qmp(path: Path, process: asyncio.subprocess.Process) -> QMPClient:
    while True:
        qmp = QMPClient("lab-guest-test")
        with contextlib.suppress(ConnectError):
            await qmp.connect(str(path))
            return qmp
        assert process.returncode is None, "QEMU ended"
        await asyncio.sleep(0.05)


async def _forwarded(qmp: QMPClient) -> dict[int, int]:
    """QEMU chose free ports itself (`hostfwd=...:0-:PORT`); its monitor tells them."""
    text = await qmp.execute("human-monitor-command", {"command-line": "info usernet"})
    assert isinstance(text, str)
    found = re.findall(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+(\d+)", text)
    return {int(inside): int(outside) for outside, inside in found}


async def _booted(machine: Guest) -> Guest:
    while True:
        try:
            await machine.get("/state")
        except (OSError, ValueError):
            assert machine.process.returncode is None, "QEMU ended"
            await asyncio.sleep(0.1)
        else:
            return machine


@pytest.fixture(scope="module")
def image() -> guest.GuestImage:
    return guest.build()


@pytest.fixture
async def machine(image: guest.GuestImage, tmp_path: Path) -> AsyncIterator[Guest]:
    disk = tmp_path / "disk.raw"
    disk.touch()
    os.truncate(disk, DISK_BYTES)
    process = await asyncio.create_subprocess_exec(
        *("qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-m", "128", "-nodefaults", "-display", "none"),
        *("-kernel", image.kernel, "-initrd", image.initrd, "-append", image.append),
        *("-qmp", f"unix:{tmp_path}/qmp,server=on,wait=off", "-serial", f"file:{tmp_path}/serial"),
        *("-netdev", "user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:0-:80,hostfwd=tcp:127.0.0.1:0-:7"),
        *("-device", "virtio-net-pci,netdev=n,romfile="),
        *("-drive", f"file={disk},format=raw,if=virtio"),
    )
    try:
        async with asyncio.timeout(BOOT_DEADLINE_S):
            qmp = await _connect_qmp(tmp_path / "qmp", process)
            running = await _booted(Guest(process, qmp, await _forwarded(qmp)))
        yield running
        with contextlib.suppress(EOFError):  # the guest may have ended QEMU
            await qmp.disconnect()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _echo(port: int) -> None:
    connections = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(20)]
    for number, connection in enumerate(connections):
        connection.sendall(b"hello %02d" % number)
    assert [connection.recv(64) for connection in connections] == [b"hello %02d" % n for n in range(20)]
    for connection in connections:
        connection.close()


async def _state_where(machine: Guest, holds: Any) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            state = await machine.get("/state")
            if holds(state):
                return state
            await asyncio.sleep(0.1)


async def _refuses_what_it_cannot_do(machine: Guest) -> None:
    for query in (
        "",
        "fill_mb=-1",
        "fill_mb=nan",
        "colour=1",
        "fill_mb=4000",
        "dirty_mb_s=5",
        "fill=touch",
        "rate_mb_s=5",
        "disk=1&disk_mb=99",
    ):
        assert await machine.refusal(f"/load?{query}") == 400, query
    assert await machine.refusal("/") == 404
    assert (await machine.get("/state"))["fill_bytes"] == 0


@pytest.mark.qemu
async def test_boots_answers_and_powers_off_by_the_button(machine: Guest) -> None:
    first = await machine.get("/state")
    later = await _state_where(machine, lambda state: state["counter"] > first["counter"])
    assert later["boot_id"] == first["boot_id"]
    assert later["uptime_s"] >= first["uptime_s"]
    assert first["memory"]["available_bytes"] > 48 << 20
    await asyncio.to_thread(_echo, machine.ports[7])
    await _refuses_what_it_cannot_do(machine)
    await machine.qmp.execute("system_powerdown")
    async with asyncio.timeout(60):
        assert await machine.process.wait() == 0


@pytest.mark.qemu
async def test_load_is_carried_and_proves_itself(machine: Guest) -> None:
    state = await machine.get("/load?fill_mb=8&dirty_mb_s=10&working_set_mb=4&disk=1&disk_mb=1&rate_mb_s=1")
    assert state["fill_bytes"] == 8 << 20
    assert state["dirty"]["working_set_bytes"] == 4 << 20
    await _state_where(machine, lambda s: s["dirty"]["dirtied_bytes"] > 4 << 20)
    await _state_where(machine, lambda s: s["disk"]["blocks_written"] > 300)
    verified = await machine.get("/load?dirty_mb_s=0&disk=0&verify=1")
    assert verified["verify"] == {
        "memory_pages": (12 << 20) // 4096,
        "memory_errors": 0,
        "disk_blocks": 256,
        "disk_errors": 0,
    }
    assert verified["disk"]["errors"] == 0
    assert verified["disk"]["running"] is False


def test_a_second_build_changes_nothing(image: guest.GuestImage) -> None:
    before = image.initrd.stat()
    again = guest.build()
    assert again == image
    assert again.initrd.stat().st_ino == before.st_ino
    assert (image.kernel.parent / "append").read_text().strip() == image.append


def test_the_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZUGVOGEL_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match=r"apt-cache is missing.*apt-get install apt"):
        guest.build()


def test_a_cache_that_cannot_be_written_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZUGVOGEL_CACHE", str(tmp_path / "file"))
    with pytest.raises(Refused, match="cannot be written"):
        guest.build()


def test_modules_come_after_what_they_need() -> None:
    depends = {"net": ["failover", "virtio"], "virtio": ["ring"], "blk": ["virtio"]}
    assert guest.load_order(["net", "blk"], depends) == ["failover", "ring", "virtio", "net", "blk"]


def test_dependencies_are_read_from_the_module() -> None:
    module = b"\x7fELF\0license=GPL\0depends=virtio,virtio-ring\0name=x\0"
    assert guest.module_depends(module) == ["virtio", "virtio_ring"]
    assert guest.module_depends(b"\0depends=\0") == []
