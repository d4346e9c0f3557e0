from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import httpx
import pytest

from tests.console.fake_api import PASSWORD, FakeApi, console_over
from zugvogel.console.mirror import Mirror


class Browser:
    """Keeps cookies, and sends the token against forged requests as the pages do."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.http.get(path, headers=headers)

    async def csrf(self) -> str:
        page = await self.http.get("/login")
        found = re.search(r'name="csrftoken" value="([^"]+)"', page.text)
        assert found
        return found[1]

    async def post(self, path: str, /, **form: str) -> httpx.Response:
        """As htmx does."""
        headers = {"x-csrftoken": await self.csrf(), "hx-request": "true"}
        return await self.http.post(path, data=form, headers=headers)

    async def log_in(self, role: str) -> Browser:
        form = {"user": role, "password": PASSWORD, "csrftoken": await self.csrf()}
        answer = await self.http.post("/login", data=form)
        assert answer.status_code == 303, answer.text
        return self


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
async def browse(api: FakeApi) -> AsyncIterator[Callable[[Mirror], Browser]]:
    """mirror -> a browser at a console that shows it, not logged in."""
    async with AsyncExitStack() as stack:
        opened: list[httpx.AsyncClient] = []

        def of(mirror: Mirror) -> Browser:
            transport = httpx.ASGITransport(console_over(api, mirror))
            opened.append(httpx.AsyncClient(transport=transport, base_url="http://console"))
            return Browser(opened[-1])

        yield of
        for client in opened:
            stack.push_async_callback(client.aclose)
