"""zugvogel.console.live: one WebSocket a page, over the console's own pages and a hand-filled mirror."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.console.api_fields import host
from tests.console.fake_api import OWN, FakeApi, filled_mirror
from zugvogel.console import live
from zugvogel.console.app import Console
from zugvogel.console.live import GONE, LOGGED_OUT
from zugvogel.console.mirror import Mirror
from zugvogel.console.sockets import AWAY, FORBIDDEN
from zugvogel.errors import NotFound, SessionEnded, TooManyRequests, Unreachable

ORIGIN = "http://console"


class Browser:
    """A WebSocket of ASGI at a console, in this loop. `told`: what came; `code`: why it was closed."""

    def __init__(self, app: Callable[..., Awaitable[None]], path: str, **headers: str) -> None:
        self._to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        path, _, query = path.partition("?")
        named = {"host": "console", "origin": ORIGIN, **headers}
        self._scope = {
            "type": "websocket",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in named.items() if value],
            "scheme": "ws",
            "server": ("console", 80),
            "subprotocols": [],
            "extensions": {},
        }
        self._to_app.put_nowait({"type": "websocket.connect"})
        self.running = asyncio.create_task(self._run(app))

    async def _run(self, app: Callable[..., Awaitable[None]]) -> None:
        await app(self._scope, self._to_app.get, self._from_app.put)

    async def read(self) -> dict[str, Any]:
        async with asyncio.timeout(20):
            message = await self._from_app.get()
        if message["type"] == "websocket.accept":
            return await self.read()
        return message

    async def told(self) -> dict[str, Any]:
        import json

        message = await self.read()
        assert message["type"] == "websocket.send", message
        found: dict[str, Any] = json.loads(message["text"])
        return found

    async def closed(self) -> int:
        """The code, after whatever is still told."""
        while (message := await self.read())["type"] != "websocket.close":
            pass
        await self.running
        return int(message["code"])

    async def leave(self) -> None:
        self._to_app.put_nowait({"type": "websocket.disconnect", "code": 1001})
        async with asyncio.timeout(20):
            await self.running


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SETTLE_S", 0.0)
    monkeypatch.setattr(live, "LONGEST_REST_S", 0.0)
    monkeypatch.setattr("zugvogel.console.mirror.READY_S", 0.0)


def change(mirror: Mirror, name: str, **fields: Any) -> None:
    mirror.take("hosts", {"whole": False, "changed": {name: fields}, "gone": []})


def console(api: FakeApi, mirror: Mirror) -> Console:
    return Console("host1", mirror, api.of, api.of(OWN), is_secure=False)


def at(api: FakeApi, mirror: Mirror, path: str = "/live/", *, role: str = "viewer", **headers: str) -> Browser:
    cookie = f"zugvogel={role}-token" if role else ""
    return Browser(console(api, mirror).app(), path, cookie=cookie, **headers)


@pytest.fixture
def mirror() -> Mirror:
    return filled_mirror(hosts={name: host(name) for name in ("host1", "host2")})


async def test_the_first_message_holds_every_block_and_later_ones_what_changed(
    api: FakeApi, mirror: Mirror
) -> None:
    browser = at(api, mirror)
    first = (await browser.told())["live"]
    assert {"live_trouble", "live_head", "live_hosts", "live_events"} <= set(first)
    change(mirror, "host2", load1=7.5)
    later = (await browser.told())["live"]
    assert set(later) == {"host-host2"}
    assert "7.5" in later["host-host2"]
    await browser.leave()


async def test_what_no_page_shows_is_told_to_nobody(api: FakeApi, mirror: Mirror) -> None:
    browser = at(api, mirror)
    await browser.told()
    mirror.take("networks", {"whole": True, "changed": {"lan": {"name": "lan"}}, "gone": []})
    for _ in range(50):
        await asyncio.sleep(0)
    change(mirror, "host1", load1=3.5)
    assert set((await browser.told())["live"]) == {"host-host1"}
    await browser.leave()


async def test_a_page_is_followed_with_its_query(api: FakeApi) -> None:
    names = [f"host{number}" for number in range(1, 121)]
    browser = at(api, filled_mirror(hosts={name: host(name) for name in names}), "/live/?page=2")
    rows = (await browser.told())["live"]["live_hosts"]
    assert 'id="host-host120"' in rows
    assert 'id="host-host1"' not in rows
    await browser.leave()


async def test_when_the_browser_leaves_nothing_is_left_running(api: FakeApi, mirror: Mirror) -> None:
    before = asyncio.all_tasks()
    held = console(api, mirror)
    browser = Browser(held.app(), "/live/", cookie="zugvogel=viewer-token")
    await browser.told()
    assert mirror._lookers == 1
    await browser.leave()
    assert mirror._lookers == 0
    assert held._shared._made == {}
    assert asyncio.all_tasks() == before


async def test_a_server_that_stops_leaves_nothing_running(api: FakeApi, mirror: Mirror) -> None:
    before = asyncio.all_tasks()
    browser = at(api, mirror)
    await browser.told()
    browser.running.cancel()
    await asyncio.gather(browser.running, return_exceptions=True)
    assert asyncio.all_tasks() == before
    assert mirror._lookers == 0


async def test_trouble_of_the_api_is_told_once_and_its_end(api: FakeApi, mirror: Mirror) -> None:
    mirror.take("tasks", {"whole": True, "changed": {}, "gone": []})
    task = {"id": "t1"}
    api.answers[("GET", "/tasks/t1")] = Unreachable("host2 does not answer")
    browser = at(api, mirror, "/live/tasks/t1")
    assert await browser.told() == {"trouble": "host2 does not answer"}
    from tests.console.api_fields import task as task_fields

    api.answers[("GET", "/tasks/t1")] = {**task_fields("t1"), **task}
    assert "live_head" in (await browser.told())["live"]
    assert await browser.told() == {"trouble": ""}
    await browser.leave()


async def test_trouble_of_the_watch_is_a_part_of_the_page(api: FakeApi, mirror: Mirror) -> None:
    browser = at(api, mirror)
    await browser.told()
    mirror.take("trouble", {"topic": "tasks", "cause": "no majority <b>"})
    assert "no majority &lt;b&gt;" in (await browser.told())["live"]["live_trouble"]
    mirror.take("trouble", {"topic": "tasks", "cause": ""})
    assert "no majority" not in (await browser.told())["live"]["live_trouble"]
    await browser.leave()


async def test_a_revoked_session_ends_it(api: FakeApi, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zugvogel.console.sessions.KNOWN_S", 0.0)
    browser = at(api, mirror)
    await browser.told()
    api.revoked.add("viewer-token")
    change(mirror, "host1", load1=9)
    assert await browser.closed() == LOGGED_OUT


async def test_a_session_that_the_api_calls_ended_ends_it(api: FakeApi, mirror: Mirror) -> None:
    api.answers[("GET", "/tasks/t1")] = SessionEnded("its time is over")
    assert await at(api, mirror, "/live/tasks/t1").closed() == LOGGED_OUT


async def test_what_is_gone_is_told(api: FakeApi, mirror: Mirror) -> None:
    api.answers[("GET", "/tasks/t1")] = NotFound("there is no task t1")
    assert await at(api, mirror, "/live/tasks/t1").closed() == GONE


@pytest.mark.parametrize(
    ("role", "path", "code"),
    [("", "/live/", LOGGED_OUT), ("nobody", "/live/", LOGGED_OUT), ("operator", "/live/users", FORBIDDEN)],
)
async def test_who_may_not_look_is_told_why(api: FakeApi, mirror: Mirror, role: str, path: str, code: int) -> None:
    assert await at(api, mirror, path, role=role).closed() == code


@pytest.mark.parametrize("origin", ["", "null", "http://elsewhere", "https://console", "http://console:1"])
async def test_pages_of_others_hear_nothing(api: FakeApi, mirror: Mirror, origin: str) -> None:
    browser = at(api, mirror, origin=origin)
    message = await browser.read()
    assert (message["type"], message["code"]) == ("websocket.close", FORBIDDEN)
    assert api.asked == [], "not even whose session it is"


@pytest.mark.parametrize("name", ["a?b", "a#b", "..", "a%2fb", "a\nb"])
async def test_names_that_cannot_be_are_gone_and_ask_the_api_nothing(
    api: FakeApi, mirror: Mirror, name: str
) -> None:
    assert await at(api, mirror, "/live/tasks/x").closed() == GONE
    api.asked.clear()
    browser = Browser(console(api, mirror).app(), "/live/tasks/x", cookie="zugvogel=viewer-token")
    browser._scope["path"] = f"/live/tasks/{name}"
    assert await browser.closed() == GONE
    assert {path for _, _, path, _, _ in api.asked} == {"/session"}


async def test_an_api_that_is_away_says_nothing_about_the_session(
    api: FakeApi, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise Unreachable("the agent starts")

    monkeypatch.setattr(api, "_session", away)
    assert await at(api, mirror).closed() == AWAY, "the page tries again"


async def test_who_fails_too_often_is_nobody(
    api: FakeApi, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise TooManyRequests("too many")

    monkeypatch.setattr(api, "_session", refuse)
    assert await at(api, mirror).closed() == LOGGED_OUT
