"""The API as raw requests that block: as `AsyncTransport`, for programs without asyncio, which is not imported."""

from __future__ import annotations

import ssl
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

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


class Transport:
    """Not for several threads at once."""

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
        """Looks which address takes a connection. `context`: instead of `ca_file`. `name`: what errors call the
        cluster. Raises InvalidInput, Refused."""
        self._endpoints = Endpoints(urls, name)
        self.trust = context or trust(ca_file)
        self.headers = headers_of(token)
        self._answer_s, self._connect_s = answer_s, connect_s
        self._http = httpx.Client(verify=self.trust, headers=self.headers, trust_env=False, limits=LIMITS)
        self._endpoints.urls = nearest_first(self._endpoints.urls)

    @property
    def urls(self) -> list[str]:
        """The endpoint that answered last comes first."""
        return list(self._endpoints.urls)

    def request(
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
        asked, turn = given(params), Round(self._endpoints, method)
        for url in turn.urls:
            try:
                response = self._http.request(
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

    def events(self, path: str, *, params: Mapping[str, Any] | None = None) -> Iterator[tuple[str, Any]]:
        """Server-sent events: name and parsed JSON, until the agent ends the stream. Raises as `request` does, and
        Unreachable where the stream breaks."""
        reader = EventStream()
        with self._stream(path, params) as response, streaming(str(response.url)):
            for chunk in response.iter_bytes():
                yield from reader.feed(chunk)

    @contextmanager
    def _stream(self, path: str, params: Mapping[str, Any] | None) -> Iterator[httpx.Response]:
        """A successful answer whose body has not been read."""
        turn = Round(self._endpoints, "GET")
        for url in turn.urls:
            request = self._http.build_request("GET", f"{url}{PREFIX}{path}", params=given(params), timeout=STREAM)
            try:
                response = self._http.send(request, stream=True)
                if not response.is_success:
                    response.read()
            except httpx.TransportError as error:
                turn.missed(url, error)
                continue
            turn.answered(url)
            try:
                if not response.is_success:
                    raise error_in(response.text, response.status_code)
                yield response
            finally:
                response.close()
            return
        raise turn.nobody()

    def close(self) -> None:
        self._http.close()
