"""`python -m bench.console`: what the web console costs, and how it feels: a simulated cluster of 64 hosts with
2,000 busy vms, the console over it, and Chromium with one and with five open pages of it.

Side by side in one run: nobody looking, a page that does not live (the late frames of the machine itself), the
cluster's page, the list of vms. CPU is told as a share of one core, and that of the API (with the simulated
cluster in the same process) also as a ratio to nobody looking.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from playwright.async_api import async_playwright
from rich.console import Console
from rich.table import Table

from bench.looking import FRAMES, LATE_MS, OPENS_S, SEEN, TOKEN, Served, Tab, launched, opened, serve
from bench.processes import cpu_s, rss_mb

RESULTS = Path(__file__).parent / "results"
HOSTS, VMS, SECONDS = 64, 2000, 60.0
PAGES = (1, 5)
PROBE_S, LOOKS_S = 2.0, 0.5
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


@dataclass(slots=True)
class Row:
    """`late_frames_per_min`, `latest_frame_ms`: frames of one page that came later than 50 ms after the one
    before. `answered_ms`, `shown_ms`: from the sending of a change to the API's answer, and to the DOM (medians);
    `shown_worst_ms` the worst. `kib_per_min`: of one page's stream, before compression. CPU: of one core."""

    name: str
    pages: int
    late_frames_per_min: float | None = None
    latest_frame_ms: float | None = None
    answered_ms: float | None = None
    shown_ms: float | None = None
    shown_worst_ms: float | None = None
    kib_per_min: float | None = None
    console_percent: float = 0.0
    api_percent: float = 0.0
    console_mb: float = 0.0
    api_mb: float = 0.0
    page_mb: float | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.console", description=__doc__)
    parser.add_argument("--hosts", type=int, default=HOSTS, metavar="N", help=f"({HOSTS})")
    parser.add_argument("--vms", type=int, default=VMS, metavar="N", help=f"({VMS})")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help=f"of each row ({SECONDS:.0f})")
    wish = parser.parse_args(arguments)
    console.print(f"{wish.hosts} hosts start {wish.vms} vms ...", style="dim")
    served = serve(wish.hosts, wish.vms)
    try:
        rows = asyncio.run(measure(served, wish.seconds))
    finally:
        served.process.send_signal(signal.SIGINT)
        served.process.wait(60)
    _tell(rows, wish)
    return 0


async def measure(served: Served, seconds: float) -> list[Row]:
    """The rows, nobody looking first: the console follows the cluster for a minute after the last look."""
    rows = []
    async with AsyncExitStack() as stack:
        playwright = await stack.enter_async_context(async_playwright())
        browser = await launched(playwright)
        stack.push_async_callback(browser.close)
        api = await stack.enter_async_context(_api(served))
        vms = sorted(vm["name"] for vm in (await api.get("/vms", timeout=60)).json())
        targets = cycle(vms)
        for name, path, pages in _plan():
            console.print(f"{name}, {pages} pages", style="dim")
            tabs = [await opened(browser, served, path) for _ in range(pages)]
            rows.append(await _row(served, Probe(api, targets), name, tabs, seconds))
            for tab in tabs:
                await tab.page.context.close()
    return rows


def _plan() -> list[tuple[str, str, int]]:
    """What is looked at, where, by how many pages."""
    looks = [("cluster", "/", pages) for pages in PAGES] + [("vms", "/vms", pages) for pages in PAGES]
    return [("nobody looks", "", 0), ("a still page", "/login", 1), *looks]


def _api(served: Served) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx.AsyncClient(base_url=f"{served.api_url}/api/v1", headers=headers, timeout=30, trust_env=False)


async def _row(served: Served, probe: Probe, name: str, tabs: list[Tab], seconds: float) -> Row:
    for tab in tabs:
        tab.received = 0
        await tab.page.evaluate(FRAMES, LATE_MS)
    pids = (served.console_pid, served.pid)
    used, began = [cpu_s(pid) for pid in pids], time.monotonic()
    await probe.run(name, tabs, began + seconds)
    took = time.monotonic() - began
    console_percent, api_percent = (
        (cpu_s(pid) - before) / took * 100 for pid, before in zip(pids, used, strict=True)
    )
    row = Row(name, len(tabs), console_percent=console_percent, api_percent=api_percent)
    row.console_mb, row.api_mb = (rss_mb(pid) for pid in pids)
    row.answered_ms = median(probe.answered)
    if probe.shown:
        row.shown_ms, row.shown_worst_ms = median(probe.shown), max(probe.shown)
    if tabs:
        gaps = [await tab.page.evaluate("window.frames_.gaps") for tab in tabs]
        row.late_frames_per_min = sum(map(len, gaps)) / len(tabs) / took * 60
        row.latest_frame_ms = max((gap for each in gaps for gap in each), default=0.0)
        row.kib_per_min = sum(tab.received for tab in tabs) / len(tabs) / took * 60 / 1024
        row.page_mb = max([await tab.page.evaluate("performance.memory.usedJSHeapSize") for tab in tabs]) / 1e6
    return row


class Probe:
    """Changes a vm every few seconds, another one each time: milliseconds from the sending until it was
    `answered`, and until it was `shown` by the page that was opened last. Where no page shows it, vms are changed
    all the same."""

    def __init__(self, api: httpx.AsyncClient, targets: Iterator[str]) -> None:
        self._api = api
        self._targets = targets
        self.answered: list[float] = []
        self.shown: list[float] = []

    async def run(self, name: str, tabs: list[Tab], until: float) -> None:
        while time.monotonic() < until:
            vm, text = next(self._targets), f"seen {time.time_ns()}"
            place: list[str] = []
            if name == "cluster":
                place = ["live_events", f"{vm} was changed"]
            elif name == "vms":
                vm = await tabs[-1].page.evaluate("document.querySelector('#live_rows tr[id]').id.slice(3)")
                place = [f"vm-{vm}", text]
            await self._change(vm, text, tabs, place)
            await asyncio.sleep(PROBE_S)

    async def _change(self, vm: str, text: str, tabs: list[Tab], place: list[str]) -> None:
        seen = [asyncio.ensure_future(tabs[-1].page.evaluate(SEEN, place))] if place else []
        await asyncio.sleep(LOOKS_S)
        sent = time.time() * 1000
        (await self._api.patch(f"/vms/{vm}", json={"description": text})).raise_for_status()
        self.answered.append(time.time() * 1000 - sent)
        async with asyncio.timeout(OPENS_S):
            self.shown += [await each - sent for each in seen]


def _tell(rows: list[Row], wish: argparse.Namespace) -> None:
    title = f"The web console over {wish.hosts} hosts with {wish.vms} busy vms, {wish.seconds:.0f} s each"
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("looked at", no_wrap=True)
    for column in (
        *("pages", "late frames a min", "latest", "change answered", "shown", "worst", "KiB a min"),
        *("console CPU", "API CPU", "to nobody", "console MB", "API MB", "page MB"),
    ):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row.name, *_cells(row, rows[0]))
    console.print(table)
    RESULTS.mkdir(exist_ok=True)
    name = f"console-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    told: dict[str, Any] = {"hosts": wish.hosts, "vms": wish.vms, "seconds": wish.seconds}
    (RESULTS / name).write_text(json.dumps({**told, "rows": [asdict(row) for row in rows]}, indent=1))
    console.print(f"kept in bench/results/{name}")


def _cells(row: Row, nobody: Row) -> list[str]:
    return [
        str(row.pages),
        _figure(row.late_frames_per_min, "{:.1f}"),
        _figure(row.latest_frame_ms, "{:.0f} ms"),
        _figure(row.answered_ms, "{:.0f} ms"),
        _figure(row.shown_ms, "{:.0f} ms"),
        _figure(row.shown_worst_ms, "{:.0f} ms"),
        _figure(row.kib_per_min, "{:.0f}"),
        f"{row.console_percent:.1f} %",
        f"{row.api_percent:.1f} %",
        f"{row.api_percent / max(0.1, nobody.api_percent):.2f}",
        f"{row.console_mb:.0f}",
        f"{row.api_mb:.0f}",
        _figure(row.page_mb, "{:.1f}"),
    ]


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


if __name__ == "__main__":
    sys.exit(main())
