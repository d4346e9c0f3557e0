from __future__ import annotations

import httpx
import pytest

from tests.api.conftest import bearer


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("/events?vms=web1", "is vm meant?"),
        ("/hosts?x=1", "it takes: none"),
        ("/ha/explain/web1?what=vm", "it takes: kind"),
        ("/hosts/host1/fence?=", "it takes: none"),
    ],
)
async def test_a_parameter_that_is_not_known_is_an_error(http: httpx.AsyncClient, path: str, step: str) -> None:
    answer = await http.get(path, headers=bearer("admin"))
    assert answer.status_code == 422
    assert answer.json()["error"]["next_step"] == step


async def test_those_that_are_known_are_taken(http: httpx.AsyncClient) -> None:
    for path in ("/events?vm=web1&limit=3", "/ha/plan?fail=host1&fail=host2", "/vms/web1/log?lines=5"):
        assert (await http.get(path, headers=bearer("viewer"))).status_code == 200


@pytest.mark.parametrize("path", ["/nothing?x=1", "/openapi.json?x=1"])
async def test_what_is_no_operation_is_left_alone(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(path)).status_code in (200, 404)
