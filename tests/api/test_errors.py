from __future__ import annotations

import httpx
import pytest

from tests.api.conftest import bearer


@pytest.mark.parametrize("body", [b"\xff", b"{", b'{"target": "\xff"}', b"\x00"])
async def test_a_body_that_cannot_be_read_is_invalid_input(http: httpx.AsyncClient, body: bytes) -> None:
    headers = bearer("admin") | {"content-type": "application/json"}
    answer = await http.post("/vms/web1/migrate", content=body, headers=headers)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "invalid-input"
    assert error["cause"]


async def test_another_method_tells_which_there_are(http: httpx.AsyncClient) -> None:
    answer = await http.put("/vms", headers=bearer("admin"))
    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "invalid-input"
