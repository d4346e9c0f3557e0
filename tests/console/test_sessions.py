from __future__ import annotations

import pytest
from starlette.responses import Response

from tests.console.fake_api import OWN, PASSWORD, FakeApi
from zugvogel.console import sessions
from zugvogel.console.sessions import Sessions
from zugvogel.domain.cluster import Access
from zugvogel.errors import Forbidden, TooManyRequests, Unreachable

ADDRESS = "198.51.100.7"


@pytest.fixture
def held(api: FakeApi) -> Sessions:
    return Sessions(api.of, api.of(OWN), is_secure=True)


async def test_a_login_is_asked_with_the_consoles_token_for_the_browsers_address(
    held: Sessions, api: FakeApi
) -> None:
    person = await held.log_in(ADDRESS, user="operator", password=PASSWORD)
    assert (person.user, person.access, person.token) == ("operator", Access.OPERATOR, "operator-token")
    token, method, path, _, body = api.asked[0]
    assert (token, method, path) == (OWN, "POST", "/session")
    assert body == {"user": "operator", "password": PASSWORD, "client": ADDRESS}


async def test_failed_passwords_are_counted_by_the_api_alone(held: Sessions) -> None:
    for _ in range(30):
        with pytest.raises(Forbidden):
            await held.log_in(ADDRESS, user="admin", password="guess")
    assert (await held.log_in(ADDRESS, user="admin", password=PASSWORD)).user == "admin"


async def test_wrong_tokens_are_counted_by_address(held: Sessions) -> None:
    for _ in range(10):
        with pytest.raises(Forbidden):
            await held.log_in(ADDRESS, token="guess")
    with pytest.raises(TooManyRequests):
        await held.log_in(ADDRESS, token="admin-token")
    assert (await held.log_in("198.51.100.8", token="admin-token")).access is Access.ADMIN


async def test_an_owner_is_remembered_for_a_while(
    held: Sessions, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await held.whose("admin-token") is not None
    api.revoked.add("admin-token")
    assert await held.whose("admin-token") is not None
    assert len(api.asked) == 1
    monkeypatch.setattr(sessions, "KNOWN_S", 0.0)
    assert await held.whose("admin-token") is None


async def test_an_owner_can_be_asked_for_anew(held: Sessions, api: FakeApi) -> None:
    await held.whose("admin-token")
    api.revoked.add("admin-token")
    assert await held.whose("admin-token", is_asked_anew=True) is None
    assert await held.whose("admin-token") is None


async def test_what_is_forgotten_is_asked_for_again(held: Sessions, api: FakeApi) -> None:
    await held.whose("admin-token")
    held.forget("admin-token")
    await held.whose("admin-token")
    assert len(api.asked) == 2


@pytest.mark.parametrize("error", [Forbidden("no"), TooManyRequests("too many wrong tokens")])
async def test_a_token_that_is_not_let_in_is_nobodys(
    held: Sessions, api: FakeApi, error: Forbidden, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(api, "_session", refuse)
    assert await held.whose("some-token") is None


async def test_an_api_that_is_away_says_nothing_about_whose_it_is(
    held: Sessions, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise Unreachable("no answer")

    monkeypatch.setattr(api, "_session", away)
    with pytest.raises(Unreachable):
        await held.whose("admin-token")


async def test_the_cookie_is_for_https_and_this_console_alone(held: Sessions) -> None:
    response = Response()
    held.keep(response, "secret")
    cookie = response.headers["set-cookie"]
    assert cookie.startswith("__Host-zugvogel=secret;")
    assert all(part in cookie for part in ("HttpOnly", "Secure", "Path=/", "SameSite=lax"))
