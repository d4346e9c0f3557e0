"""zugvogel.adapters.qemu.guest_agent against a socket that speaks as qemu-ga does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from zugvogel.adapters.qemu import guest_agent
from zugvogel.errors import DeadlineExceeded, ProcedureFailed, Unreachable

Answer = Callable[[dict[str, Any]], bytes]


@asynccontextmanager
async def agent(path: Path, answer: Answer, before: bytes = b"") -> AsyncIterator[list[dict[str, Any]]]:
    """Every request that comes, answered by `answer`; `before` is what an earlier client had left unread."""
    asked: list[dict[str, Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(before)
        while line := await reader.readline():
            asked.append(json.loads(line.lstrip(b"\xff")))
            writer.write(answer(asked[-1]))
        writer.close()

    server = await asyncio.start_unix_server(serve, str(path))
    try:
        yield asked
    finally:
        server.close()


def well(request: dict[str, Any]) -> bytes:
    if request["execute"] == "guest-sync-delimited":
        return b"\xff" + json.dumps({"return": request["arguments"]["id"]}).encode() + b"\n"
    return json.dumps({"return": {"asked": request["execute"]}}).encode() + b"\n"


async def ask(path: Path, timeout_s: float = 5.0) -> Any:
    return await guest_agent.call(path, "guest-set-time", {"time": 17}, timeout_s)


@pytest.mark.parametrize("before", [b"", b'{"return": {}}\n', b'\xff{"return": -1}\n', b"\xff{}\nhalf a li"])
async def test_it_is_asked_and_answers_whatever_was_left_unread(tmp_path: Path, before: bytes) -> None:
    async with agent(tmp_path / "s", well, before) as asked:
        assert await ask(tmp_path / "s") == {"asked": "guest-set-time"}
    assert asked[-1] == {"execute": "guest-set-time", "arguments": {"time": 17}}


def refusing(request: dict[str, Any]) -> bytes:
    if request["execute"] == "guest-sync-delimited":
        return well(request)
    return b'{"error": {"class": "GenericError", "desc": "no clock here"}}\n'


async def test_its_refusal_is_told_in_its_own_words(tmp_path: Path) -> None:
    async with agent(tmp_path / "s", refusing):
        with pytest.raises(ProcedureFailed, match="no clock here"):
            await ask(tmp_path / "s")


async def test_a_guest_without_agent_is_not_waited_for(tmp_path: Path) -> None:
    async with agent(tmp_path / "s", lambda _request: b""):
        with pytest.raises(DeadlineExceeded):
            await ask(tmp_path / "s", 0.1)


async def test_qemu_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        await ask(tmp_path / "nothing")


@pytest.mark.parametrize(
    "said", [b"\xffno json\n", b"\xff" + b"x" * (2 << 20), b"\xff[]\n", b"\xff" + b"[" * 60_000 + b"\n"]
)
async def test_a_guest_that_says_nonsense_harms_nobody(tmp_path: Path, said: bytes) -> None:
    async with agent(tmp_path / "s", lambda _request: said):
        with pytest.raises((Unreachable, DeadlineExceeded)):
            await ask(tmp_path / "s", 0.5)
