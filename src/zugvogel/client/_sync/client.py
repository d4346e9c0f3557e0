"""Zugvogel from Python: every operation of the API as a typed method."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from zugvogel.client._sync.access import AccessCalls
from zugvogel.client._sync.cluster import ClusterCalls
from zugvogel.client._sync.storage import StorageCalls
from zugvogel.client._sync.tasks import TaskCalls
from zugvogel.client._sync.vms import VmCalls
from zugvogel.client.blocking import Transport


class Client(ClusterCalls, VmCalls, StorageCalls, TaskCalls, AccessCalls):
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
        super().__init__(Transport(urls, token=token, ca_file=ca_file, context=context))

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
