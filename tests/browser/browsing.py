"""Chromium at a console: the browser, a tab with what it told and asked, and the API beside it."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Playwright,
    Response,
    ViewportSize,
    WebSocket,
)

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
WIDE, NARROW = ViewportSize(width=1280, height=900), ViewportSize(width=390, height=844)
PATIENCE_S = 30.0
LIVE = "/live"


async def launched(playwright: Playwright, *, through: str = "") -> Browser:
    """`through`: a program that starts the one that $BROWSER names, elsewhere."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert program, "there is no Chromium here: run `scripts/setup --browser`"
    environment: dict[str, str | float | bool] = {**os.environ, "BROWSER": program}
    return await playwright.chromium.launch(executable_path=through or program, args=ARGUMENTS, env=environment)


async def until(what: str, holds: Callable[[], Awaitable[Any]], patience_s: float = PATIENCE_S) -> Any:
    """What `holds` answers, as soon as it is something."""
    deadline = time.monotonic() + patience_s
    while not (found := await holds()):
        assert time.monotonic() < deadline, f"not within {patience_s:.0f} s: {what}"
        await asyncio.sleep(0.05)
    return found


class Tab:
    """One page. `told`: what went wrong by its own account; `asked`: every address it asked, sockets too."""

    def __init__(self, page: Page, base: str) -> None:
        self.page = page
        self.base = base
        self.told: list[str] = []
        self.asked: list[str] = []
        self._first = asyncio.Event()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.told.append(f"error: {error}"))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("websocket", self._opened)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.told.append(f"{message.type}: {message.text}")

    def _opened(self, socket: WebSocket) -> None:
        self.asked.append(socket.url)
        if urlsplit(socket.url).path.startswith(LIVE):
            socket.on("framereceived", lambda _: self._first.set())

    async def goto(self, path: str, *, is_live: bool = True) -> Response:
        """`is_live`: returns when the page's stream has told everything once."""
        self._first.clear()
        response = await self.page.goto(self.base + path)
        assert response is not None
        assert response.status < 500, f"{path}: {response.status}"
        if is_live:
            await self.is_followed()
        return response

    async def is_followed(self) -> None:
        """The page's stream has told something since the last `goto`."""
        async with asyncio.timeout(PATIENCE_S):
            await self._first.wait()

    @property
    def foreign(self) -> list[str]:
        """What was asked of anybody but this console."""
        own = urlsplit(self.base).netloc
        return [url for url in self.asked if urlsplit(url).netloc != own and not url.startswith("data:")]

    async def marked(self) -> None:
        """So that a reload is noticed by `is_marked`."""
        await self.page.evaluate("window.isMarked = true")

    async def is_marked(self) -> bool:
        return bool(await self.page.evaluate("window.isMarked === true"))

    async def text(self, selector: str) -> str:
        return (await self.page.locator(selector).inner_text()).strip()

    async def shows(self, selector: str, text: str) -> None:
        """Waits until the element holds that text."""

        async def holds() -> bool:
            found = self.page.locator(selector)
            return await found.count() == 1 and text in await found.inner_text()

        await until(f"{text!r} in {selector}", holds)


class Api:
    """The API with one bearer. `ask` raises for refusals."""

    def __init__(self, url: str, token: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=f"{url}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=PATIENCE_S,
            trust_env=False,
        )

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = await self._http.request(method, path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.text}"
        return answer.json() if answer.content else None

    async def get(self, path: str) -> Any:
        return await self.ask("GET", path)

    async def do(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Begin a task and wait for its good end."""
        task: dict[str, Any] = await self.ask("POST", path, body or {})
        while task["state"] in ("pending", "running"):
            task = await self.get(f"/tasks/{task['id']}?since={task['version']}&wait_s=20")
        assert task["state"] == "done", task["error"]
        return task

    async def moved(self, vm: str) -> tuple[str, str]:
        """Live to another host: from where and to where."""
        source = (await self.get(f"/vms/{vm}"))["host"]
        await self.do(f"/vms/{vm}/migrate")
        return source, (await self.get(f"/vms/{vm}"))["host"]

    async def close(self) -> None:
        await self._http.aclose()


async def open_tab(context: BrowserContext, base: str) -> Tab:
    return Tab(await context.new_page(), base)


async def log_in(tab: Tab, user: str, password: str) -> None:
    """On the login page that is shown."""
    await tab.page.fill("[name=user]", user)
    await tab.page.fill("[name=password]", password)
    await tab.page.click("main button.primary")


def processes_below(pid: int, word: bytes) -> list[int]:
    """Children of `pid` whose command line holds `word`."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and word in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found
