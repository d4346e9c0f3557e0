from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from tests.console.conftest import Browser
from tests.console.fake_api import OWN, PASSWORD, FakeApi, console_over, filled_mirror
from zugvogel import __version__
from zugvogel.console.app import Console
from zugvogel.console.mirror import Mirror
from zugvogel.console.page import Look, Page, Variables
from zugvogel.console.security import MAX_BODY_BYTES
from zugvogel.errors import Unreachable

Browse = Callable[[Mirror], Browser]
HEADERS = ("content-security-policy", "x-content-type-options", "x-frame-options", "referrer-policy")


def browser_at(app: Callable[..., Any]) -> Browser:
    """One that sees the answers of a defect, as real ones do."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return Browser(httpx.AsyncClient(transport=transport, base_url="http://console"))


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    async def view(look: Look) -> Variables:
        raise RuntimeError("inner workings at line 7")

    monkeypatch.setattr("zugvogel.console.app.PAGES", (Page("/", "cluster.html", view),))


@pytest.mark.parametrize("path", ["/login", "/", "/nothing", "/health", f"/static/{__version__}/console.css"])
async def test_every_answer_has_the_headers(browse: Browse, path: str) -> None:
    answer = await browse(filled_mirror()).get(path)
    assert all(name in answer.headers for name in HEADERS)


async def test_so_have_refusals_of_forms(browse: Browse) -> None:
    browser = browse(filled_mirror())
    for answer in (
        await browser.http.post("/login", data={"user": "x"}),
        await browser.http.post("/login", content=b"x" * (MAX_BODY_BYTES + 1)),
    ):
        assert answer.status_code in (403, 413)
        assert all(name in answer.headers for name in HEADERS)


async def test_a_defect_is_a_plain_page(api: FakeApi, broken: None) -> None:
    browser = await browser_at(console_over(api, filled_mirror())).log_in("viewer")
    answer = await browser.get("/")
    assert answer.status_code == 500
    assert "the console has a defect" in answer.text
    assert "inner workings" not in answer.text
    assert "Traceback" not in answer.text
    assert all(name in answer.headers for name in HEADERS)


async def test_a_defect_is_raised_on_for_the_servers_log(api: FakeApi, broken: None) -> None:
    browser = await browser_at(console_over(api, filled_mirror())).log_in("viewer")
    transport = httpx.ASGITransport(console_over(api, filled_mirror()))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://console", cookies=browser.http.cookies
    ) as strict:
        with pytest.raises(RuntimeError, match="inner workings"):
            await strict.get("/")


async def test_static_files_are_kept_and_pages_are_not(browse: Browse) -> None:
    browser = browse(filled_mirror())
    assert "immutable" in (await browser.get(f"/static/{__version__}/console.css")).headers["cache-control"]
    assert "immutable" not in (await browser.get(f"/static/{__version__}/none.css")).headers.get(
        "cache-control", ""
    )
    assert (await browser.get("/login")).headers["cache-control"] == "no-store"
    outside = await browser.get(f"/static/{__version__}/..%2f..%2fapp.py")
    assert outside.status_code == 404


async def test_large_forms_are_not_read(browse: Browse) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * MAX_BODY_BYTES

    browser = browse(filled_mirror())
    assert (await browser.http.post("/login", content=b"a" * (MAX_BODY_BYTES + 1))).status_code == 413
    assert (await browser.http.post("/login", content=endless())).status_code == 413
    for length in ("x", "-1", "9" * 40):
        assert (await browser.http.post("/login", headers={"content-length": length})).status_code == 413
    fits = {"csrftoken": await browser.csrf(), "user": "a" * (MAX_BODY_BYTES - 500)}
    assert (await browser.http.post("/login", data=fits)).status_code == 403


async def test_a_page_from_before_a_restart_is_told_to_load_again(api: FakeApi) -> None:
    browser = await browser_at(console_over(api, filled_mirror())).log_in("admin")
    headers = {"x-csrftoken": await browser.csrf(), "hx-request": "true"}
    browser.http._transport = httpx.ASGITransport(console_over(api, filled_mirror()))
    answer = await browser.http.post("/ha/enable", headers=headers)
    assert (answer.status_code, answer.headers["x-zugvogel-refused"]) == (200, "1")
    assert "load it again" in answer.text
    plain = await browser.http.post("/ha/enable", data={"csrftoken": "old"})
    assert plain.status_code == 403
    assert "load it again" in plain.text
    assert api.changes() == []


async def test_with_the_same_secret_open_pages_go_on_after_a_restart(api: FakeApi) -> None:
    def console() -> Callable[..., Any]:
        made = Console("host1", filled_mirror(), api.of, api.of(OWN), is_secure=False, secret="kept")
        return made.app()  # type: ignore[no-any-return]

    api.answers[("POST", "/ha/enable")] = {"done": True}
    browser = await browser_at(console()).log_in("admin")
    token = await browser.csrf()
    browser.http._transport = httpx.ASGITransport(console())
    await browser.http.post("/ha/enable", headers={"x-csrftoken": token, "hx-request": "true"})
    assert len(api.changes()) == 1


async def test_no_neighbour_can_plant_what_keeps_forged_forms_out(api: FakeApi) -> None:
    transport = httpx.ASGITransport(console_over(api, filled_mirror(), is_secure=True))
    async with httpx.AsyncClient(transport=transport, base_url="https://console") as http:
        cookie = (await http.get("/login")).headers["set-cookie"]
    assert cookie.startswith("__Host-zugvogel-csrf=")
    assert "Secure" in cookie
    assert "Path=/" in cookie
    assert "Domain" not in cookie


async def test_the_token_of_a_form_counts_only_with_its_cookie(api: FakeApi) -> None:
    app = console_over(api, filled_mirror())
    token = await browser_at(app).csrf()
    victim = await browser_at(app).log_in("admin")
    assert (await victim.http.post("/ha/enable", headers={"x-csrftoken": token})).status_code == 403


async def test_logging_out_works_while_the_api_is_away(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zugvogel.console.sessions.KNOWN_S", 0.0)
    browser = await browser_at(console_over(api, filled_mirror())).log_in("admin")

    def away(*_: object) -> None:
        raise Unreachable("no answer")

    monkeypatch.setattr(api, "_session", away)
    answer = await browser.post("/logout")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert "zugvogel" not in browser.http.cookies


@pytest.mark.parametrize("path", ["/logout", "/ha/enable"])
async def test_other_methods_are_refused_plainly(browse: Browse, path: str) -> None:
    answer = await (await browse(filled_mirror()).log_in("admin")).get(path)
    assert answer.status_code == 405
    assert "<h1>" in answer.text


async def test_addresses_with_a_zone_can_log_in(api: FakeApi) -> None:
    transport = httpx.ASGITransport(console_over(api, filled_mirror()), client=("fe80::1%eth0", 5))
    async with httpx.AsyncClient(transport=transport, base_url="http://console") as http:
        await Browser(http).log_in("viewer")
    assert [json["client"] for _, m, p, _, json in api.asked if (m, p) == ("POST", "/session")] == ["fe80::1"]


async def test_spaces_of_a_password_count(browse: Browse, api: FakeApi) -> None:
    browser = browse(filled_mirror())
    form = {"user": " viewer ", "password": f" {PASSWORD}", "csrftoken": await browser.csrf()}
    assert (await browser.http.post("/login", data=form)).status_code == 403
    assert api.asked[-1][-1]["user"] == "viewer"


@pytest.mark.parametrize(
    "target", ["//elsewhere", "https://elsewhere", "/\\elsewhere", "http://[", "/\t/x", "/\r\nx:y"]
)
async def test_a_login_leads_to_no_other_place(browse: Browse, target: str) -> None:
    browser = browse(filled_mirror())
    page = await browser.http.get("/login", params={"next": target})
    found = re.search(r'action="/login\?next=([^"]*)"', page.text)
    assert found
    assert found[1] == "/"
    form = {"user": "viewer", "password": PASSWORD, "csrftoken": await browser.csrf()}
    answer = await browser.http.post("/login", params={"next": target}, data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


async def test_what_a_browser_sends_is_shown_as_text(browse: Browse, caplog: pytest.LogCaptureFixture) -> None:
    browser = await browse(filled_mirror()).log_in("viewer")
    with caplog.at_level(logging.ERROR):
        for path in ("/events", "/tasks", "/vms", "/settings", "/"):
            query = dict.fromkeys(("q", "sort", "page", "state", "host", "kind"), "\"'><b onclick=x>\x1e\x1f")
            page = await browser.http.get(path, params=query)
            assert page.status_code == 200
            assert "<b onclick" not in page.text
            assert not re.search(r'value="[^"]*"\'>', page.text)
