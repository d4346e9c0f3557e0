"""Logging in and out."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from playwright.async_api import expect

from tests.browser.browsing import Api, Tab, log_in
from tests.browser.conftest import PASSWORD, TOKEN, Open, Sim


def path_of(tab: Tab) -> str:
    parts = urlsplit(tab.page.url)
    return parts.path + (f"?{parts.query}" if parts.query else "")


async def test_a_right_password_leads_to_the_page_that_was_wanted(opened: Open, sim: Sim) -> None:
    tab = await opened("")
    await tab.goto("/vms?host=host2&sort=memory", is_live=False)
    assert path_of(tab).startswith("/login?next=")
    await log_in(tab, sim.user, sim.password)
    await tab.is_followed()
    assert path_of(tab) == "/vms?host=host2&sort=memory"
    assert tab.told == []


async def test_a_wrong_password_is_refused_with_the_cause_and_nothing_is_shown(opened: Open, sim: Sim) -> None:
    tab = await opened("")
    await tab.goto("/login", is_live=False)
    await log_in(tab, sim.user, "wrong-password")
    await expect(tab.page.get_by_role("alert")).to_contain_text("password")
    assert await tab.page.input_value("[name=user]") == sim.user
    assert await tab.page.input_value("[name=password]") == ""
    await tab.goto("/vms", is_live=False)
    assert path_of(tab) == "/login?next=/vms"


async def test_a_token_of_the_api_logs_in_too(opened: Open) -> None:
    tab = await opened("")
    await tab.goto("/login?next=/events", is_live=False)
    await tab.page.click("main summary")
    await tab.page.fill("[name=token]", TOKEN)
    await tab.page.click("main button.primary")
    await tab.is_followed()
    assert path_of(tab) == "/events"
    tab = await opened("")
    await tab.goto("/login", is_live=False)
    await tab.page.click("main summary")
    await tab.page.fill("[name=token]", "test.wrong")
    await tab.page.click("main button.primary")
    await expect(tab.page.get_by_role("alert")).to_contain_text("token")


async def test_nobody_is_led_to_another_console(opened: Open, sim: Sim) -> None:
    for target in ("//elsewhere.test/", "https://elsewhere.test/", "/\\elsewhere.test/"):
        tab = await opened("")
        await tab.goto(f"/login?next={target}", is_live=False)
        await log_in(tab, sim.user, sim.password)
        await tab.is_followed()
        assert path_of(tab) == "/"
        assert tab.foreign == []


async def test_who_logs_out_in_one_tab_is_out_in_all(opened: Open, api: Api, sim: Sim) -> None:
    await api.ask("POST", "/users", {"name": "leaver", "access": "viewer", "password": PASSWORD})
    tab = await opened("")
    await tab.goto("/login", is_live=False)
    await log_in(tab, "leaver", PASSWORD)
    await tab.is_followed()
    (session,) = [c["value"] for c in await tab.page.context.cookies() if c["name"] == "zugvogel"]
    others = [await opened(beside=tab) for _ in range(2)]
    await asyncio.gather(*(other.goto(path) for other, path in zip(others, ("/vms", "/events"), strict=True)))
    await tab.page.click(".menu summary")
    await tab.page.click("form[action='/logout'] button")
    await tab.page.wait_for_url("**/login")
    for other, path in zip(others, ("%2Fvms", "%2Fevents"), strict=True):
        await other.page.wait_for_url(f"**/login?next={path}")
    # What the browser held is of no use any more.
    await tab.page.context.add_cookies([{"name": "zugvogel", "value": session, "url": sim.url}])
    await tab.goto("/vms", is_live=False)
    assert path_of(tab) == "/login?next=/vms"
