from __future__ import annotations

import httpx
import pytest

from tests.api.conftest import as_backend, bearer
from tests.api.fake_backend import FakeBackend
from zugvogel.api.app import create_app
from zugvogel.domain.cluster import Access
from zugvogel.domain.user import User
from zugvogel.ports.backend import SettingValue
from zugvogel.ports.caller import asked_by


async def test_wrong_bearers_are_limited_and_right_ones_are_not_kept_out(http: httpx.AsyncClient) -> None:
    wrong = [await http.get("/hosts", headers={"authorization": f"Bearer guess{n}"}) for n in range(61)]
    assert [answer.status_code for answer in wrong] == [403] * 60 + [429]
    error = wrong[-1].json()["error"]
    assert error["code"] == "too-many-requests"
    assert error["next_step"]
    assert 1 <= int(wrong[-1].headers["retry-after"]) <= 60
    assert (await http.get("/hosts", headers=bearer("viewer"))).status_code == 200


async def test_neither_missing_nor_ended_nor_too_low_bearers_are_guesses() -> None:
    backend = FakeBackend()
    backend.sessions["s.gone"] = "gone"
    transport = httpx.ASGITransport(create_app(as_backend(backend)))
    async with httpx.AsyncClient(transport=transport, base_url="https://api/api/v1") as http:
        for _ in range(61):
            answers = [
                await http.get("/tokens"),
                await http.get("/tokens", headers={"authorization": "Bearer s.gone"}),
                await http.get("/tokens", headers=bearer("viewer")),
            ]
            codes = [(a.status_code, a.json()["error"]["code"]) for a in answers]
            assert codes == [(403, "forbidden"), (403, "session-ended"), (403, "forbidden")]


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YTpi", f"Bearer {'x' * 513}"])
async def test_unusable_headers_are_no_bearer(http: httpx.AsyncClient, header: str) -> None:
    answer = await http.get("/hosts", headers={"authorization": header})
    assert (answer.status_code, answer.json()["error"]["cause"]) == (403, "no token was given")


class Asked(FakeBackend):
    by = ""

    async def set_setting(self, name: str, value: int | str | bool) -> SettingValue:
        self.by = asked_by()
        return await super().set_setting(name, value)


async def test_an_operation_knows_on_whose_word_it_is_done() -> None:
    backend = Asked()
    backend.held_users["ada"] = User(
        name="ada", access=Access.ADMIN, password_hash="x", created_at="", changed_at=""
    )
    backend.sessions["s.ada"] = "ada"
    transport = httpx.ASGITransport(create_app(as_backend(backend)))
    async with httpx.AsyncClient(transport=transport, base_url="https://api/api/v1") as http:
        for headers, by in (
            (bearer("admin"), "token admin-token"),
            ({"authorization": "Bearer s.ada"}, "user ada"),
        ):
            answer = await http.put("/settings/migration.channels", json={"value": 2}, headers=headers)
            assert answer.status_code == 200, answer.text
            assert backend.by == by
        await http.put("/settings/migration.channels", json={"value": 2}, headers={"authorization": "Bearer no"})
        assert asked_by() == "", "who was asked last is forgotten"
