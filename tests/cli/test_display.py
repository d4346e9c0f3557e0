"""`zv vm display` against the real API; its fake console answers in capitals."""

from __future__ import annotations

import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Served, Zv
from zugvogel.cli.display import VIEWERS
from zugvogel.domain.requests import ChangeVm

ZV = [sys.executable, "-m", "zugvogel.cli.main", "vm", "display", "web1"]
HERE = "127.0.0.1"


@contextmanager
def displayed(*more: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command and the port it has said."""
    with subprocess.Popen([*ZV, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            host, _, port = process.stdout.readline().decode().strip().partition(":")
            assert host == HERE
            yield process, int(port)
        finally:
            process.kill()


def connect(port: int) -> socket.socket:
    return socket.create_connection((HERE, port), timeout=20)


def answer_to(viewer: socket.socket, words: bytes) -> bytes:
    viewer.sendall(words)
    return viewer.recv(100)


def test_viewers_share_it_and_connect_again_after_it_ended(zv: Zv) -> None:
    with displayed() as (process, port):
        with connect(port) as first, connect(port) as second:
            assert answer_to(first, b"one") == b"ONE"
            assert answer_to(second, b"two") == b"TWO"
            assert answer_to(first, b"exit") == b"", "the vm moved"
            assert answer_to(second, b"still") == b"STILL"
        with connect(port) as again:
            assert answer_to(again, b"back") == b"BACK"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr is not None
        told = process.stderr.read().decode()
    assert "the display of web1 on host1" in told
    assert "Traceback" not in told
    with pytest.raises(ConnectionRefusedError):
        connect(port)


def test_a_vm_that_is_gone_meanwhile_is_told_and_others_are_served_on(zv: Zv, served: Served) -> None:
    with displayed() as (process, port):
        vm = served.backend._vms.pop("web1")
        try:
            with connect(port) as viewer:
                assert viewer.recv(10) == b""
        finally:
            served.backend._vms["web1"] = vm
        with connect(port) as viewer:
            assert answer_to(viewer, b"x") == b"X"
        process.send_signal(signal.SIGINT)
        process.wait(20)
        assert process.stderr is not None
        assert "there is no vm web1" in process.stderr.read().decode()


def test_the_port_can_be_chosen_and_a_taken_one_is_refused(zv: Zv) -> None:
    with socket.socket() as taken:
        taken.bind((HERE, 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = zv("vm", "display", "web1", "--port", str(port))
    assert refused.code == 1
    assert f"port {port} of 127.0.0.1 cannot be used" in refused.err
    with displayed("--port", str(port)) as (_, said):
        assert said == port


async def test_what_the_agent_refuses_is_said_at_once(zv: Zv, served: Served) -> None:
    assert zv("vm", "display", "nobody").err == "zv: there is no vm nobody; see `zv vm list`\n"
    await served.backend.change_vm("web1", ChangeVm(display="none"))
    try:
        assert "web1 was started without a display" in zv("vm", "display", "web1").err
    finally:
        await served.backend.change_vm("web1", ChangeVm(display="vga"))


def test_without_a_viewer_launch_names_what_to_install(
    zv: Zv, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no VNC viewer is installed here" in zv("vm", "display", "web1", "--launch").err


@pytest.mark.parametrize("viewer", VIEWERS)
def test_launch_starts_a_viewer_with_the_address_and_ends_with_it(
    zv: Zv, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, viewer: str
) -> None:
    program = tmp_path / viewer
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/given\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    ran = zv("vm", "display", "web1", "--launch")
    assert ran.code == 0, ran.err
    port = ran.out.strip().rpartition(":")[2]
    given = (tmp_path / "given").read_text().strip()
    assert given == (f"vnc://{HERE}:{port}" if viewer == "remote-viewer" else f"{HERE}::{port}")


def test_create_and_set_say_what_is_wanted(zv: Zv, served: Served) -> None:
    assert zv("vm", "create", "d1", "--memory", "64M").code == 0
    assert zv("vm", "create", "d2", "--memory", "64M", "--display", "none").code == 0
    assert [r.display for r in served.backend.created[-2:]] == ["vga", "none"]
    assert "next start" in zv("vm", "set", "d2", "--display", "vga").out
    assert zv("vm", "show", "d2", "--json").json["definition"]["display"] == "vga"
    assert zv("vm", "set", "d2", "--cpus", "2").code == 0
    assert zv("vm", "show", "d2", "--json").json["definition"]["display"] == "vga"
    assert zv("vm", "set", "d2", "--display", "4k").code == 2
