from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.api.conftest import as_backend
from tests.api.fake_backend import FakeBackend
from zugvogel.api.app import create_app


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
async def probe(backend: FakeBackend) -> Any:
    transport = httpx.ASGITransport(create_app(as_backend(backend), "THE CA"))
    async with httpx.AsyncClient(transport=transport, base_url="https://api/api/v1/health") as client:
        yield client


async def test_an_agent_that_runs_is_live_whatever_it_lacks(
    probe: httpx.AsyncClient, backend: FakeBackend
) -> None:
    backend.unready = ("it hears no primary",)
    answer = await probe.get("/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_one_that_can_do_its_part_is_ready(probe: httpx.AsyncClient) -> None:
    answer = await probe.get("/ready")
    assert (answer.status_code, answer.json()) == (200, {"host": "host1", "is_ready": True, "causes": []})
    assert answer.headers["cache-control"] == "no-store"


async def test_one_that_cannot_says_why(probe: httpx.AsyncClient, backend: FakeBackend) -> None:
    backend.unready = ("datastore shared: it does not answer", "it hears no primary")
    answer = await probe.get("/ready")
    assert answer.status_code == 503
    assert answer.json() == {"host": "host1", "is_ready": False, "causes": list(backend.unready)}


def test_openapi_tells_of_both_answers(backend: FakeBackend) -> None:
    answers = create_app(as_backend(backend)).openapi()["paths"]["/api/v1/health/ready"]["get"]["responses"]
    for status in ("200", "503"):
        assert answers[status]["content"]["application/json"]["schema"]["$ref"].endswith("/Readiness")
