"""What holds for every page: whole, accessible, narrow enough for a telephone, its own, in both languages."""

from __future__ import annotations

from functools import cache

import pytest
import pytest_asyncio

from tests.browser.browsing import Tab
from tests.browser.conftest import Open
from tests.browser.visiting import EXAMPLES, Cast, Visit, judge, texts_of, visited
from zugvogel.console.i18n import LANGUAGES, catalog
from zugvogel.console.pages import PAGES

Visits = dict[str, Visit]
NARROW_PX = 390
SPOILED = """() => {
  const add = (parent, tag, style, text) => {
    const made = parent.appendChild(document.createElement(tag));
    made.style.cssText = style;
    made.textContent = text;
    return made;
  };
  const main = document.querySelector("main");
  add(main, "p", "color: #888; background: #999", "hardly to be read");
  add(main, "button", "width: 30px; height: 30px", "");
  add(main, "div", "width: 900px; height: 1px", "");
  const dialog = add(main, "dialog", "", "");
  dialog.id = "spoiled";
  add(dialog, "button", "width: 30px; height: 30px", "");
  console.error("spoiled");
  fetch("http://elsewhere.test/picture").catch(() => null);
}"""
"""Breaks every rule at once."""


@pytest.fixture(scope="module")
def visits() -> Visits:
    """Each page is looked at once, by whichever test comes first."""
    return {}


@pytest_asyncio.fixture(loop_scope="session")
async def visit(key: str, visits: Visits, cast: Cast, readers: dict[str, Tab]) -> Visit:
    if key not in visits:
        visits[key] = await visited(readers["en"], cast.address(key))
    return visits[key]


def test_every_page_has_an_example() -> None:
    assert {key.partition("?")[0] for key in EXAMPLES} == {page.path for page in PAGES}


@pytest.mark.parametrize("key", EXAMPLES)
class TestEachPage:
    async def test_is_there_without_an_error_in_the_browser(self, visit: Visit) -> None:
        assert visit.status == 200
        assert visit.told == []

    async def test_asks_nobody_but_this_console(self, visit: Visit) -> None:
        assert visit.foreign == []

    async def test_fits_a_telephone(self, visit: Visit) -> None:
        assert (visit.width, visit.wide_for) == (NARROW_PX, [])

    async def test_has_no_serious_finding_of_axe(self, visit: Visit) -> None:
        assert visit.findings == []

    async def test_is_german_where_there_is_a_translation(
        self, key: str, cast: Cast, readers: dict[str, Tab]
    ) -> None:
        tab = readers["de"]
        shown = await texts_of(tab, cast.address(key))
        assert await tab.page.get_attribute("html", "lang") == "de"
        assert "Ereignisse" in shown
        assert sorted(set(shown) & untranslated("de")) == []

    async def test_is_english_for_who_reads_english(self, visit: Visit) -> None:
        assert visit.language == "en"


async def test_what_is_wrong_with_a_page_is_found(opened: Open) -> None:
    tab = await opened()
    found = await visited(tab, "/tasks")
    assert (found.findings, found.wide_for, found.told, found.foreign) == ([], [], [], [])
    await tab.page.evaluate(SPOILED)
    await judge(tab, found)
    rules = {finding.split(": ")[1] for finding in found.findings}
    ways = {finding.split(": ")[0] for finding in found.findings}
    assert rules == {"button-name", "color-contrast"}
    assert ways == {"light", "dark", "dialog spoiled, dark", "narrow"}
    assert found.width > NARROW_PX
    assert len(found.wide_for) == 1
    assert any("spoiled" in told for told in found.told)
    assert any("elsewhere.test" in told for told in found.told)  # the browser refuses it, and says so


@cache
def untranslated(language: str) -> frozenset[str]:
    """Messages that say something else in that language, and are no word of it."""
    known = {text for told in catalog(language).values() for text in ([told] if isinstance(told, str) else told)}
    return frozenset(message for message in catalog(language) if message not in known and "%(" not in message)


async def test_who_finds_no_language_of_theirs_chooses_one_and_it_stays(opened: Open) -> None:
    tab: Tab = await opened(locale="fr-FR")
    await tab.goto("/vms")
    for code, name in (("de", "VMs"), ("en", "VMs")):
        assert code in LANGUAGES
        await tab.page.click(".menu summary")
        await tab.page.click(f"button[name=language][value={code}]")
        await tab.page.wait_for_load_state()
        assert await tab.page.get_attribute("html", "lang") == code
        await tab.goto("/events")
        assert await tab.page.get_attribute("html", "lang") == code
        await tab.goto("/vms")
        assert name in await tab.text("h1")


async def test_appearance_is_chosen_against_the_system(opened: Open) -> None:
    tab: Tab = await opened(color_scheme="light")
    await tab.goto("/vms")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = await tab.page.evaluate(colour)
    await tab.page.click(".menu summary")
    await tab.page.click("button[name=theme][value=dark]")
    await tab.page.wait_for_load_state()
    dark = await tab.page.evaluate(colour)
    await tab.page.emulate_media(color_scheme="dark")
    assert dark == await tab.page.evaluate(colour) != light
