"""Filters while the cluster changes: the address, the fields and the list tell the same, whenever one looks."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.browser.browsing import Api, Tab, until
from tests.browser.conftest import Open

ROUNDS = 30
SEED = 7
WORDS = ("web", "web1", "db", "mail3", "desk", "san1", "nothing-like-it", "")
ROWS = "[...document.querySelectorAll('#live_rows tr[id]')].map(row => row.id)"


@asynccontextmanager
async def much_going_on(api: Api) -> AsyncIterator[None]:
    """Vms move as fast as they can."""

    async def move(names: list[str]) -> None:
        for name in names * 1000:
            with suppress(AssertionError):  # a move that is refused is none
                await api.do(f"/vms/{name}/migrate")

    names = sorted(v["name"] for v in await api.get("/vms"))
    movers = [asyncio.create_task(move(names[n::4])) for n in range(4)]
    try:
        yield
    finally:
        for mover in movers:
            mover.cancel()
        await asyncio.gather(*movers, return_exceptions=True)


async def state_of(tab: Tab) -> dict[str, Any]:
    """What the address says, what the fields say, and the rows."""
    query = {name: values[0] for name, values in parse_qs(urlsplit(tab.page.url).query).items()}
    return {
        "address": (query.get("q", ""), query.get("host", "")),
        "fields": (await tab.page.input_value("[name=q]"), await tab.page.input_value("[name=host]")),
        "rows": await tab.page.evaluate(ROWS),
    }


async def rows_of(tab: Tab) -> list[str]:
    """As a page made anew for the same address has them."""
    answer = await tab.page.context.request.get(tab.page.url)
    return re.findall(r'<tr id="(vm-[^"]+)"', await answer.text())


async def test_address_fields_and_list_agree_in_every_round(opened: Open, api: Api) -> None:
    rng = random.Random(SEED)
    tab = await opened()
    await tab.goto("/vms")
    await tab.marked()
    hosts = ["", *(host["name"] for host in await api.get("/hosts"))]
    seen = set()
    async with much_going_on(api):
        for turn in range(ROUNDS):
            wanted = (rng.choice(WORDS), rng.choice(hosts) if turn % 3 == 0 else "")
            await tab.page.select_option("[name=host]", wanted[1])
            await tab.page.fill("[name=q]", wanted[0][:1])
            if rng.random() < 0.5:
                await asyncio.sleep(rng.uniform(0, 0.3))  # as people type: sometimes a list arrives in between
            await tab.page.fill("[name=q]", wanted[0])

            async def agree(wanted: tuple[str, str] = wanted) -> bool:
                found = await state_of(tab)
                whole = await rows_of(tab)
                return found == {"address": wanted, "fields": wanted, "rows": whole}

            await until(f"{wanted} to be shown (round {turn})", agree)
            seen.add(len((await state_of(tab))["rows"]))
    assert len(seen) > 2
    assert await tab.is_marked()
    assert tab.told == []


async def test_the_way_back_leads_through_what_was_chosen(opened: Open) -> None:
    tab = await opened()
    await tab.goto("/vms")
    await tab.page.fill("[name=q]", "web1")
    await tab.page.wait_for_url("**/vms?q=web1")
    await tab.page.select_option("[name=datastore]", "san2")
    await tab.page.wait_for_url("**/vms?q=web1&datastore=san2")
    await tab.page.go_back()
    await tab.page.wait_for_url("**/vms?q=web1")

    async def as_it_was() -> bool:
        found = await state_of(tab)
        return bool(found["fields"] == ("web1", "") and found["rows"] == ["vm-web1"])

    await until("the former list", as_it_was)
    assert await tab.page.input_value("[name=datastore]") == ""


async def test_a_filter_works_without_scripts(opened: Open) -> None:
    tab = await opened(java_script_enabled=False)
    await tab.goto("/vms", is_live=False)
    await tab.page.fill("[name=q]", "web1")
    await tab.page.click("form[data-filters] button")
    assert parse_qs(urlsplit(tab.page.url).query)["q"] == ["web1"]
    assert await tab.page.locator("#live_rows tr[id]").count() == 1
