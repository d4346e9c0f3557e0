"""Zugvogel from Python: every operation of the API as a typed method."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from zugvogel.client._async.access import AsyncAccessCalls
from zugvogel.client._async.cluster import AsyncClusterCalls
from zugvogel.client._async.storage import AsyncStorageCalls
from zugvogel.client._async.tasks import AsyncTaskCalls
from zugvogel.client._async.vms import AsyncVmCalls
from zugvogel.client.transport import AsyncTransport


class AsyncClient(AsyncClusterCalls, AsyncVmCalls, AsyncStorageCalls, AsyncTaskCalls, AsyncAccessCalls):
    """Several addresses of one cluster: whichever answers. All methods raise the classes of `zugvogel.errors`;
    `Unreachable` never means that nothing was done."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        token: str = "",
        ca_file: str | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """`token`: an API token or that of a session. `ca_file`: the cluster's CA certificate; or
        `context`. Raises InvalidInput, Refused."""
        super().__init__(AsyncTransport(urls, token=token, ca_file=ca_file, context=context))

    async def close(self) -> None:
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
