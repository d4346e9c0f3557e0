"""The console over real hosts: a migration while it runs, and a guest's serial and graphical console."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from tests.browser.browsing import WIDE, Tab, launched, log_in, open_tab, until
from tests.e2e.cluster import Cluster
from tests.e2e.own_lab import own_lab

pytestmark = pytest.mark.lab

VM = "shown"
CONSOLE_PORT = 7445
FILLED_MIB, BANDWIDTH_MIB, DIRTY_MB_S = 28, 8, 6
"""Random bytes that compress to nothing less, how fast they go, and how fast they are written anew: each round
takes seconds, three quarters of the one before it, until the guest is told to rest."""
LIT = """() => {
  const canvas = document.querySelector("#rfb canvas");
  if (!canvas || !canvas.width) return 0;
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let lit = 0;
  for (let at = 0; at < data.length; at += 4) if (data[at] + data[at + 1] + data[at + 2] > 150) lit += 1;
  return lit;
}"""
"""Pixels that are not dark."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with own_lab(tmp_path_factory, "web", 2) as made:
        made.create(VM, display="vga")
        made.start(VM, "host1", until_answers=True)
        yield made


@pytest.fixture(scope="module")
def door(cluster: Cluster) -> dict[str, Any]:
    """Where the console is found from this machine, and as whom."""
    found: dict[str, Any] = cluster.zv_json("lab", "console")
    return found


async def entered(browser: Browser, url: str, door: dict[str, Any]) -> Tab:
    """A new browser that has logged in at that console."""
    context = await browser.new_context(viewport=WIDE, locale="en-US", ignore_https_errors=True)
    tab = await open_tab(context, url.rstrip("/"))
    await tab.goto("/login", is_live=False)
    await log_in(tab, door["user"], door["password"])
    await tab.is_followed()
    return tab


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser, door: dict[str, Any]) -> AsyncIterator[Tab]:
    made = await entered(browser, door["url"], door)
    yield made
    await made.page.context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def client_browser(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Browser]:
    """One that stands where the lab's client does: it reaches every host."""
    program = tmp_path / "browser"
    program.write_text(f'#!/bin/sh\nexec {" ".join(cluster.client())} "$BROWSER" "$@"\n')
    program.chmod(0o755)
    async with async_playwright() as playwright:
        found = await launched(playwright, through=str(program))
        yield found
        await found.close()


async def done(cluster: Cluster, target: str) -> None:
    """The vm is moved there, live, unless it is there."""
    if (await asyncio.to_thread(cluster.vm, VM))["host"] != target:
        task = await asyncio.to_thread(cluster.migrate, VM, target)
        ended = await asyncio.to_thread(cluster.task_end, task)
        assert ended["state"] == "done", ended["error"]


def other(host: str) -> str:
    return "host2" if host == "host1" else "host1"


async def test_a_live_migration_is_watched_and_its_report_has_a_link(cluster: Cluster, tab: Tab) -> None:
    load = f"/load?dirty_mb_s={DIRTY_MB_S}&working_set_mb={FILLED_MIB}&fill=random"
    await asyncio.to_thread(cluster.guest, VM, load)
    source = (await asyncio.to_thread(cluster.vm, VM))["host"]
    await tab.goto(f"/vms/{VM}/migrate?bandwidth_mib={BANDWIDTH_MIB}&max_downtime_ms=100")
    await tab.page.click("#live_plan button.primary:enabled")
    await tab.page.wait_for_url("**/tasks/*")
    await tab.is_followed()
    await tab.marked()
    phases: set[str] = set()
    rounds: set[int] = set()

    async def are_several() -> bool:
        phases.update(await tab.page.locator("#live_now h2").all_inner_texts())
        rounds.add(await tab.page.locator("#live_rounds tbody tr").count())
        assert "done" not in await tab.text("#live_head"), f"over with no more looks than {rounds}"
        return len(rounds) > 2

    await until("rounds to come one after the other", are_several, 90)
    assert "precopy" in phases, phases  # the others are over within a look
    await asyncio.to_thread(cluster.guest, VM, "/load?dirty_mb_s=0&working_set_mb=0")
    await tab.shows("#live_head", "done")
    assert await tab.page.locator("#live_rounds tbody tr").count() >= max(rounds)
    assert await tab.is_marked()
    await expect(tab.page.locator(".plot canvas")).to_be_visible()
    await expect(tab.page.locator("#live_now")).to_contain_text("downtime")
    await expect(tab.page.locator("#live_axis")).to_contain_text("RARP")
    await expect(tab.page.locator("#live_axis .blackout")).not_to_have_count(0)
    again = await open_tab(tab.page.context, tab.base)
    await again.goto(tab.page.url.removeprefix(tab.base))
    assert await again.text("#live_now") == await tab.text("#live_now")
    assert await again.text("#live_axis") == await tab.text("#live_axis")
    await again.goto(f"/vms/{VM}")
    await expect(again.page.locator(f"#live_head a[href='/hosts/{other(source)}']")).to_have_count(1)
    assert tab.told == again.told == []


async def test_the_guest_answers_what_is_typed_also_after_it_moved(cluster: Cluster, tab: Tab) -> None:
    await done(cluster, "host1")
    await tab.goto(f"/vms/{VM}/console")
    status, screen = tab.page.locator("#status"), tab.page.locator(".xterm-rows")
    await expect(status).to_contain_text("host1", timeout=20_000)
    await tab.page.keyboard.press("Enter")
    await tab.page.keyboard.type("echo it-is-$((6*7)); left=behind\n")
    await expect(screen).to_contain_text("it-is-42", timeout=20_000)
    await done(cluster, "host2")
    await expect(status).to_contain_text("host2", timeout=20_000)
    await expect(screen).to_contain_text("it-is-42")  # what was shown stays
    await tab.page.keyboard.type("echo $left-$((7*8))\n")
    await expect(screen).to_contain_text("behind-56", timeout=20_000)
    assert tab.told == []


async def test_the_screen_of_the_guest_shows_pixels_and_takes_keys(cluster: Cluster, tab: Tab) -> None:
    await done(cluster, "host1")
    await tab.goto(f"/vms/{VM}/display")
    await expect(tab.page.locator("#status")).to_contain_text("host1", timeout=20_000)

    async def lit(more_than: int) -> int:
        found = int(await tab.page.evaluate(LIT))
        return found if found > more_than else 0

    before = await until("a picture", lambda: lit(500))
    await tab.page.click("#type")
    await tab.page.keyboard.type("seq -s -- 1 400\n", delay=30)
    after = await until("what was typed to be seen", lambda: lit(2 * before))
    await done(cluster, "host2")
    await expect(tab.page.locator("#status")).to_contain_text("host2", timeout=20_000)
    await until("the same picture from the other host", lambda: lit(int(0.9 * after)))
    assert [told for told in tab.told if "getImageData" not in told] == []  # which this test does itself


async def test_every_host_shows_the_same_to_the_same_user(
    cluster: Cluster, door: dict[str, Any], client_browser: Browser
) -> None:
    shown = []
    for host in cluster.layout.load().hosts:
        tab = await entered(client_browser, f"https://{host.address}:{CONSOLE_PORT}", door)
        await tab.page.click(".menu summary")
        assert host.name in await tab.text(".menu-body")
        await tab.goto("/vms")
        rows = await tab.page.locator("#live_rows").inner_text()
        await tab.goto("/settings")
        shown.append((rows, await tab.page.locator("main").inner_text()))
        assert tab.told == []
        assert tab.foreign == []
    assert shown[0] == shown[1]
    assert VM in shown[0][0]
