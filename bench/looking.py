"""The simulated cluster that `bench.console` measures, and the pages of Chromium that look at it."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass

from playwright.async_api import Browser, Page, Playwright, WebSocket

from bench.processes import children

TOKEN = "bench.secret"
LATE_MS = 50
OPENS_S = 30.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
FRAMES = """(late) => {
  window.frames_ = {last: performance.now(), gaps: []};
  const next = (now) => {
    if (now - frames_.last > late) frames_.gaps.push(now - frames_.last);
    frames_.last = now;
    requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
}"""
"""Notes frames that come later than `late` ms after the one before."""
SEEN = """([id, text]) => new Promise((found) => {
  const look = () => {
    if (!document.getElementById(id)?.textContent.includes(text)) return false;
    found(performance.timeOrigin + performance.now());
    return true;
  };
  if (!look()) {
    const observer = new MutationObserver(() => { if (look()) observer.disconnect(); });
    observer.observe(document.body, {subtree: true, childList: true, characterData: true});
  }
})"""


@dataclass(slots=True)
class Served:
    """`zv sim serve` with a console; `pid`: of the API and the simulated cluster."""

    process: subprocess.Popen[str]
    api_url: str
    url: str
    user: str
    password: str

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def console_pid(self) -> int:
        return children(self.pid)[0]


class Tab:
    """One page; `received`: signs that its sockets were sent."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.received = 0
        page.on("websocket", self._follow)

    def _follow(self, socket: WebSocket) -> None:
        socket.on("framereceived", self._count)

    def _count(self, payload: str | bytes) -> None:
        self.received += len(payload)


def serve(hosts: int, vms: int) -> Served:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    size = ["--hosts", str(hosts), "--vms", str(vms), "--activity", "busy"]
    where = ["--port", "0", "--console", str(port), "--token", TOKEN]
    process = subprocess.Popen(
        [sys.executable, "-m", "zugvogel.cli.main", "sim", "serve", *size, *where],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    told = [process.stdout.readline().split() for _ in range(4)]
    (_, api_url), (_, url, _, user, _, password) = told[0], told[-1]
    return Served(process, api_url, url, user, password)


async def launched(playwright: Playwright) -> Browser:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert program, "there is no Chromium here: run `scripts/setup --browser`"
    return await playwright.chromium.launch(executable_path=program, args=ARGUMENTS)


async def opened(browser: Browser, served: Served, path: str) -> Tab:
    """A window of its own, as a browser draws only pages that can be seen; logged in where it has to be, and once
    its stream is there."""
    context = await browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US")
    tab = Tab(await context.new_page())
    await tab.page.goto(f"{served.url}{path}")
    if path != "/login" and "/login" in tab.page.url:
        await tab.page.fill("[name=user]", served.user)
        await tab.page.fill("[name=password]", served.password)
        await tab.page.click("main button.primary")
    async with asyncio.timeout(OPENS_S):
        while path != "/login" and not tab.received:
            await tab.page.wait_for_timeout(100)
    return tab
