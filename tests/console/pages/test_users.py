from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.console.conftest import Browser
from tests.console.fake_api import FakeApi, filled_mirror
from zugvogel.console.mirror import Mirror

Browse = Callable[[Mirror], Browser]


def user(name: str, access: str = "viewer") -> dict[str, str]:
    return {
        "name": name,
        "access": access,
        "created_at": "2026-01-01T00:00:00Z",
        "changed_at": "2026-01-02T00:00:00Z",
    }


@pytest.fixture
def known(api: FakeApi) -> FakeApi:
    api.answers[("GET", "/users")] = [user("ada", "operator"), user("admin", "admin")]
    token = {"id": "3f9a", "access": "viewer", "description": "for <graphs>", "created_at": "", "token": None}
    api.answers[("GET", "/tokens")] = [token]
    return api


@pytest.mark.parametrize("language", ["en", "de"])
async def test_users_and_tokens_are_listed(browse: Browse, known: FakeApi, language: str) -> None:
    browser = await browse(filled_mirror()).log_in("admin")
    text = (await browser.get("/users", **{"accept-language": language})).text
    row = text.split('id="user-ada"')[1].split("</tr>")[0]
    assert "operator" in row
    assert "2026" in row
    assert 'data-opens="delete-user"' in row
    assert "3f9a" in text
    assert "for &lt;graphs&gt;" in text


async def test_nobody_is_offered_to_delete_oneself(browse: Browse, known: FakeApi) -> None:
    text = (await (await browse(filled_mirror()).log_in("admin")).get("/users")).text
    mine = text.split('id="user-admin"')[1].split("</tr>")[0]
    assert "data-opens" not in mine
    assert 'href="/password"' in mine


@pytest.mark.parametrize("role", ["viewer", "operator"])
async def test_others_see_none_of_it(browse: Browse, known: FakeApi, role: str) -> None:
    browser = await browse(filled_mirror()).log_in(role)
    assert (await browser.get("/users")).status_code == 403
    assert "this needs the role admin" in (await browser.post("/users/delete", name="ada")).text
    assert known.changes() == []


async def test_a_user_is_added_with_a_password_written_twice(browse: Browse, api: FakeApi) -> None:
    api.answers[("POST", "/users")] = user("ada", "operator")
    browser = await browse(filled_mirror()).log_in("admin")
    form = {"name": "ada", "access": "operator", "password": "long enough"}
    assert "the two passwords differ" in (await browser.post("/users/add", **form, again="long enougj")).text
    assert "a user needs a password" in (await browser.post("/users/add", name="ada", access="operator")).text
    assert api.changes() == []
    answer = await browser.post("/users/add", **form, again="long enough")
    assert api.changes() == [("POST", "/users", form)]
    assert "long enough" not in answer.text


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ({"access": "admin"}, {"access": "admin"}),
        ({"access": "viewer", "password": "long enough", "again": "long enough"}, {"password": "long enough"}),
    ],
)
async def test_only_what_differs_is_changed(
    browse: Browse, api: FakeApi, form: dict[str, str], body: dict[str, str]
) -> None:
    api.answers[("PATCH", "/users/ada")] = user("ada")
    browser = await browse(filled_mirror()).log_in("admin")
    await browser.post("/users/change", name="ada", was_access="viewer", **form)
    assert api.changes() == [("PATCH", "/users/ada", body)]


async def test_a_form_that_changes_nothing_says_so(browse: Browse, api: FakeApi) -> None:
    browser = await browse(filled_mirror()).log_in("admin")
    answer = await browser.post("/users/change", name="ada", access="viewer", was_access="viewer")
    assert "nothing was changed" in answer.text
    assert api.changes() == []


async def test_a_token_is_shown_once(browse: Browse, api: FakeApi) -> None:
    made = {"id": "3f9a", "access": "viewer", "description": "graphs", "created_at": "", "token": "3f9a.hidden"}
    api.answers[("POST", "/tokens")] = made
    browser = await browse(filled_mirror()).log_in("admin")
    answer = await browser.post("/tokens/add", access="viewer", description="graphs")
    assert api.changes() == [("POST", "/tokens", {"access": "viewer", "description": "graphs"})]
    assert '<code class="secret">3f9a.hidden</code>' in answer.text
    assert "data-passes" not in answer.text, "it stays until it is closed"


async def test_a_user_is_deleted_and_a_token_revoked(browse: Browse, api: FakeApi) -> None:
    api.answers[("DELETE", "/users/ada")] = api.answers[("DELETE", "/tokens/3f9a")] = {"done": True}
    browser = await browse(filled_mirror()).log_in("admin")
    await browser.post("/users/delete", name="ada")
    await browser.post("/tokens/revoke", id="3f9a")
    assert [(m, p) for m, p, _ in api.changes()] == [("DELETE", "/users/ada"), ("DELETE", "/tokens/3f9a")]
