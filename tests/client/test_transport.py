"""Both transports against servers that answer, hang up, or were never there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.cli.conftest import Served
from zugvogel import errors
from zugvogel.client import AsyncTransport, Transport

NOBODY = "https://127.0.0.1:1"
Answers = Callable[[bytes], bytes | None]


@contextlib.asynccontextmanager
async def server(answers: Answers) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Plain HTTP: what `answers` makes of a request, or, for None, an end without an answer. And the requests."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            told = answers(asked[-1])
            if told is not None:
                writer.write(told)
                await writer.drain()
        writer.close()

    held = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with held:
        yield f"http://127.0.0.1:{held.sockets[0].getsockname()[1]}", asked


def json_answer(body: str) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return (head + body).encode()


def stream(*parts: str, is_ended: bool = True) -> bytes:
    """As chunks; without its end it is a stream that breaks."""
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    body = "".join(f"{len(part):x}\r\n{part}\r\n" for part in parts)
    return (head + body + ("0\r\n\r\n" if is_ended else "")).encode()


class Threaded:
    """The blocking transport, asked as the other one is."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self._transport = Transport(*args, **more)

    @property
    def urls(self) -> list[str]:
        return self._transport.urls

    async def request(self, *args: Any, **more: Any) -> Any:
        return await asyncio.to_thread(self._transport.request, *args, **more)

    async def events(self, *args: Any, **more: Any) -> AsyncIterator[tuple[str, Any]]:
        stream = self._transport.events(*args, **more)
        while (told := await asyncio.to_thread(next, stream, None)) is not None:
            yield told

    async def close(self) -> None:
        self._transport.close()


@pytest.fixture(params=[AsyncTransport, Threaded])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@contextlib.asynccontextmanager
async def closing(transport: Any) -> AsyncIterator[Any]:
    try:
        yield transport
    finally:
        await transport.close()


async def test_a_pinned_ca_several_addresses_and_errors_as_their_class(kind: Any, served: Served) -> None:
    made = kind([NOBODY, served.url], token="admin-token", ca_file=str(served.ca_file))
    async with closing(made) as transport:
        assert [host["name"] for host in await transport.request("GET", "/hosts")] == ["host1", "host2"]
        assert transport.urls == [served.url, NOBODY]
        assert "BEGIN CERTIFICATE" in await transport.request("GET", "/ca")
        assert await transport.request("GET", "/ha/plan", params={"fail": ["host1", "host2"]})
        with pytest.raises(errors.NotFound):
            await transport.request("GET", "/hosts/host9")
        task = await transport.request("POST", "/vms/web1/migrate", json={"target": "host2"})
        assert task["subject"] == "web1"


async def test_another_ca_is_not_believed(kind: Any, served: Served) -> None:
    async with closing(kind([served.url], token="admin-token")) as transport:
        with pytest.raises(errors.Unreachable, match="certificate"):
            await transport.request("GET", "/hosts")


async def test_nobody_there(kind: Any) -> None:
    made = kind([NOBODY, "https://127.0.0.1:2"], token="t", name="birds")
    async with closing(made) as transport:
        with pytest.raises(errors.Unreachable, match="no host of birds answers"):
            await transport.request("POST", "/vms/web1/kill")


async def test_a_read_that_broke_is_asked_of_the_next(kind: Any) -> None:
    async with server(lambda _: None) as (bad, asked), server(lambda _: json_answer("[1]")) as (good, _):
        made = kind([bad], token="t")
        _of(made).urls = [bad, good]
        async with closing(made) as transport:
            asked.clear()
            assert await transport.request("GET", "/hosts") == [1]
            assert len(asked) == 1


async def test_a_change_that_broke_is_never_sent_twice(kind: Any) -> None:
    async with server(lambda _: None) as (bad, asked), server(lambda _: json_answer("{}")) as (good, other):
        made = kind([bad], token="t")
        _of(made).urls = [bad, good]
        async with closing(made) as transport:
            asked.clear()
            other.clear()
            with pytest.raises(errors.Unreachable, match="may have been carried out"):
                await transport.request("POST", "/vms/web1/kill")
            assert len(asked) == 1
            assert other == []


def _of(transport: Any) -> Any:
    """Its endpoints, whose order the test sets, as a race decides it otherwise."""
    if isinstance(transport, Threaded):
        return transport._transport._endpoints
    transport._ordering = asyncio.ensure_future(asyncio.sleep(0))
    return transport._endpoints


async def test_events(kind: Any) -> None:
    told = stream("event: vms\nda", 'ta: {"a": 1}\n\n: alive\n\n', "event: ready\ndata: {}\n\n")
    async with (
        server(lambda _: told) as (url, asked),
        closing(kind([NOBODY, url], token="t")) as transport,
    ):
        found = [event async for event in transport.events("/watch", params={"topics": "vms", "more": None})]
    assert found == [("vms", {"a": 1}), ("ready", {})]
    assert asked[-1].startswith(b"GET /api/v1/watch?topics=vms HTTP")
    assert b"authorization: Bearer t" in asked[-1].replace(b"Authorization", b"authorization")


async def test_events_that_break_off(kind: Any) -> None:
    told = stream("event: vms\ndata: 1\n\n", is_ended=False)
    async with server(lambda _: told) as (url, _), closing(kind([url], token="t")) as transport:
        found = transport.events("/watch")
        assert await anext(found) == ("vms", 1)
        with pytest.raises(errors.Unreachable, match="ended the stream"):
            await anext(found)


async def test_events_that_are_refused(kind: Any, served: Served) -> None:
    made = kind([served.url], token="wrong", ca_file=str(served.ca_file))
    async with closing(made) as transport:
        with pytest.raises(errors.Forbidden):
            [event async for event in transport.events("/hosts")]


async def test_a_serial_console(served: Served) -> None:
    made = AsyncTransport([NOBODY, served.url], token="admin-token", ca_file=str(served.ca_file))
    async with closing(made) as transport:
        socket = await transport.socket("/vms/web1/console")
        await socket.send(b"hello")
        assert await socket.recv() == b"HELLO"
        await socket.send(b"exit")
        await socket.wait_closed()
        with pytest.raises(errors.NotFound):
            await transport.socket("/vms/web9/console")


async def test_one_look_at_the_addresses_for_many_requests(served: Served) -> None:
    made = AsyncTransport([NOBODY, served.url], token="admin-token", ca_file=str(served.ca_file))
    async with closing(made) as transport:
        found = await asyncio.gather(*(transport.request("GET", "/vms") for _ in range(5)))
        assert all(answer[0]["name"] == "web1" for answer in found)
