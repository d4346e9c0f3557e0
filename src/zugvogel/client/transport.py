"""The API as raw requests of asyncio: several endpoints, one pinned CA, errors as their own classes. Paths are
those below /api/v1; what is sent and answered is plain JSON."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Container, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from zugvogel.client.endpoints import (
    ANSWER_S,
    CONNECT_S,
    LIMITS,
    PREFIX,
    STREAM,
    Endpoints,
    Round,
    answer_in,
    error_in,
    given,
    headers_of,
    patience,
    streaming,
    trust,
)
from zugvogel.client.event_stream import EventStream
from zugvogel.http import httpx
from zugvogel.nearest import nearest_first

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection


class AsyncTransport:
    """Any number of requests at a time, of one event loop."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        token: str,
        ca_file: str | None = None,
        context: ssl.SSLContext | None = None,
        name: str = "the cluster",
        answer_s: float = ANSWER_S,
        connect_s: float = CONNECT_S,
    ) -> None:
        """Connects to nobody yet. `context`: instead of `ca_file`. `name`: what errors call the cluster. Raises
        InvalidInput, Refused."""
        self._endpoints = Endpoints(urls, name)
        self.trust = context or trust(ca_file)
        self.headers = headers_of(token)
        self._answer_s, self._connect_s = answer_s, connect_s
        self._http = httpx.AsyncClient(verify=self.trust, headers=self.headers, trust_env=False, limits=LIMITS)
        self._ordering: asyncio.Task[None] | None = None

    @property
    def urls(self) -> list[str]:
        """The endpoint that answered last comes first."""
        return list(self._endpoints.urls)

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        also: Container[int] = (),
        prefix: str = PREFIX,
    ) -> Any:
        """Parsed JSON, or a text. Raises the error the agent answers, as its class, and Unreachable. `also`:
        further statuses whose answer is none."""
        await self._ordered()
        asked, turn = given(params), Round(self._endpoints, method)
        for url in turn.urls:
            try:
                response = await self._http.request(
                    method,
                    f"{url}{prefix}{path}",
                    params=asked,
                    json=json,
                    timeout=patience(asked, self._answer_s, self._connect_s),
                )
            except httpx.TransportError as error:
                turn.missed(url, error)
                continue
            turn.answered(url)
            return answer_in(response, also)
        raise turn.nobody()

    async def events(
        self, path: str, *, params: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[tuple[str, Any], None]:
        """Server-sent events: name and parsed JSON, until the agent ends the stream. Raises as `request` does, and
        Unreachable where the stream breaks. `aclose()` ends it early."""
        reader = EventStream()
        async with self._stream(path, params) as response:
            with streaming(str(response.url)):
                async for chunk in response.aiter_bytes():
                    for event in reader.feed(chunk):
                        yield event

    @asynccontextmanager
    async def _stream(self, path: str, params: Mapping[str, Any] | None) -> AsyncIterator[httpx.Response]:
        """A successful answer whose body has not been read."""
        await self._ordered()
        turn = Round(self._endpoints, "GET")
        for url in turn.urls:
            request = self._http.build_request("GET", f"{url}{PREFIX}{path}", params=given(params), timeout=STREAM)
            try:
                response = await self._http.send(request, stream=True)
                if not response.is_success:
                    await response.aread()
            except httpx.TransportError as error:
                turn.missed(url, error)
                continue
            turn.answered(url)
            try:
                if not response.is_success:
                    raise error_in(response.text, response.status_code)
                yield response
            finally:
                await response.aclose()
            return
        raise turn.nobody()

    async def socket(self, path: str) -> ClientConnection:
        """An open WebSocket of bytes (`/vms/{name}/console`); close it. Raises as `request` does."""
        from zugvogel.client.websocket import first_socket

        await self._ordered()
        return await first_socket(self.urls, path, trust=self.trust, headers=self.headers, open_s=CONNECT_S)

    async def close(self) -> None:
        await self._http.aclose()

    async def _ordered(self) -> None:
        """The nearest endpoint first; found out once, for whoever asks first."""
        if self._ordering is None:
            self._ordering = asyncio.ensure_future(self._order())
        await asyncio.shield(self._ordering)

    async def _order(self) -> None:
        if len(self._endpoints.urls) > 1:
            self._endpoints.urls = await asyncio.to_thread(nearest_first, self._endpoints.urls)
