"""zugvogel.api.routes_fence"""

from __future__ import annotations

import httpx
import pytest

from tests.api.conftest import bearer

CONFIG = {
    "agent": "fence_ipmilan",
    "parameters": {"ip": "192.0.2.13", "username": "fence"},
    "secrets": {"password": "s3cret"},
}
PATH = "/hosts/host2/fence"


async def test_secrets_come_in_and_never_go_out(http: httpx.AsyncClient) -> None:
    admin = bearer("admin")
    assert (await http.get(PATH, headers=admin)).status_code == 404
    made = await http.put(PATH, json=CONFIG, headers=admin)
    assert made.status_code == 200
    shown = await http.get(PATH, headers=admin)
    assert shown.json() == {
        "host": "host2",
        "agent": "fence_ipmilan",
        "parameters": {"ip": "192.0.2.13", "password": "********", "username": "fence"},
    }
    for path in ("/hosts", "/hosts/host2", PATH):
        assert "s3cret" not in (await http.get(path, headers=admin)).text
    tried = await http.post(f"{PATH}/test", headers=admin)
    assert (tried.status_code, tried.json()["report"]["works"]) == (202, True)
    assert (await http.delete(PATH, headers=admin)).json() == {"done": True}
    assert (await http.get(PATH, headers=admin)).status_code == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_only_an_admin_may(http: httpx.AsyncClient, method: str) -> None:
    for role in ("viewer", "operator"):
        assert (await http.request(method, PATH, json=CONFIG, headers=bearer(role))).status_code == 403
    assert (await http.request(method, PATH, json=CONFIG)).status_code == 403
    assert (await http.post(f"{PATH}/test", headers=bearer("operator"))).status_code == 403


@pytest.mark.parametrize(
    "wrong",
    [
        {"agent": "rm"},
        {"agent": "fence_../../bin/sh"},
        {"secrets": {"password": ["s3cret"]}},
        {"parameters": ["s3cret"]},
        {"more": "s3cret"},
    ],
)
async def test_a_wrong_request_is_refused_without_an_echo(
    http: httpx.AsyncClient, wrong: dict[str, object]
) -> None:
    refused = await http.put(PATH, json=CONFIG | wrong, headers=bearer("admin"))
    assert refused.status_code == 422
    assert "s3cret" not in refused.text
