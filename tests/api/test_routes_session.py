from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.api.conftest import as_backend, bearer
from tests.api.fake_backend import AT, FakeBackend
from zugvogel.api.app import create_app
from zugvogel.domain.cluster import Access
from zugvogel.domain.requests import NewUser

PASSWORD = "correct horse"


@pytest.fixture
async def backend() -> FakeBackend:
    found = FakeBackend()
    await found.new_user(NewUser(name="ada", access=Access.OPERATOR, password=PASSWORD))
    return found


@pytest.fixture
async def http(backend: FakeBackend) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(as_backend(backend)), client=("192.0.2.7", 5))
    async with httpx.AsyncClient(transport=transport, base_url="https://api/api/v1") as client:
        yield client


async def log_in(http: httpx.AsyncClient, **more: str) -> httpx.Response:
    return await http.post("/session", json={"user": "ada", "password": PASSWORD} | more)


async def held(http: httpx.AsyncClient) -> dict[str, str]:
    return {"authorization": f"Bearer {(await log_in(http)).json()['token']}"}


async def test_a_login_answers_a_bearer(http: httpx.AsyncClient) -> None:
    answer = await log_in(http)
    assert answer.status_code == 201
    assert answer.json() == {"token": "s.ada-1", "user": "ada", "access": "operator", "expires_at": AT}
    headers = {"authorization": "Bearer s.ada-1"}
    assert (await http.post("/vms/web1/reset", headers=headers)).status_code == 200
    assert (await http.get("/users", headers=headers)).status_code == 403


async def test_who_am_i(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    shown = [
        (await http.get("/session", headers=headers)).json()
        for headers in (
            await held(http), bearer("viewer"), {"authorization": f"Bearer {backend.console_token()}"}
        )
    ]  # fmt: skip
    assert shown == [
        {"user": "ada", "access": "operator", "kind": "user", "expires_at": AT},
        {"user": "viewer-token", "access": "viewer", "kind": "token", "expires_at": None},
        {"user": "console", "access": "viewer", "kind": "service", "expires_at": None},
    ]
    assert (await http.get("/session")).status_code == 403


async def test_logging_out(http: httpx.AsyncClient) -> None:
    headers = await held(http)
    assert (await http.delete("/session", headers=headers)).status_code == 200
    assert (await http.get("/session", headers=headers)).status_code == 403
    refused = await http.delete("/session", headers=bearer("admin"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "refused")


async def test_the_eleventh_failed_login_in_a_minute_is_refused(
    http: httpx.AsyncClient, backend: FakeBackend
) -> None:
    answers = [await log_in(http, password="wrong") for _ in range(11)]
    assert [answer.status_code for answer in answers] == [403] * 10 + [429]
    assert answers[-1].json()["error"]["code"] == "too-many-requests"
    assert answers[-1].json()["error"]["next_step"].startswith("try again in ")
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert (await log_in(http)).status_code == 429, "the right one has to wait too"
    assert len(backend.login_clients) == 10
    assert (await http.get("/hosts", headers=bearer("viewer"))).status_code == 200


async def test_a_header_does_not_make_it_another_address(http: httpx.AsyncClient) -> None:
    for number in range(10):
        body = {"user": f"user{number}", "password": "wrong"}
        headers = {"x-forwarded-for": f"192.0.2.{number}", "forwarded": f"for=192.0.2.{number}"}
        assert (await http.post("/session", json=body, headers=headers)).status_code == 403
    assert (await log_in(http)).status_code == 429


async def test_the_console_tells_whose_browser_it_is(http: httpx.AsyncClient, backend: FakeBackend) -> None:
    console = {"authorization": f"Bearer {backend.console_token()}"}
    for number in range(12):
        body = {"user": f"user{number}", "password": "wrong", "client": f"198.51.100.{number}"}
        assert (await http.post("/session", json=body, headers=console)).status_code == 403
    assert backend.login_clients == [f"198.51.100.{number}" for number in range(12)]
    assert (await log_in(http)).status_code == 201


@pytest.mark.parametrize("role", ["viewer", "admin", ""])
async def test_nobody_else_tells_another_address(http: httpx.AsyncClient, backend: FakeBackend, role: str) -> None:
    body = {"user": "ada", "password": PASSWORD, "client": "198.51.100.1"}
    refused = await http.post("/session", json=body, headers=bearer(role) if role else {})
    assert refused.status_code == 403
    assert backend.login_clients == []


async def test_an_old_session_does_not_stand_in_the_way_of_a_new_one(http: httpx.AsyncClient) -> None:
    body = {"user": "ada", "password": PASSWORD}
    answer = await http.post("/session", json=body, headers={"authorization": "Bearer s.old"})
    assert answer.status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        b'{"user": "ada"}',
        b'{"user": "ada", "password": 7}',
        b'{"user": "ada", "password": "correct horse", "surprise": 1}',
        b'{"user": "ada", "password": "correct horse\\ud800"}',
        b'{"user": "ada", "password": "correct horse", "client": "<script>"}',
    ],
)
async def test_bad_bodies_are_told_without_the_password(http: httpx.AsyncClient, body: bytes) -> None:
    answer = await http.post("/session", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert "horse" not in answer.text


async def test_a_new_password_of_ones_own(http: httpx.AsyncClient) -> None:
    headers = await held(http)
    wrong = await http.post("/session/password", json={"old": "wrong", "new": "another one"}, headers=headers)
    assert wrong.status_code == 403
    short = await http.post("/session/password", json={"old": PASSWORD, "new": "short"}, headers=headers)
    assert short.status_code == 422
    answer = await http.post("/session/password", json={"old": PASSWORD, "new": "another one"}, headers=headers)
    assert answer.status_code == 200
    assert (await http.get("/session", headers=headers)).status_code == 403
    fresh = {"authorization": f"Bearer {answer.json()['token']}"}
    assert (await http.get("/session", headers=fresh)).json()["user"] == "ada"
    assert (await log_in(http)).status_code == 403
    assert (await log_in(http, password="another one")).status_code == 201


async def test_guesses_at_the_old_password_count_as_logins(http: httpx.AsyncClient) -> None:
    headers = await held(http)
    body = {"old": "wrong", "new": "another one"}
    answers = [await http.post("/session/password", json=body, headers=headers) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [403] * 10 + [429]


async def test_a_token_has_no_password(http: httpx.AsyncClient) -> None:
    body = {"old": PASSWORD, "new": "another one"}
    refused = await http.post("/session/password", json=body, headers=bearer("admin"))
    assert (refused.status_code, refused.json()["error"]["cause"]) == (409, "token admin-token has no password")
