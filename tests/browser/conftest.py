"""One simulated cluster with a console, and one browser, for all tests of this directory."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright
from pytest_asyncio import is_async_test

from tests.browser.browsing import WIDE, Api, Tab, launched, log_in, open_tab
from tests.browser.visiting import Cast

LOOPBACK = "127.0.0.1"
TOKEN = "test.secret"
PASSWORD = "a-long-password"
ZV = [sys.executable, "-m", "zugvogel.cli.main", "sim", "serve"]
Open = Callable[..., Awaitable[Tab]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A browser belongs to one loop."""
    for item in items:
        if is_async_test(item) and "tests/browser/" in str(item.path):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@dataclass(frozen=True, slots=True)
class Sim:
    """`api_url`, `token`: of the API, with all rights. `url`: of the console, with its first user. `pid`: of
    `zv sim serve`, whose child the console is."""

    api_url: str
    token: str
    url: str
    user: str
    password: str
    pid: int


def free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def sim() -> Iterator[Sim]:
    size = ["--hosts", "6", "--vms", "24", "--activity", "none"]
    where = ["--port", "0", "--console", str(free_port()), "--token", TOKEN]
    with subprocess.Popen([*ZV, *size, *where], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told = [process.stdout.readline().split() for _ in range(4)]
            said = {words[0]: words[1:] for words in told}
            url, _, user, _, password = said["web"]
            yield Sim(said["url"][0], TOKEN, url, user, password, process.pid)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def api(sim: Sim) -> AsyncIterator[Api]:
    """With users "operator" and "viewer" of `PASSWORD`."""
    made = Api(sim.api_url, sim.token)
    for name in ("operator", "viewer"):
        await made.ask("POST", "/users", {"name": name, "access": name, "password": PASSWORD})
    yield made
    await made.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        found = await launched(playwright)
        yield found
        await found.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cookies(sim: Sim, api: Api, browser: Browser) -> dict[str, Any]:
    """Role -> what a browser holds that has logged in by the login page."""
    held: dict[str, Any] = {}
    passwords = {sim.user: sim.password, "operator": PASSWORD, "viewer": PASSWORD}
    for role, password in passwords.items():
        context = await browser.new_context()
        tab = await open_tab(context, sim.url)
        await tab.goto("/login", is_live=False)
        await log_in(tab, role, password)
        await tab.is_followed()
        held[role] = await context.storage_state()
        await context.close()
    return held


@asynccontextmanager
async def opening(sim: Sim, browser: Browser, cookies: dict[str, Any]) -> AsyncIterator[Open]:
    contexts = []

    async def open_one(role: str = "admin", *, beside: Tab | None = None, **more: Any) -> Tab:
        if beside is not None:
            return await open_tab(beside.page.context, sim.url)
        wish = {"viewport": WIDE, "locale": "en-US", "storage_state": cookies[role] if role else None, **more}
        context = await browser.new_context(**wish)
        contexts.append(context)
        return await open_tab(context, sim.url)

    yield open_one
    for context in contexts:
        await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def opened(sim: Sim, browser: Browser, cookies: dict[str, Any]) -> AsyncIterator[Open]:
    """`opened(role)`: a tab of a new browser that has logged in with that role ("": has not); `more` as of
    Playwright's `new_context`. `opened(beside=tab)`: another tab of the same browser."""
    async with opening(sim, browser, cookies) as opens:
        yield opens


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def readers(sim: Sim, browser: Browser, cookies: dict[str, Any]) -> AsyncIterator[dict[str, Tab]]:
    """Language -> a tab of an admin who reads it, for tests that go from page to page and change nothing."""
    async with opening(sim, browser, cookies) as opens:
        yield {"en": await opens(), "de": await opens(locale="de-DE")}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cast(api: Api) -> Cast:
    vm = (await api.get("/vms"))[0]["name"]
    task = await api.do(f"/vms/{vm}/migrate")
    return Cast((await api.get(f"/vms/{vm}"))["host"], vm, task["id"])
