"""A look at each page of the console, in every way it is shown, for the tests to judge."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]

from tests.browser.browsing import NARROW, WIDE, Tab

EXAMPLES = {
    "/": "/",
    "/?fail=host1": "/?fail={host}",
    "/baseline": "/baseline",
    "/hosts/{name}": "/hosts/{host}",
    "/datastores": "/datastores",
    "/datastores/{name}": "/datastores/san1",
    "/networks": "/networks",
    "/users": "/users",
    "/password": "/password",
    "/vms": "/vms",
    "/vms/_new": "/vms/_new",
    "/vms/{name}": "/vms/{vm}",
    "/vms/{name}/log": "/vms/{vm}/log",
    "/vms/{name}/change": "/vms/{vm}/change",
    "/vms/{name}/migrate": "/vms/{vm}/migrate",
    "/vms/{name}/console": "/vms/{vm}/console",
    "/vms/{name}/display": "/vms/{vm}/display",
    "/tasks": "/tasks",
    "/tasks/{id}": "/tasks/{task}",
    "/events": "/events",
    "/settings": "/settings",
    "/survival": "/survival",
}
"""Path of a page -> an address of it. What stands in braces is filled in by `Cast`. Further looks at a page have
a key of their own, with a query."""
GRAVE = ("serious", "critical")
AXE = Axe()
CONTRAST = {"resultTypes": ["violations"], "runOnly": {"type": "rule", "values": ["color-contrast"]}}
EVERYTHING = {"resultTypes": ["violations"]}


@dataclass(frozen=True, slots=True)
class Cast:
    """What the pages are about. `task`: a live migration of `vm` that is over."""

    host: str
    vm: str
    task: str

    def address(self, key: str) -> str:
        return EXAMPLES[key].format(host=self.host, vm=self.vm, task=self.task)


@dataclass(slots=True)
class Visit:
    """`findings`: serious ones of axe, by the way the page was shown. `width`: of the page at 390 px."""

    status: int
    language: str
    told: list[str]
    foreign: list[str] = field(default_factory=list)
    width: int = 0
    wide_for: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    dialogs: int = 0


async def visited(tab: Tab, address: str) -> Visit:
    """In light, dark and at 390 px, with every dialog of it opened."""
    await tab.page.set_viewport_size(WIDE)
    await tab.page.emulate_media(color_scheme="light")
    tab.told, tab.asked = [], []
    response = await tab.goto(address)
    found = Visit(response.status, str(await tab.page.get_attribute("html", "lang")), tab.told)
    await judge(tab, found)
    return found


async def judge(tab: Tab, found: Visit) -> None:
    """Adds to `found` what is to be said of the page as it is now."""
    await _judge(tab, found, "light", EVERYTHING)
    await tab.page.emulate_media(color_scheme="dark")
    await _judge(tab, found, "dark", CONTRAST)
    await _open_dialogs(tab, found)
    await tab.page.set_viewport_size(NARROW)
    await tab.page.emulate_media(color_scheme="light")
    await _judge(tab, found, "narrow", EVERYTHING)
    found.width = await tab.page.evaluate("document.documentElement.scrollWidth")
    found.wide_for = await tab.page.evaluate(WIDER)
    found.foreign = tab.foreign


async def _judge(tab: Tab, found: Visit, how: str, options: dict[str, Any], context: str = "") -> None:
    """As `Axe.run`, which would send its whole script each time. `context`: a selector; empty: the whole page."""
    if not await tab.page.evaluate("'axe' in window"):
        await tab.page.evaluate(AXE.axe_script)
    asked = "([context, options]) => axe.run(context || document, options)"
    for violation in (await tab.page.evaluate(asked, [context, options]))["violations"]:
        if violation["impact"] in GRAVE:
            for node in violation["nodes"]:
                why = (node["any"] + node["all"] + node["none"])[0]["message"]
                found.findings.append(f"{how}: {violation['id']}: {' '.join(node['target'])}: {why}")


async def _open_dialogs(tab: Tab, found: Visit) -> None:
    for dialog in await tab.page.evaluate("[...document.querySelectorAll('dialog[id]')].map(d => d.id)"):
        found.dialogs += 1
        await tab.page.evaluate("id => document.getElementById(id).showModal()", dialog)
        await _judge(tab, found, f"dialog {dialog}, dark", EVERYTHING, f"#{dialog}")
        await tab.page.evaluate("id => document.getElementById(id).close()", dialog)


WIDER = """() => {
  const scrolls = (e) => e && e !== document.body
    && (getComputedStyle(e).overflowX !== "visible" || scrolls(e.parentElement));
  return [...document.querySelectorAll("body *")]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !scrolls(e.parentElement))
    .map(e => `${e.tagName}.${e.className} ${e.textContent.slice(0, 40)}`).slice(0, 5);
}"""

TEXTS = """() => {
  const found = [];
  const walker = document.createTreeWalker(document, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode())
    if (!node.parentElement.closest("script, style, [translate=no], [id^=evidence-]"))
      found.push(node.data.replace(/\\s+/g, " ").trim());
  for (const element of document.querySelectorAll("*"))
    for (const name of ["aria-label", "title", "placeholder", "alt"])
      if (element.hasAttribute(name)) found.push(element.getAttribute(name).trim());
  return found.filter(text => text);
}"""


async def texts_of(tab: Tab, address: str) -> list[str]:
    """Every text and every label of the page, but for the API's own words: evidence, and what is marked so."""
    await tab.goto(address)
    found: list[str] = await tab.page.evaluate(TEXTS)
    return found
