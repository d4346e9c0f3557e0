"""The joining part of zugvogel.lab.door, over loopback sockets; the namespaces are the lab's tests' matter."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from zugvogel.errors import ProcedureFailed, Refused
from zugvogel.lab import door as door_module
from zugvogel.lab.door import Door, _Joining, _listen, found_door, wait_until_open
from zugvogel.lab.layout import Layout

HOSTS = ["127.0.0.11", "127.0.0.12", "127.0.0.13"]
Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
Connect = Callable[[], Awaitable[tuple[Reader, Writer]]]


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """Of the consoles on all hosts: free on each."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = int(listener.getsockname()[1])
    monkeypatch.setattr(door_module, "PORT", found)
    return found


@asynccontextmanager
async def console(address: str, port: int, answer: bytes | None = None) -> AsyncIterator[list[bytes]]:
    """Says its address, then sends back what it gets, or `answer` and hangs up. What it got."""
    got: list[bytes] = []

    async def serve(reader: Reader, writer: Writer) -> None:
        writer.write(f"{address}\n".encode())
        if answer is None:
            while data := await reader.read(1000):
                got.append(data)
                writer.write(data.upper())
                await writer.drain()
        else:
            writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, address, port):
        yield got


@asynccontextmanager
async def joined(addresses: list[str]) -> AsyncIterator[Connect]:
    """Opens a connection through the door."""
    server = await asyncio.start_server(_Joining(addresses).serve, "127.0.0.1", 0)
    place = server.sockets[0].getsockname()

    async def connect() -> tuple[Reader, Writer]:
        return await asyncio.open_connection(*place)

    async with server:
        yield connect


async def line(reader: Reader) -> str:
    async with asyncio.timeout(20):
        return (await reader.readline()).decode().strip()


async def rest(reader: Reader) -> bytes:
    async with asyncio.timeout(20):
        return await reader.read()


async def test_bytes_go_both_ways_until_the_browser_hangs_up(port: int) -> None:
    async with console(HOSTS[0], port) as got, joined(HOSTS) as connect:
        reader, writer = await connect()
        assert await line(reader) == HOSTS[0]
        writer.write(b"hello\n")
        assert await line(reader) == "HELLO"
        writer.close()
        await writer.wait_closed()
        assert b"".join(got) == b"hello\n"


async def test_what_the_console_said_arrives_before_it_hangs_up(port: int) -> None:
    answer = b"x" * 1_000_000
    async with console(HOSTS[0], port, answer), joined(HOSTS) as connect:
        reader, writer = await connect()
        assert await rest(reader) == HOSTS[0].encode() + b"\n" + answer
        writer.close()


async def test_a_host_that_is_away_is_passed_over_and_the_one_found_is_asked_first(port: int) -> None:
    addresses = list(HOSTS)
    async with console(HOSTS[2], port), joined(addresses) as connect:
        reader, writer = await connect()
        assert await line(reader) == HOSTS[2]
        writer.close()
        assert addresses == [HOSTS[2], HOSTS[0], HOSTS[1]]
        async with console(HOSTS[0], port):
            reader, writer = await connect()
            assert await line(reader) == HOSTS[2], "it goes on there"
            writer.close()
    async with console(HOSTS[1], port), joined(addresses) as connect:
        reader, writer = await connect()
        assert await line(reader) == HOSTS[1], "when that one is gone"
        writer.close()


async def test_without_any_console_the_browser_is_hung_up_on(port: int) -> None:
    async with joined(HOSTS) as connect:
        reader, _ = await connect()
        assert await rest(reader) == b""


async def test_several_go_side_by_side(port: int) -> None:
    async with console(HOSTS[0], port), joined(list(HOSTS)) as connect:
        pairs = [await connect() for _ in range(10)]
        for number, (_, writer) in enumerate(pairs):
            writer.write(f"n{number}\n".encode())
        for number, (reader, writer) in enumerate(pairs):
            assert [await line(reader), await line(reader)] == [HOSTS[0], f"N{number}"]
            writer.close()


def test_a_port_that_is_taken_is_not_insisted_on(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)), _listen() as other:
        assert other.getsockname()[1] != port
    with _listen() as free:
        assert free.getsockname()[1] == port


def test_a_door_is_found_where_there_is_one(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    with pytest.raises(Refused, match="no console"):
        found_door(layout)
    layout.door_file.parent.mkdir(parents=True, exist_ok=True)
    layout.door_file.write_text('{"url": "https://127.0.0.1:7445/", "user": "admin", "password": "x"}')
    assert found_door(layout) == Door("https://127.0.0.1:7445/", "admin", "x")


def test_a_door_behind_which_nobody_speaks_tls_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "READY_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(ProcedureFailed, match="no host's console answers"):
            wait_until_open(Door(url, "admin", "x"))
