from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.console.conftest import Browser
from tests.console.fake_api import FakeApi, filled_mirror
from zugvogel.console.mirror import Mirror
from zugvogel.errors import Forbidden

Browse = Callable[[Mirror], Browser]
FORM = {"old": "the old one", "password": "the new one", "again": "the new one"}


@pytest.mark.parametrize("language", ["en", "de"])
async def test_everybody_has_the_form(browse: Browse, language: str) -> None:
    browser = await browse(filled_mirror()).log_in("viewer")
    page = await browser.get("/password", **{"accept-language": language})
    assert 'autocomplete="current-password"' in page.text
    assert page.text.count('autocomplete="new-password"') == 2


async def test_the_session_goes_on_with_the_new_token(browse: Browse, api: FakeApi) -> None:
    api.answers[("POST", "/session/password")] = {"token": "operator-token"}
    browser = await browse(filled_mirror()).log_in("viewer")
    answer = await browser.post("/password", **FORM)
    assert api.changes() == [("POST", "/session/password", {"old": "the old one", "new": "the new one"})]
    assert answer.headers["hx-redirect"] == "/password?changed=1"
    api.revoked.add("viewer-token")
    page = await browser.get("/password?changed=1")
    assert page.status_code == 200
    assert "Your password is changed" in page.text


async def test_a_wrong_old_one_is_told_and_the_session_stays(browse: Browse, api: FakeApi) -> None:
    api.answers[("POST", "/session/password")] = Forbidden("the old password is wrong", "try again")
    browser = await browse(filled_mirror()).log_in("viewer")
    answer = await browser.post("/password", **FORM)
    assert "the old password is wrong" in answer.text
    assert "set-cookie" not in answer.headers
    assert (await browser.get("/password")).status_code == 200


@pytest.mark.parametrize("form", [{"old": "x"}, {**FORM, "again": "another"}])
async def test_a_new_one_is_written_twice(browse: Browse, api: FakeApi, form: dict[str, str]) -> None:
    answer = await (await browse(filled_mirror()).log_in("viewer")).post("/password", **form)
    assert answer.headers["x-zugvogel-refused"] == "1"
    assert api.changes() == []
