"""The console's process: it is there again after its end, and gone with its starter."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from zugvogel.adapters.console_process import is_open, run_console, wait_until_open
from zugvogel.errors import ProcedureFailed

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as listener:
        return int(listener.getsockname()[1])


@asynccontextmanager
async def console() -> AsyncIterator[int]:
    """Its port."""
    port = free_port()
    config: dict[str, Any] = {
        "host": "host1",
        "address": LOOPBACK,
        "port": port,
        "api_urls": ["http://127.0.0.1:9"],
        "token": "console.secret",
    }
    running = asyncio.create_task(run_console(config))
    try:
        await wait_until_open(LOOPBACK, port, 30)
        yield port
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def pid_of() -> int:
    """Of the console that this process started."""
    task = Path(f"/proc/self/task/{os.getpid()}/children")
    for pid in map(int, task.read_text().split()):
        if b"zugvogel.console" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError("there is no console")


async def test_it_is_started_again_and_ends_with_its_starter() -> None:
    async with console() as port:
        first = pid_of()
        ended = os.pidfd_open(first)
        os.kill(first, signal.SIGKILL)
        assert await asyncio.to_thread(select.select, [ended], [], [], 30) == ([ended], [], [])
        os.close(ended)
        await wait_until_open(LOOPBACK, port, 30)
        assert pid_of() != first
    assert not await is_open(LOOPBACK, port)
    with pytest.raises(AssertionError, match="there is no console"):
        pid_of()


async def test_what_never_listens_is_told_of() -> None:
    with pytest.raises(ProcedureFailed, match="does not listen"):
        await wait_until_open(LOOPBACK, free_port(), 0.2)
