"""`python -m zugvogel.console` as the agent starts it, and what it is made of."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import pwd
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from zugvogel.adapters.console_process import wait_until_open
from zugvogel.client.endpoints import trust
from zugvogel.console import __main__ as main_module
from zugvogel.console.__main__ import Apis, _give_up_rights, _secret
from zugvogel.console.config import ConsoleConfig
from zugvogel.errors import Refused

LOOPBACK = "127.0.0.1"
COMMAND = (sys.executable, "-m", "zugvogel.console")


def config(port: Any = 0, **fields: Any) -> dict[str, Any]:
    return {
        "host": "host1",
        "address": LOOPBACK,
        "port": port,
        "api_urls": ["http://127.0.0.1:9"],
        "token": "console.s3cret",
        **fields,
    }


def free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as listener:
        return int(listener.getsockname()[1])


def uids_of(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1:] for line in lines if line.startswith("Uid:"))


@asynccontextmanager
async def started(line: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(line.encode() + b"\n")
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str]:
    """Exit code and what it said, once its standard input is closed."""
    assert process.stdin is not None
    process.stdin.close()
    async with asyncio.timeout(60):
        _, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_it_serves_until_its_standard_input_ends() -> None:
    port = free_port()
    async with started(json.dumps(config(port))) as process:
        await wait_until_open(LOOPBACK, port, 60)
        async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", trust_env=False) as http:
            assert (await http.get("/health")).json() == {"host": "host1", "status": "ok"}
            login = await http.get("/login")
            assert "server" not in login.headers
            away = await http.get("/", headers={"cookie": "zugvogel=some"})
            assert away.status_code == 503, "its agent does not answer"
            assert "Traceback" not in away.text
        code, said = await ended(process)
        assert code == 0, said
        assert "s3cret" not in said


@pytest.mark.parametrize("line", ["", "{}", "nonsense", json.dumps(config(port="x"))])
async def test_a_config_that_is_none_is_told_plainly(line: str) -> None:
    async with started(line) as process:
        code, said = await ended(process)
    assert code == 2
    assert said.startswith("the console is started by the agent")
    assert "Traceback" not in said
    assert "s3cret" not in said


async def test_a_port_that_is_taken_is_told_plainly() -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
        async with started(json.dumps(config(port))) as process:
            code, said = await ended(process)
    assert code == 1
    assert f"cannot listen on {LOOPBACK}:{port}" in said
    assert "Traceback" not in said


async def test_a_ca_that_cannot_be_read_is_told_plainly() -> None:
    async with started(json.dumps(config(ca_file="/nowhere/ca.pem"))) as process:
        code, said = await ended(process)
    assert code == 1
    assert "/nowhere/ca.pem" in said
    assert "Traceback" not in said


@pytest.mark.skipif(os.getuid() != 0, reason="only root has rights to give up")
async def test_roots_rights_are_given_up_or_why_not_is_told() -> None:
    port = free_port()
    async with started(json.dumps(config(port, user="nobody"))) as process:
        await wait_until_open(LOOPBACK, port, 60)
        async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", trust_env=False) as http:
            assert (await http.get("/login")).status_code == 200
        uids = uids_of(process.pid)
        _, said = await ended(process)
    if "keeps root's rights" not in said:
        assert set(uids) == {str(pwd.getpwnam("nobody").pw_uid)}
    else:
        assert set(uids) == {"0"}


# giving up rights ---------------------------------------------------------------------------------------


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What was asked of the system, by a process of root's whose program everybody can read."""
    found: list[tuple[str, Any]] = []

    def keep(name: str) -> None:
        monkeypatch.setattr(os, name, lambda value: found.append((name, value)))

    for name in ("setgroups", "setgid", "setuid"):
        keep(name)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(main_module, "_is_open", lambda place: True)
    return found


def test_all_rights_go_groups_first(called: list[tuple[str, Any]]) -> None:
    _give_up_rights("nobody")
    account = pwd.getpwnam("nobody")
    assert called == [("setgroups", []), ("setgid", account.pw_gid), ("setuid", account.pw_uid)]


def test_where_no_user_is_named_they_stay(called: list[tuple[str, Any]]) -> None:
    _give_up_rights("")
    assert called == []


def test_with_a_user_that_does_not_exist_it_does_not_start(called: list[tuple[str, Any]]) -> None:
    with pytest.raises(Refused, match="no-such-user"):
        _give_up_rights("no-such-user")


def test_they_stay_where_the_program_could_not_be_read(
    called: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(main_module, "_is_open", lambda place: "site-packages" not in str(place))
    with caplog.at_level(logging.WARNING):
        _give_up_rights("nobody")
    assert called == []
    assert "keeps root's rights" in caplog.text


def test_who_is_not_root_has_none_to_give_up(
    called: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    _give_up_rights("nobody")
    assert called == []


# what it is made of ----------------------------------------------------------------------------------------


async def test_connections_are_kept_for_those_who_came_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main_module, "MAX_PEOPLE", 2)
    apis = Apis(["http://127.0.0.1:9"], ssl.create_default_context())
    first, second = apis.of("a"), apis.of("b")
    assert apis.of("a") is first
    apis.of("c")
    assert apis.of("a") is first, "it came later than b"
    assert apis.of("b") is not second
    assert len(apis._kept) == 2
    assert first.headers != second.headers


def test_forms_stay_good_as_long_as_the_hosts_key(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("one")
    made = ConsoleConfig.model_validate(config(certificate="c", key=str(key)))
    other = ConsoleConfig.model_validate(config(certificate="c", key=str(key), token="another"))
    first = _secret(made)
    assert first == _secret(other)
    assert "one" not in first
    key.write_text("two")
    assert _secret(made) != first


def test_the_server_says_little_and_takes_little() -> None:
    made = main_module._uvicorn(ConsoleConfig.model_validate(config()), _Nothing())  # type: ignore[arg-type]
    assert made.ws_max_size <= 2**20
    assert made.limit_concurrency
    assert not made.proxy_headers, "who asks is who connects"
    assert not made.server_header


class _Nothing:
    def app(self) -> ModuleType:
        return sys


def test_tls_below_1_2_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", lambda *_: None)
    context = main_module._tls(ConsoleConfig.model_validate(config(certificate="c", key="k")))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert trust(None).verify_mode == ssl.CERT_REQUIRED
