from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.api.fake_backend import FakeBackend
from zugvogel.api.app import create_app
from zugvogel.ports.backend import Backend


def as_backend(backend: FakeBackend) -> Backend:
    return backend


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(as_backend(FakeBackend()), "THE CA"))
    async with httpx.AsyncClient(transport=transport, base_url="https://api/api/v1") as client:
        yield client


def bearer(role: str) -> dict[str, str]:
    return {"authorization": f"Bearer {role}-token"}
