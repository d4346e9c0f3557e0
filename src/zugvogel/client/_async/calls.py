"""One call of the API with typed values."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from zugvogel.client.calling import dumped, filled, parsed
from zugvogel.client.endpoints import PREFIX
from zugvogel.client.transport import AsyncTransport

T = TypeVar("T")


class AsyncCalls:
    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def _get(
        self,
        answer: type[T],
        path: str,
        *values: str,
        params: Mapping[str, Any] | None = None,
        also: Container[int] = (),
        prefix: str = PREFIX,
    ) -> T:
        return await self._call("GET", answer, path, values, params=params, also=also, prefix=prefix)

    async def _post(self, answer: type[T], path: str, *values: str, body: BaseModel | None = None) -> T:
        return await self._call("POST", answer, path, values, body=body)

    async def _put(self, answer: type[T], path: str, *values: str, body: BaseModel) -> T:
        return await self._call("PUT", answer, path, values, body=body)

    async def _patch(self, answer: type[T], path: str, *values: str, body: BaseModel) -> T:
        return await self._call("PATCH", answer, path, values, body=body)

    async def _delete(self, answer: type[T], path: str, *values: str) -> T:
        return await self._call("DELETE", answer, path, values)

    async def _call(
        self,
        method: str,
        answer: type[T],
        path: str,
        values: tuple[str, ...],
        *,
        params: Mapping[str, Any] | None = None,
        body: BaseModel | None = None,
        also: Container[int] = (),
        prefix: str = PREFIX,
    ) -> T:
        """`values` fill the parts of `path` in braces, in order. `params` that are None are not sent."""
        asked = filled(path, values)
        told = await self._transport.request(
            method, asked, params=params, json=dumped(body), also=also, prefix=prefix
        )
        return parsed(answer, told)
