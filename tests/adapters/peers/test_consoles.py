"""zugvogel.adapters.peers.consoles on real sockets"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from tests.adapters.peers.test_rpc import Ca
from zugvogel.adapters.peers.consoles import CHUNK, AgentConsoles
from zugvogel.domain.host import Host, Ports, Role
from zugvogel.errors import Refused, Unreachable


@pytest.fixture
async def qemu(tmp_path: Path) -> AsyncIterator[Path]:
    """A socket that sends back what it gets, to as many as come."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 20):
            writer.write(data)
            await writer.drain()
        writer.close()

    path = tmp_path / "vm.sock"
    async with await asyncio.start_unix_server(answer, str(path)):
        yield path


@pytest.fixture
def consoles() -> AgentConsoles:
    return AgentConsoles(ssl.create_default_context())


async def test_a_serial_line_has_one_user_until_it_is_closed(qemu: Path, consoles: AgentConsoles) -> None:
    first = await consoles.local(qemu, is_shared=False)
    with pytest.raises(Refused, match="somebody else"):
        await consoles.local(qemu, is_shared=False)
    await first.close()
    second = await consoles.local(qemu, is_shared=False)
    await second.write(b"hello")
    assert await second.read() == b"hello"


async def test_a_display_has_several_users(qemu: Path, consoles: AgentConsoles) -> None:
    viewers = [await consoles.local(qemu, is_shared=True) for _ in range(3)]
    for number, viewer in enumerate(viewers):
        await viewer.write(b"%d" % number)
    assert [await viewer.read() for viewer in viewers] == [b"0", b"1", b"2"]
    await viewers[0].close()
    await viewers[1].write(b"still")
    assert await viewers[1].read() == b"still"


async def test_a_picture_comes_in_pieces_and_whole(qemu: Path, consoles: AgentConsoles) -> None:
    viewer = await consoles.local(qemu, is_shared=True)
    picture = bytes(range(256)) * (1280 * 800 * 4 // 256)
    sending = asyncio.ensure_future(viewer.write(picture))
    seen = bytearray()
    while len(seen) < len(picture):
        piece = await viewer.read()
        assert 0 < len(piece) <= CHUNK
        seen += piece
    await sending
    assert seen == picture


async def test_nobody_listens(tmp_path: Path, consoles: AgentConsoles) -> None:
    with pytest.raises(Unreachable, match="does not open"):
        await consoles.local(tmp_path / "none.sock", is_shared=True)


@pytest.mark.parametrize("kind", ["console", "display"])
async def test_another_host_is_asked_with_the_ticket_at_the_path_of_the_kind(tmp_path: Path, kind: str) -> None:
    seen: list[tuple[str, str]] = []

    async def answer(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append((connection.request.path, connection.request.headers["Authorization"]))
        await connection.send(b"a picture")

    certificate, key, ca = Ca(tmp_path / "ca").issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with serve(answer, "localhost", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        host = Host(
            name="host2", ordinal=2, address="localhost", role=Role.PRIMARY, ports=Ports(api=port), joined_at=""
        )
        consoles = AgentConsoles(ssl.create_default_context(cafile=ca))
        stream = await consoles.remote(host, "web1", "display" if kind == "display" else "console", "ticket.1")
        assert await stream.read() == b"a picture"
        assert await stream.read() == b""  # it moved, or ended
        await stream.close()
    assert seen == [(f"/api/v1/vms/web1/{kind}", "Bearer ticket.1")]
    with pytest.raises(Unreachable, match=f"the {kind} on host2"):
        await consoles.remote(host, "web1", "display" if kind == "display" else "console", "ticket.1")
