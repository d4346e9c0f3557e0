"""Who may what: by role, and only from the console's own pages."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import expect

from tests.browser.browsing import Api, Tab
from tests.browser.conftest import Open, Sim
from tests.browser.visiting import Cast
from zugvogel.console.pages import ACTIONS, PAGES
from zugvogel.domain.cluster import Access

VM = "db1"
CHANGES = re.compile("hx-post|data-opens")
OWN = {"/password"}
"""Pages where everybody may change something: their own."""
POSTS = """async ({path, hasToken}) => {
  const headers = {"content-type": "application/x-www-form-urlencoded"};
  if (hasToken) Object.assign(headers, JSON.parse(document.body.getAttribute("hx-headers")));
  const answer = await fetch(path, {method: "POST", headers, redirect: "manual"});
  return [answer.status, answer.type];
}"""
ALLOWED = [0, "opaqueredirect"]


async def posted(tab: Tab, path: str, *, has_token: bool = True) -> Any:
    """Status and kind of the answer to a form's POST without JavaScript's marks."""
    return await tab.page.evaluate(POSTS, {"path": path, "hasToken": has_token})


def filled(path: str) -> str:
    return re.sub(r"\{[^}]+\}", VM, path)


async def runs(api: Api) -> bool:
    return bool((await api.get(f"/vms/{VM}"))["state"] == "running")


async def test_a_viewer_gets_pages_without_actions(opened: Open, cast: Cast, sim: Sim) -> None:
    tab = await opened("viewer")
    offered, statuses = {}, {}
    for page in PAGES:
        if page.path not in OWN:
            answer = await tab.page.context.request.get(sim.url + cast.address(page.path))
            statuses[page.path] = answer.status
            offered[page.path] = CHANGES.findall(await answer.text())
    assert statuses == {path: 200 if needs(path) is Access.VIEWER else 403 for path in statuses}
    assert [path for path, found in offered.items() if found] == []
    tab = await opened()
    answer = await tab.page.context.request.get(f"{sim.url}/vms/{VM}")
    assert "data-opens" in CHANGES.findall(await answer.text())


def needs(path: str) -> Access:
    return next(page.needs for page in PAGES if page.path == path)


async def test_each_role_is_offered_what_it_may(opened: Open) -> None:
    offered = {}
    for role in ("viewer", "operator", "admin"):
        tab = await opened(role)
        await tab.goto(f"/vms/{VM}")
        stops = await tab.page.locator("[data-opens=stop]").count()
        users = await tab.page.locator("a[href='/users']").count()
        offered[role] = (stops, users)
    assert offered == {"viewer": (0, 0), "operator": (1, 0), "admin": (1, 1)}


async def test_an_operator_acts(opened: Open, api: Api) -> None:
    tab = await opened("operator")
    await tab.goto(f"/vms/{VM}")
    await tab.page.click("[data-opens=kill]")
    await tab.page.click("#kill button[type=submit]")
    await expect(tab.page.locator("#toasts")).to_contain_text(VM)
    await tab.shows("#live_head", "stopped")
    await api.do(f"/vms/{VM}/start")


@pytest.mark.parametrize(
    ("role", "lacks"), [("viewer", (Access.OPERATOR, Access.ADMIN)), ("operator", (Access.ADMIN,))]
)
async def test_what_a_role_may_not_is_refused_however_it_is_asked(
    opened: Open, api: Api, role: str, lacks: tuple[Access, ...]
) -> None:
    tab = await opened(role)
    await tab.goto("/vms")
    refused = [action.path for action in ACTIONS if action.needs in lacks]
    assert len(refused) > 5
    answers = {path: (await posted(tab, filled(path)))[0] for path in refused}
    assert answers == dict.fromkeys(refused, 403)
    assert await runs(api)


async def test_a_refusal_is_told_in_words(opened: Open) -> None:
    tab = await opened("viewer")
    response = await tab.goto(f"/vms/{VM}/change", is_live=False)
    assert response.status == 403
    assert "role" in await tab.text("main")


# from elsewhere -----------------------------------------------------------------------------------


async def test_a_cookie_alone_posts_nothing(opened: Open, api: Api, sim: Sim) -> None:
    tab = await opened()
    await tab.goto(f"/vms/{VM}")
    for action in ACTIONS:
        assert (await posted(tab, filled(action.path), has_token=False))[0] == 403, action.path
    answer = await tab.page.context.request.post(f"{sim.url}/vms/{VM}/kill", form={"csrftoken": "guessed"})
    assert answer.status == 403
    assert await runs(api)
    assert await posted(tab, f"/vms/{VM}/kill") == ALLOWED  # with the page's token it is done
    await tab.shows("#live_head", "stopped")
    await api.do(f"/vms/{VM}/start")


@pytest.mark.parametrize("origin", ["http://elsewhere.test", "http://127.0.0.1:9"])
async def test_a_page_of_another_origin_cannot_act(opened: Open, api: Api, sim: Sim, origin: str) -> None:
    """One of another site, and one of the same site, to which a browser sends the cookie."""
    tab = await opened()
    await tab.goto(f"/vms/{VM}")
    live = sim.url.replace("http", "ws")
    forms = f"<form method=post action='{sim.url}/vms/{VM}/kill'><button>go</button></form>"
    evil = await opened(beside=tab)
    await evil.page.route(f"{origin}/**", lambda route: route.fulfill(body=forms, content_type="text/html"))
    await evil.page.goto(f"{origin}/page")
    closed = await evil.page.evaluate(
        """url => new Promise(done => {
          const socket = new WebSocket(url);
          socket.onmessage = (event) => done("told " + event.data.slice(0, 40));
          socket.onclose = () => done("closed");
        })""",
        f"{live}/live/vms",
    )
    assert closed == "closed"
    read = "url => fetch(url, {credentials: 'include'}).then(a => a.text(), () => 'unreadable')"
    assert await evil.page.evaluate(read, f"{sim.url}/vms") == "unreadable"
    sent = "url => fetch(url, {method: 'POST', mode: 'no-cors', credentials: 'include'}).then(() => 1, () => 1)"
    await evil.page.evaluate(sent, f"{sim.url}/vms/{VM}/kill")
    async with evil.page.expect_navigation() as navigation:
        await evil.page.click("button")
    response = await navigation.value
    assert response is not None
    assert response.status == 403 or "/login" in evil.page.url
    assert await runs(api)
    assert await tab.page.locator("[data-opens=kill]").count() == 1  # the person is still logged in


async def test_no_page_is_shown_inside_of_another(opened: Open, sim: Sim) -> None:
    tab = await opened()
    origin = "http://127.0.0.1:9"
    frame = f"<iframe src='{sim.url}/vms'></iframe>"
    await tab.page.route(f"{origin}/**", lambda route: route.fulfill(body=frame, content_type="text/html"))
    await tab.page.goto(f"{origin}/page")
    shown = tab.page.frames[-1]
    await shown.wait_for_load_state()
    assert await shown.locator("#live_rows").count() == 0
