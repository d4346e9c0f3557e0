"""zugvogel.console.live: pages that several look at, over a page made for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import pytest
from starlette.datastructures import QueryParams

from tests.console.fake_api import filled_mirror
from zugvogel.console import live
from zugvogel.console.i18n import language
from zugvogel.console.live import DEFECT, Shared
from zugvogel.console.mirror import Mirror
from zugvogel.console.page import Look, Page, Variables
from zugvogel.console.sessions import Person
from zugvogel.domain.cluster import Access

PERSON = Person("ada", Access.VIEWER, "t1")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SETTLE_S", 0.0)
    monkeypatch.setattr(live, "LONGEST_REST_S", 0.0)


@pytest.fixture
def mirror() -> Mirror:
    return filled_mirror()


class Told:
    """The browser's side of `serve`."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.left = asyncio.Event()
        self.code = 0
        self.is_stuck = False

    async def accept(self) -> None:
        pass

    async def receive(self) -> dict[str, str]:
        await self.left.wait()
        return {"type": "websocket.disconnect"}

    async def send_json(self, message: dict[str, Any]) -> None:
        if self.is_stuck:
            await asyncio.Event().wait()
        self.sent.put_nowait(message)

    async def close(self, code: int) -> None:
        if self.is_stuck:
            await asyncio.Event().wait()
        self.code = code


def look_of(mirror: Mirror, person: Person = PERSON, query: str = "") -> Look:
    api: Any = None
    return Look(mirror, person, api, language("en"), {}, QueryParams(query))


class Counted:
    """A page of one block, and how often it was made."""

    def __init__(self, *, is_personal: bool = False) -> None:
        self.made = 0
        self.page = Page("/login", "login.html", self.view, is_personal=is_personal, every_s=60.0)

    async def view(self, look: Look) -> Variables:
        self.made += 1
        return {"trouble": {"x": f"{look.mirror.version}"}}


async def yes() -> bool:
    return True


@contextlib.asynccontextmanager
async def served(told: Told, page: Page, look: Look, shared: Shared) -> Any:
    running = asyncio.create_task(live.serve(told, page, look, shared, page.view, yes))  # type: ignore[arg-type]
    yield running
    told.left.set()
    await running


async def test_what_several_look_at_is_made_once(mirror: Mirror) -> None:
    counted, shared, browsers = Counted(), Shared(), [Told() for _ in range(20)]
    people = [Person(f"p{number}", Access.VIEWER, f"t{number}") for number in range(20)]
    async with contextlib.AsyncExitStack() as stack:
        for told, person in zip(browsers, people, strict=True):
            await stack.enter_async_context(served(told, counted.page, look_of(mirror, person), shared))
        for told in browsers:
            await told.sent.get()
        assert counted.made == 1
        mirror.tell()
        for told in browsers:
            assert f"{mirror.version}" in (await told.sent.get())["live"]["live_trouble"]
        assert counted.made == 2
    assert shared._made == {}


@pytest.mark.parametrize(
    ("one", "other", "is_personal", "count"),
    [
        (look_of(Mirror()), look_of(Mirror(), query="q=1"), False, 2),
        (look_of(Mirror()), look_of(Mirror(), Person("eve", Access.ADMIN, "t2")), False, 2),
        (look_of(Mirror()), look_of(Mirror(), Person("eve", Access.VIEWER, "t2")), False, 1),
        (look_of(Mirror()), look_of(Mirror(), Person("eve", Access.VIEWER, "t2")), True, 2),
    ],
)
def test_only_the_same_is_shared(one: Look, other: Look, is_personal: bool, count: int) -> None:
    shared, page = Shared(), Counted(is_personal=is_personal).page
    with shared.seen(page, one), shared.seen(page, other):
        assert len(shared._made) == count
    assert shared._made == {}


async def test_what_one_asked_the_api_others_need_not_ask(mirror: Mirror) -> None:
    asked = 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        return asked

    async def view(look: Look) -> Variables:
        return {"trouble": {"x": str(await look.now_and_then("x", 60, ask))}}

    page, shared, one, other = Page("/login", "login.html", view), Shared(), Told(), Told()
    async with served(one, page, look_of(mirror), shared), served(other, page, look_of(mirror), shared):
        await one.sent.get()
        await other.sent.get()
        mirror.tell()
    assert asked == 1


async def test_a_defect_of_a_page_is_logged_and_the_page_comes_again(
    mirror: Mirror, caplog: pytest.LogCaptureFixture
) -> None:
    async def view(look: Look) -> Variables:
        raise KeyError("nonsense")

    told, page = Told(), Page("/login", "login.html", view)
    with caplog.at_level(logging.ERROR):
        await live.serve(told, page, look_of(mirror), Shared(), view, yes)  # type: ignore[arg-type]
    assert told.code == DEFECT
    assert "nonsense" in caplog.text


async def test_a_browser_that_takes_nothing_is_given_up(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live, "SEND_S", 0.0)
    told, counted = Told(), Counted()
    told.is_stuck = True
    await live.serve(told, counted.page, look_of(mirror), Shared(), counted.view, yes)  # type: ignore[arg-type]
    assert mirror._lookers == 0
    assert not caplog.records


@pytest.mark.parametrize(
    ("took_s", "pages", "rest_s"), [(0.001, 1, 0.15), (0.1, 1, 1.0), (0.02, 1, 0.2), (0.02, 4, 0.8), (5.0, 1, 2.0)]
)
def test_pages_that_are_costly_or_many_are_made_less_often(
    monkeypatch: pytest.MonkeyPatch, took_s: float, pages: int, rest_s: float
) -> None:
    monkeypatch.setattr(live, "LONGEST_REST_S", 2.0)
    monkeypatch.setattr(live, "SETTLE_S", 0.15)
    shared, page = Shared(), Counted().page
    with contextlib.ExitStack() as stack:
        for number in range(pages):
            made = stack.enter_context(shared.seen(page, look_of(Mirror(), query=f"q={number}")))
        made.took_s = took_s
        assert shared.rest_s(made) == pytest.approx(rest_s)
