"""Datastores and networks."""

from __future__ import annotations

from zugvogel.client._async.calls import AsyncCalls
from zugvogel.domain.answers import DatastoreView, Done
from zugvogel.domain.network import Network
from zugvogel.domain.requests import AddDatastore, AddNetwork, ChangeDatastore
from zugvogel.domain.task import Task


class AsyncStorageCalls(AsyncCalls):
    async def datastores(self) -> list[DatastoreView]:
        """All datastores and how each host sees them."""
        return await self._get(list[DatastoreView], "/datastores")

    async def add_datastore(self, request: AddDatastore) -> Task:
        """Recognise the file system, prove that all hosts share it, take it into use."""
        return await self._post(Task, "/datastores", body=request)

    async def change_datastore(self, name: str, request: ChangeDatastore) -> DatastoreView:
        """Choose what proves a failed host dead before its vms are started elsewhere."""
        return await self._patch(DatastoreView, "/datastores/{name}", name, body=request)

    async def remove_datastore(self, name: str) -> Done:
        """Forget a datastore that holds no registered vm; its files stay."""
        return await self._delete(Done, "/datastores/{name}", name)

    async def networks(self) -> list[Network]:
        """All virtual networks."""
        return await self._get(list[Network], "/networks")

    async def add_network(self, request: AddNetwork) -> Network:
        """Add a network, or another host's bridge to one."""
        return await self._post(Network, "/networks", body=request)

    async def remove_network(self, name: str) -> Done:
        """Forget a network that no vm uses."""
        return await self._delete(Done, "/networks/{name}", name)
