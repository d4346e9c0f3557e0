"""Pages stay up to date by themselves, and leave alone what a person does there."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import expect

from tests.browser.browsing import Api, Tab, processes_below, until
from tests.browser.conftest import Open, Sim

VM = "web1"
TABS = 8
DESCRIBED = "described after the restart"


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def _runs(api: Api) -> AsyncIterator[None]:
    """The vm runs again at the end."""
    yield
    if (await api.get(f"/vms/{VM}"))["state"] != "running":
        await api.do(f"/vms/{VM}/start")


async def row(tab: Tab, name: str = VM) -> str:
    return (await tab.text(f"#vm-{name}")).lower()


async def test_a_vm_that_ends_is_seen_on_every_page_without_a_reload(opened: Open, api: Api) -> None:
    vms = await opened()
    cluster, events, vm = [await opened(beside=vms) for _ in range(3)]
    host = (await api.get(f"/vms/{VM}"))["host"]
    for tab, path in ((vms, "/vms"), (cluster, "/"), (events, f"/events?q={VM}"), (vm, f"/vms/{VM}")):
        await tab.goto(path)
        await tab.marked()
    count = cluster.page.locator(f"#host-{host} [data-label=VMs]")
    before = int(await count.inner_text())
    known = await events.page.locator("#live_rows tr[id]").count()
    assert "running" in await row(vms)
    await api.do(f"/vms/{VM}/kill")
    await vms.shows(f"#vm-{VM}", "stopped")
    await vm.shows("#live_head", "stopped")
    await expect(count).to_have_text(str(before - 1))
    newest = events.page.locator("#live_rows tr[id]").first
    await expect(events.page.locator("#live_rows tr[id]")).not_to_have_count(known)
    await expect(newest).to_contain_text(VM)
    for tab in (vms, cluster, events, vm):
        assert await tab.is_marked()
        assert tab.told == []


async def test_a_vm_that_moves_is_seen_at_its_new_host(opened: Open, api: Api) -> None:
    tab = await opened()
    await tab.goto("/vms")
    await tab.marked()
    source, target = await api.moved(VM)
    assert source != target
    await expect(tab.page.locator(f"#vm-{VM} a[href='/hosts/{target}']")).to_be_visible()
    await expect(tab.page.locator(f"#vm-{VM} a[href='/hosts/{source}']")).to_have_count(0)
    assert await tab.is_marked()


async def test_what_is_typed_stays_with_focus_and_caret(opened: Open, api: Api) -> None:
    tab = await opened()
    await tab.goto(f"/vms/{VM}/change")
    field = tab.page.locator("[name=description]")
    await field.click()
    await field.press_sequentially("half a sentence")
    await field.press("Home")
    other = await opened(beside=tab)
    await other.goto("/vms")
    for _ in range(2):
        _, target = await api.moved(VM)
        await other.shows(f"#vm-{VM}", target)
    await field.press_sequentially("not ")
    assert await field.input_value() == "not half a sentence"
    await expect(field).to_be_focused()


async def test_an_open_dialog_and_what_is_typed_there_stay(opened: Open, api: Api) -> None:
    tab = await opened()
    await tab.goto(f"/vms/{VM}")
    await tab.page.click("[data-opens=stop]")
    field = tab.page.locator("#stop [name=timeout_s]")
    await field.fill("33")
    _, target = await api.moved(VM)
    await expect(tab.page.locator(f"#live_head a[href='/hosts/{target}']")).to_have_count(1)
    await expect(tab.page.locator("#stop")).to_be_visible()
    await expect(field).to_have_value("33")
    await expect(field).to_be_focused()


async def test_a_link_in_a_row_that_changes_keeps_the_focus(opened: Open, api: Api) -> None:
    tab = await opened()
    await tab.goto("/vms")
    link = tab.page.locator(f"#vm-{VM} a[href='/vms/{VM}']")
    await link.focus()
    _, target = await api.moved(VM)
    await tab.shows(f"#vm-{VM}", target)
    await expect(link).to_be_focused()


async def test_eight_tabs_of_one_browser_are_all_live(opened: Open, api: Api) -> None:
    """More than the connections that a browser has to one host."""
    first = await opened()
    tabs = [first, *[await opened(beside=first) for _ in range(TABS - 1)]]
    for tab in tabs:
        await tab.goto("/vms")
    await api.do(f"/vms/{VM}/kill")
    await asyncio.gather(*(tab.shows(f"#vm-{VM}", "stopped") for tab in tabs))
    await api.do(f"/vms/{VM}/start")
    await asyncio.gather(*(tab.shows(f"#vm-{VM}", "running") for tab in tabs))


async def test_a_page_comes_back_by_itself_after_its_server_was_killed(opened: Open, api: Api, sim: Sim) -> None:
    tab, other = await opened(), await opened()
    await tab.goto("/vms?q=web")
    await other.goto(f"/vms/{VM}/change")
    for each in (tab, other):
        await each.marked()
    await other.page.fill("[name=description]", "not to be lost")
    (console,) = processes_below(sim.pid, b"zugvogel.console")
    os.kill(console, signal.SIGKILL)
    for each in (tab, other):
        await expect(each.page.locator("#lost")).to_be_visible()
    await api.do(f"/vms/{VM}/kill")
    await tab.shows(f"#vm-{VM}", "stopped")
    for each in (tab, other):
        await expect(each.page.locator("#lost")).to_be_hidden(timeout=30_000)
        assert await each.is_marked()
    assert await tab.page.input_value("[name=q]") == "web"
    assert await other.page.input_value("[name=description]") == "not to be lost"
    await other.page.fill("[name=description]", DESCRIBED)
    await other.page.click("main button[type=submit], main form button.primary")
    await other.page.wait_for_url(f"**/vms/{VM}")

    async def described() -> bool:
        return bool((await api.get(f"/vms/{VM}"))["definition"]["description"] == DESCRIBED)

    await until("the change to be made", described)
