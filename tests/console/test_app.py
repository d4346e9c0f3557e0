from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.console.conftest import Browser
from tests.console.fake_api import PASSWORD, FakeApi, console_over, filled_mirror
from zugvogel.console.addresses import own_path
from zugvogel.console.mirror import Mirror
from zugvogel.errors import TooManyRequests, Unreachable

Browse = Callable[[Mirror], Browser]


async def test_pages_ask_to_log_in_first_and_lead_back(browse: Browse) -> None:
    browser = browse(filled_mirror())
    asked = await browser.get("/vms?q=web")
    assert asked.status_code == 303
    assert asked.headers["location"] == "/login?next=/vms%3Fq%3Dweb"
    assert (await browser.get("/live/vms")).status_code == 404, "it is a WebSocket"


async def test_a_login_shows_the_cluster(browse: Browse) -> None:
    browser = await browse(filled_mirror()).log_in("viewer")
    page = await browser.get("/")
    assert page.status_code == 200
    assert "birds" in page.text
    assert "viewer" in page.text


async def test_the_session_cookie_is_out_of_reach_of_scripts(browse: Browse) -> None:
    browser = browse(filled_mirror())
    form = {"user": "admin", "password": PASSWORD, "csrftoken": await browser.csrf()}
    cookie = (await browser.http.post("/login", data=form)).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie


@pytest.mark.parametrize("password", ["", "wrong"])
async def test_a_wrong_password_says_so_and_lets_nobody_in(browse: Browse, password: str) -> None:
    browser = browse(filled_mirror())
    answer = await browser.http.post(
        "/login", data={"user": "admin", "password": password, "csrftoken": await browser.csrf()}
    )
    assert answer.status_code == 403
    assert "user or password is wrong" in answer.text
    assert (await browser.get("/")).status_code == 303


async def test_who_fails_too_often_is_told_what_the_api_says(browse: Browse, api: FakeApi) -> None:
    browser = browse(filled_mirror())
    form = {"user": "admin", "password": PASSWORD, "csrftoken": await browser.csrf()}
    api.login_error = TooManyRequests("10 logins from this address failed within a minute", "try again in 40 s")
    answer = await browser.http.post("/login", data=form)
    assert answer.status_code == 429
    assert "try again in 40 s" in answer.text


async def test_a_token_logs_in_as_well(browse: Browse) -> None:
    browser = browse(filled_mirror())
    answer = await browser.http.post("/login", data={"token": "operator-token", "csrftoken": await browser.csrf()})
    assert answer.status_code == 303
    assert (await browser.get("/")).status_code == 200


@pytest.mark.parametrize("path", ["/login", "/logout", "/preferences"])
async def test_forged_requests_are_refused(browse: Browse, path: str) -> None:
    browser = await browse(filled_mirror()).log_in("admin")
    assert (await browser.http.post(path, data={"theme": "dark"})).status_code == 403
    assert (await browser.get("/")).status_code == 200, "nobody was logged out"


async def test_after_logging_out_the_session_is_over_everywhere(browse: Browse, api: FakeApi) -> None:
    browser = await browse(filled_mirror()).log_in("admin")
    await browser.post("/logout")
    assert (await browser.get("/")).status_code == 303
    assert "admin-token" in api.revoked


async def test_a_revoked_session_is_noticed(browse: Browse, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zugvogel.console.sessions.KNOWN_S", 0.0)
    browser = await browse(filled_mirror()).log_in("admin")
    api.revoked.add("admin-token")
    assert (await browser.get("/")).headers["location"].startswith("/login")


async def test_language_and_theme_are_kept_in_the_browser(browse: Browse) -> None:
    browser = await browse(filled_mirror()).log_in("viewer")
    await browser.post("/preferences", language="de", theme="dark")
    page = await browser.get("/")
    assert '<html lang="de" data-theme="dark">' in page.text
    await browser.post("/preferences", language="xx", theme="pink")
    assert '<html lang="de" data-theme="dark">' in (await browser.get("/")).text


async def test_the_language_follows_the_browser(browse: Browse) -> None:
    browser = browse(filled_mirror())
    assert (
        '<html lang="de"' in (await browser.get("/login", **{"accept-language": "de-AT,de;q=0.9,en;q=0.5"})).text
    )
    assert '<html lang="en"' in (await browser.get("/login", **{"accept-language": "fr"})).text


async def test_no_page_is_told_plainly(browse: Browse) -> None:
    browser = await browse(filled_mirror()).log_in("viewer")
    page = await browser.get("/nothing")
    assert page.status_code == 404
    assert "there is no such page" in page.text


async def test_an_api_that_is_away_is_told_plainly(browse: Browse, api: FakeApi) -> None:
    mirror = filled_mirror()
    mirror.take("trouble", {"topic": "", "cause": "no answer in time"})
    page = await (await browse(mirror).log_in("viewer")).get("/")
    assert page.status_code == 200
    assert "no answer in time" in page.text


@pytest.mark.parametrize("target", ["https://elsewhere/", "//elsewhere/", "/\\elsewhere", "javascript:x", ""])
def test_a_login_leads_nowhere_else(target: str) -> None:
    assert own_path(target) == "/"


async def test_every_answer_forbids_foreign_scripts(browse: Browse) -> None:
    page = await browse(filled_mirror()).get("/login")
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "script-src" not in policy
    assert "unsafe-eval" not in policy
    assert page.headers["x-frame-options"] == "DENY"


async def test_over_https_cookies_are_for_https_alone(api: FakeApi) -> None:
    import httpx

    transport = httpx.ASGITransport(console_over(api, filled_mirror(), is_secure=True))
    async with httpx.AsyncClient(transport=transport, base_url="https://console") as http:
        browser = Browser(http)
        form = {"user": "admin", "password": PASSWORD, "csrftoken": await browser.csrf()}
        cookie = (await http.post("/login", data=form)).headers["set-cookie"]
    assert cookie.startswith("__Host-zugvogel=")
    assert "Secure" in cookie


async def test_an_unreachable_api_lets_nobody_in_and_says_why(browse: Browse, api: FakeApi) -> None:
    browser = browse(filled_mirror())
    token = await browser.csrf()
    api.login_error = Unreachable("no host answers")
    answer = await browser.http.post("/login", data={"user": "admin", "password": PASSWORD, "csrftoken": token})
    assert answer.status_code == 503
    assert "no host answers" in answer.text
