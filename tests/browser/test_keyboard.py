"""Everything is reached, seen and done by the keyboard alone."""

from __future__ import annotations

from playwright.async_api import Locator, expect

from tests.browser.browsing import Api, Tab, until
from tests.browser.conftest import Open

VM = "mail1"
MANY = 120
FOCUSED = """() => {
  const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
  return {
    tag: e.tagName, href: e.getAttribute("href"), name: e.getAttribute("name"), opens: e.dataset.opens ?? null,
    isVisible: box.width > 0 && box.height > 0 && box.right > 0 && box.bottom > 0,
    isMarked: style.outlineStyle !== "none" || style.boxShadow !== "none",
  };
}"""


async def tabbed(tab: Tab, target: Locator) -> list[dict[str, object]]:
    """Presses Tab until `target` has the focus; what had it on the way."""
    way: list[dict[str, object]] = []
    while not await target.evaluate("e => e === document.activeElement"):
        assert len(way) < MANY, f"not reached by {MANY} times Tab: {way}"
        await tab.page.keyboard.press("Tab")
        way.append(await tab.page.evaluate(FOCUSED))
    return way


async def test_the_first_stop_skips_to_the_content(opened: Open) -> None:
    tab = await opened()
    await tab.goto("/vms")
    await tab.page.keyboard.press("Tab")
    skip = tab.page.locator(".skip")
    await expect(skip).to_be_focused()
    await expect(skip).to_be_in_viewport()
    await tab.page.keyboard.press("Enter")
    await expect(tab.page.locator("main")).to_be_focused()
    way = await tabbed(tab, tab.page.locator("[name=q]"))
    assert "/events" not in [stop["href"] for stop in way]


async def test_tab_leads_through_navigation_filters_and_table_and_is_always_seen(opened: Open) -> None:
    tab = await opened()
    await tab.goto("/vms")
    link = tab.page.locator(f"a[href='/vms/{VM}']")
    way = await tabbed(tab, link)
    addresses = [stop["href"] for stop in way]
    navigation = ["/", "/vms", "/datastores", "/networks", "/tasks", "/events", "/settings"]
    assert [each for each in addresses if each in navigation][-len(navigation) :] == navigation
    names = [stop["name"] for stop in way]
    assert names.index("q") < names.index("host") < len(way) - 1
    assert [stop for stop in way if not (stop["isVisible"] and stop["isMarked"])] == []
    await tab.page.keyboard.press("Enter")
    await tab.page.wait_for_url(f"**/vms/{VM}")


async def test_a_dialog_opens_keeps_the_focus_and_gives_it_back(opened: Open) -> None:
    tab = await opened()
    await tab.goto(f"/vms/{VM}")
    opener, dialog = tab.page.locator("[data-opens=stop]").first, tab.page.locator("#stop")
    await tabbed(tab, opener)
    await tab.page.keyboard.press("Enter")
    await expect(dialog).to_be_visible()
    inside = "document.activeElement.closest('dialog')?.id ?? document.activeElement.tagName"
    assert await tab.page.evaluate(inside) == "stop"
    for _ in range(12):  # the browser's own controls come in between; the page behind never does
        await tab.page.keyboard.press("Tab")
        assert await tab.page.evaluate(inside) in ("stop", "BODY")
    await tab.page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(opener).to_be_focused()


async def test_a_dialog_is_sent_by_enter_and_its_action_done(opened: Open, api: Api) -> None:
    tab = await opened()
    await tab.goto(f"/vms/{VM}")
    opener, dialog = tab.page.locator("[data-opens=stop]").first, tab.page.locator("#stop")
    await tabbed(tab, opener)
    await tab.page.keyboard.press("Enter")
    await tabbed(tab, dialog.locator("[name=timeout_s]"))
    await tab.page.keyboard.type("30")
    await tab.page.keyboard.press("Enter")
    await expect(dialog).to_be_hidden()
    await expect(tab.page.locator("#toasts")).to_contain_text(VM)

    async def stopped() -> bool:
        return bool((await api.get(f"/vms/{VM}"))["state"] == "stopped")

    await until("the vm to be stopped", stopped)
    await api.do(f"/vms/{VM}/start")


async def test_the_menu_opens_and_closes_and_gives_the_focus_back(opened: Open) -> None:
    tab = await opened()
    await tab.goto("/vms")
    summary, menu = tab.page.locator(".menu summary"), tab.page.locator(".menu")
    await tabbed(tab, summary)
    await tab.page.keyboard.press("Enter")
    await expect(menu).to_have_attribute("open", "")
    await tabbed(tab, tab.page.locator("form[action='/logout'] button"))
    await tab.page.keyboard.press("Escape")
    await expect(menu).not_to_have_attribute("open", "")
    await expect(summary).to_be_focused()


async def test_a_message_is_announced_and_dismissed(opened: Open) -> None:
    tab = await opened()
    await tab.goto(f"/vms/{VM}")
    await expect(tab.page.locator("#toasts")).to_have_attribute("aria-live", "polite")
    await tab.page.locator("[data-opens=reset]").first.press("Enter")
    await tab.page.locator("#reset button[type=submit]").press("Enter")
    close = tab.page.locator("#toasts [data-dismisses]")
    await expect(tab.page.locator("#toasts")).to_contain_text(VM)
    await close.press("Enter")
    await expect(close).to_have_count(0)
