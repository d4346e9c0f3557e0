"""Serial and graphical consoles over WebSockets: zugvogel.api.console on a real server"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.api.conftest import bearer
from tests.api.fake_backend import FakeBackend
from tests.cli.conftest import Served, serving
from zugvogel.domain.requests import ChangeVm

KINDS = ("console", "display")
OPERATOR = bearer("operator")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(FakeBackend(), tmp_path_factory.mktemp("tls")) as found:
        yield found


def opened(
    served: Served, path: str, headers: dict[str, str] = OPERATOR, subprotocols: tuple[str, ...] = ()
) -> connect:
    """By asyncio: threads that share a TLS connection lose what is written, now and then."""
    return connect(
        f"wss{served.url.removeprefix('https')}/api/v1/vms/{path}",
        ssl=ssl.create_default_context(cafile=str(served.ca_file)),
        additional_headers=headers,
        subprotocols=[Subprotocol(name) for name in subprotocols] or None,
        proxy=None,
    )


async def refusal_of(served: Served, path: str, headers: dict[str, str] = OPERATOR) -> tuple[int, dict[str, Any]]:
    """(status, error)"""
    with pytest.raises(InvalidStatus) as refusal:
        async with opened(served, path, headers):
            pytest.fail("it was let in")
    response = refusal.value.response
    return response.status_code, json.loads(response.body or b"{}").get("error", {})


@pytest.mark.parametrize("kind", KINDS)
async def test_bytes_go_both_ways_until_the_vm_is_gone(served: Served, kind: str) -> None:
    async with opened(served, f"web1/{kind}") as socket:
        await socket.send(b"hello")
        assert await socket.recv() == b"HELLO"
        await socket.send("you")
        assert await socket.recv() == b"YOU"
        await socket.send(b"exit")
        with pytest.raises(ConnectionClosed) as end:
            await socket.recv()
    assert end.value.rcvd is not None
    assert end.value.rcvd.code == 1000


@pytest.mark.parametrize("kind", KINDS)
async def test_the_stream_is_closed_when_the_user_leaves(served: Served, kind: str) -> None:
    async with opened(served, f"web1/{kind}") as socket:
        await socket.send(b"x")
        await socket.recv()
    assert await asyncio.to_thread(served.backend.consoles[-1].closed.wait, 20)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("asked", "taken"), [((), None), (("binary",), "binary"), (("base64",), None)])
async def test_the_subprotocol_of_vnc_clients_is_taken(
    served: Served, kind: str, asked: tuple[str, ...], taken: str | None
) -> None:
    async with opened(served, f"web1/{kind}", subprotocols=asked) as socket:
        assert socket.subprotocol == taken


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("headers", [{}, bearer("viewer"), {"cookie": "session=admin-token"}])
async def test_only_operators_get_one_and_only_by_a_header(
    served: Served, kind: str, headers: dict[str, str]
) -> None:
    before = len(served.backend.consoles)
    status, error = await refusal_of(served, f"web1/{kind}", headers)
    assert (status, error["code"]) == (403, "forbidden")
    assert len(served.backend.consoles) == before


@pytest.mark.parametrize("name", ["nobody", "Web1", "web1%0a"])
async def test_an_unknown_vm_has_none(served: Served, name: str) -> None:
    assert (await refusal_of(served, f"{name}/display"))[0] == 404


async def test_a_vm_without_a_display_says_so(served: Served) -> None:
    await served.backend.change_vm("web1", ChangeVm(display="none"))
    status, error = await refusal_of(served, "web1/display")
    assert (status, error["code"]) == (409, "refused")
    assert error["cause"] == "web1 was started without a display"
