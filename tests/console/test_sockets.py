"""zugvogel.console.sockets between a browser and the real API on loopback TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from tests.api.fake_backend import FakeBackend
from tests.cli.conftest import Served, serving
from tests.console.fake_api import filled_mirror
from zugvogel.client.endpoints import trust
from zugvogel.client.transport import AsyncTransport
from zugvogel.console import sockets
from zugvogel.console.app import Console
from zugvogel.console.sockets import AWAY, ENDED, FORBIDDEN, LOGGED_OUT, REFUSED
from zugvogel.domain.cluster import Access
from zugvogel.domain.requests import ChangeVm, NewUser
from zugvogel.errors import Refused, Unreachable

HOST = "console.example"


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture
def served(certified: Path) -> Iterator[Served]:
    with serving(FakeBackend(), certified) as found:
        yield found


@pytest.fixture
def browser(served: Served) -> Iterator[TestClient]:
    """At a console over that API, which serves HTTPS."""
    context = trust(str(served.ca_file))

    def api_for(token: str) -> AsyncTransport:
        return AsyncTransport([served.url], token=token, context=context)

    console = Console("host1", filled_mirror(), api_for, api_for("console.token"), is_secure=True)
    with TestClient(console.app(), base_url=f"https://{HOST}") as client:
        yield client


@contextmanager
def opened(
    browser: TestClient, kind: str = "console", *, token: str = "operator-token", origin: str = f"https://{HOST}"
) -> Iterator[WebSocketTestSession]:
    headers = {"cookie": f"__Host-zugvogel={token}", "origin": origin}
    with browser.websocket_connect(f"wss://{HOST}/vms/web1/{kind}/socket", ["binary"], headers=headers) as socket:
        yield socket


def ended(socket: WebSocketTestSession) -> tuple[int, str]:
    """Close code and reason."""
    while (message := socket.receive())["type"] != "websocket.close":
        pass
    return message["code"], message.get("reason") or ""


@pytest.mark.parametrize("kind", ["console", "display"])
def test_bytes_go_both_ways_until_the_vm_is_gone(browser: TestClient, served: Served, kind: str) -> None:
    with opened(browser, kind) as socket:
        assert socket.accepted_subprotocol == "binary"
        socket.send_bytes(b"hello")
        assert socket.receive_bytes() == b"HELLO"
        socket.send_text("text, too")
        assert socket.receive_bytes() == b"TEXT, TOO"
        socket.send_bytes(b"exit")
        assert ended(socket)[0] == ENDED
    assert len(served.backend.consoles) == 1


def test_a_browser_that_leaves_closes_the_vms_console(browser: TestClient, served: Served) -> None:
    with opened(browser) as socket:
        socket.send_bytes(b"x")
        assert socket.receive_bytes() == b"X"
    assert served.backend.consoles[0].closed.wait(10)


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "https://elsewhere.example",
        f"http://{HOST}",
        f"https://{HOST}:1234",
        f"https://{HOST}.elsewhere",
    ],
)
def test_pages_of_others_open_none(browser: TestClient, served: Served, origin: str) -> None:
    with pytest.raises(WebSocketDisconnect), opened(browser, origin=origin):
        pytest.fail("it was let in")
    assert not served.backend.consoles


@pytest.mark.parametrize(
    ("token", "code"), [("viewer-token", FORBIDDEN), ("", LOGGED_OUT), ("unknown", LOGGED_OUT)]
)
def test_who_may_not_is_told_so(browser: TestClient, served: Served, token: str, code: int) -> None:
    with opened(browser, token=token) as socket:
        found, reason = ended(socket)
    assert found == code
    assert reason
    assert not served.backend.consoles


def test_a_vm_without_a_display_says_so(browser: TestClient, served: Served) -> None:
    asyncio.run(served.backend.change_vm("web1", ChangeVm(display="none")))
    with opened(browser, "display") as socket:
        assert ended(socket) == (REFUSED, "web1 was started without a display")


@pytest.mark.parametrize(
    ("error", "code"), [(Refused("web1 is stopped"), REFUSED), (Unreachable("host1 does not answer"), AWAY)]
)
def test_why_there_is_no_console_is_told(
    browser: TestClient, served: Served, monkeypatch: pytest.MonkeyPatch, error: Refused, code: int
) -> None:
    async def fails(name: str) -> None:
        raise error

    monkeypatch.setattr(served.backend, "console", fails)
    with opened(browser) as socket:
        assert ended(socket) == (code, error.cause)


def test_long_reasons_are_cut(browser: TestClient, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(name: str) -> None:
        raise Refused("ö" * 100)

    monkeypatch.setattr(served.backend, "console", fails)
    with opened(browser) as socket:
        assert ended(socket) == (REFUSED, "ö" * 60)


def test_it_ends_when_the_session_ends(
    browser: TestClient, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "CHECK_S", 0.02)
    backend = served.backend
    asyncio.run(backend.new_user(NewUser(name="ada", access=Access.OPERATOR, password="a long enough one")))
    token = asyncio.run(backend.login("ada", "a long enough one")).token
    with opened(browser, token=token) as socket:
        socket.send_bytes(b"x")
        assert socket.receive_bytes() == b"X"
        asyncio.run(backend.delete_user("ada"))
        assert ended(socket)[0] == LOGGED_OUT


def test_it_outlives_an_api_that_cannot_say(
    browser: TestClient, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session is asked for again and again, and the console goes on."""
    asked = []

    async def away(token: str) -> None:
        asked.append(token)
        raise Unreachable("the registry does not answer")

    monkeypatch.setattr(sockets, "CHECK_S", 0.02)
    with opened(browser) as socket:
        monkeypatch.setattr(served.backend, "authenticate", away)
        while len(asked) < 3:
            socket.send_bytes(b"x")
            assert socket.receive_bytes() == b"X"
