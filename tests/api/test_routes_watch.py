"""GET /watch as a client sees it. The app is called by hand: httpx waits for the end of an answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.api.conftest import as_backend, bearer
from tests.api.fake_backend import FakeBackend
from zugvogel.api import routes_watch, watching
from zugvogel.api.app import create_app
from zugvogel.api.watch_sources import SOURCES
from zugvogel.domain.host import HostStatus
from zugvogel.domain.user import Caller
from zugvogel.errors import Forbidden, Unreachable

SOON_S = 10.0


class Stream:
    """One request under way. `is_stuck`: the client takes nothing any more."""

    def __init__(self, app: Any, query: str, headers: dict[str, str]) -> None:
        self.sent: asyncio.Queue[Any] = asyncio.Queue()
        self.gone = asyncio.Event()
        self.is_stuck = False
        self.text = ""
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "https",
            "path": "/api/v1/watch", "raw_path": b"/api/v1/watch", "query_string": query.encode(), "root_path": "",
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()], "client": ("192.0.2.9", 1),
            "server": ("api", 443), "state": {},
        }  # fmt: skip
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if self.is_stuck:
            await asyncio.Event().wait()
        self.sent.put_nowait(message)

    async def start(self) -> tuple[int, dict[str, str]]:
        message = await asyncio.wait_for(self.sent.get(), SOON_S)
        assert message["type"] == "http.response.start"
        return message["status"], {k.decode(): v.decode() for k, v in message["headers"]}

    async def part(self) -> str:
        """The next message or comment; empty at the end."""
        async with asyncio.timeout(SOON_S):
            while "\n\n" not in self.text:
                message = await self.sent.get()
                if not message.get("more_body", False):
                    return ""
                self.text += message["body"].decode()
        part, _, self.text = self.text.partition("\n\n")
        return part

    async def event(self) -> tuple[str, Any]:
        while (part := await self.part()).startswith(":"):
            continue
        first, second = part.split("\n")
        return first.removeprefix("event: "), json.loads(second.removeprefix("data: "))


class Backend(FakeBackend):
    def __init__(self) -> None:
        super().__init__()
        self.unavailable: Exception | None = None
        self.refusal: Exception | None = None

    async def hosts(self) -> list[HostStatus]:
        if self.unavailable is not None:
            raise self.unavailable
        return await super().hosts()

    async def authenticate(self, token: str) -> Caller:
        if self.refusal is not None:
            raise self.refusal
        return await super().authenticate(token)


@asynccontextmanager
async def stream(app: Any, query: str = "", role: str = "viewer") -> AsyncIterator[Stream]:
    opened = Stream(app, query, bearer(role) if role else {})
    try:
        yield opened
    finally:
        opened.gone.set()
        await asyncio.gather(asyncio.wait_for(opened.task, SOON_S), return_exceptions=True)


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def app(backend: Backend) -> Any:
    return create_app(as_backend(backend), "THE CA")


async def test_everything_comes_as_the_other_routes_show_it_and_then_ready(app: Any) -> None:
    async with stream(app) as opened:
        status, headers = await opened.start()
        assert status == 200
        assert headers["content-type"].startswith("text/event-stream")
        assert headers["cache-control"] == "no-store"
        assert "content-length" not in headers
        told = {}
        while "ready" not in told:
            event, data = await opened.event()
            told[event] = data
    assert told.pop("ready") == {}
    assert set(told) == set(SOURCES)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://api/api/v1") as http:
        for topic, data in told.items():
            assert data["whole"] is True
            assert data["gone"] == []
            shown = (await http.get(f"/{topic}", headers=bearer("viewer"))).json()
            shown = shown if isinstance(shown, list) else [shown]
            assert list(data["changed"].values()) == shown, topic


async def test_topics_are_chosen_and_told_by_their_keys(app: Any) -> None:
    async with stream(app, "topics=ha,%20vms") as opened:
        await opened.start()
        first, second, third = [await opened.event() for _ in range(3)]
    assert {first[0], second[0]} == {"ha", "vms"}
    keys = {event: list(data["changed"]) for event, data in (first, second)}
    assert keys == {"ha": ["ha"], "vms": ["web1"]}
    assert third[0] == "ready"


async def test_an_unknown_topic_is_refused(app: Any) -> None:
    async with stream(app, "topics=vms,cats") as opened:
        status, _ = await opened.start()
        assert status == 422
        body = json.loads((await opened.sent.get())["body"])
    assert body["error"]["cause"] == "there is no topic 'cats'"
    assert "hosts" in body["error"]["next_step"]


async def test_nobody_watches_without_a_bearer(app: Any) -> None:
    async with stream(app, role="") as opened:
        assert (await opened.start())[0] == 403
    assert app.state.watching.watchers == set()


async def test_a_topic_that_cannot_be_read_is_told_with_its_cause(app: Any, backend: Backend) -> None:
    backend.unavailable = Unreachable("no primary answers", "ask another host")
    async with stream(app, "topics=hosts") as opened:
        await opened.start()
        trouble = {"topic": "hosts", "cause": "no primary answers", "next_step": "ask another host"}
        assert await opened.event() == ("trouble", trouble)
        assert (await opened.event())[0] == "ready"


async def test_who_goes_leaves_nothing_behind(app: Any) -> None:
    before = asyncio.all_tasks()
    async with stream(app) as opened:
        await opened.start()
        await opened.event()
        assert len(app.state.watching.watchers) == 1
        opened.gone.set()
        await asyncio.wait_for(opened.task, SOON_S)
        assert app.state.watching.watchers == set()
        assert asyncio.all_tasks() == before


async def test_a_request_that_is_cancelled_leaves_nothing_behind(app: Any) -> None:
    before = asyncio.all_tasks()
    opened = Stream(app, "", bearer("viewer"))
    await opened.start()
    opened.task.cancel()
    await asyncio.gather(opened.task, return_exceptions=True)
    assert asyncio.all_tasks() == before
    assert app.state.watching.watchers == set()


async def test_a_silent_stream_says_that_it_lives(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes_watch, "ALIVE_S", 0.01)
    async with stream(app, "topics=cluster") as opened:
        await opened.start()
        for _ in range(2):
            while await opened.part() != ": alive":
                continue


async def test_the_stream_ends_with_its_bearer(
    app: Any, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes_watch, "ALIVE_S", 0.01)
    async with stream(app, "topics=cluster") as opened:
        await opened.start()
        backend.refusal = Unreachable("the registry is not read")
        for _ in range(2):
            while await opened.part() != ": alive":
                continue
        backend.refusal = Forbidden("the token is not known to this cluster")
        while await opened.part():
            continue
        await asyncio.wait_for(opened.task, SOON_S)
    assert app.state.watching.watchers == set()


async def test_who_takes_nothing_any_more_is_cut(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes_watch, "ALIVE_S", 0.01)
    monkeypatch.setattr(routes_watch, "STUCK_S", 0.01)
    async with stream(app, "topics=cluster") as opened:
        await opened.start()
        opened.is_stuck = True
        await asyncio.wait({opened.task}, timeout=SOON_S)
        assert app.state.watching.watchers == set()


async def test_a_long_message_is_sent_in_slices(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes_watch, "SLICE_BYTES", 7)
    async with stream(app, "topics=cluster") as opened:
        await opened.start()
        event, data = await opened.event()
        assert (event, data["changed"]["cluster"]["name"]) == ("cluster", "birds")


async def test_too_many_watchers_get_an_answer(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_WATCHERS", 0)
    async with stream(app) as opened:
        status, _ = await opened.start()
        assert status == 429


async def test_openapi_tells_of_it(app: Any) -> None:
    route = app.openapi()["paths"]["/api/v1/watch"]["get"]
    assert list(route["responses"]["200"]["content"]) == ["text/event-stream"]
    (topics,) = [p for p in route["parameters"] if p["name"] == "topics"]
    assert "datastores" in topics["description"]
