"""Datastores and networks."""

from __future__ import annotations

from zugvogel.client._sync.calls import Calls
from zugvogel.domain.answers import DatastoreView, Done
from zugvogel.domain.network import Network
from zugvogel.domain.requests import AddDatastore, AddNetwork, ChangeDatastore
from zugvogel.domain.task import Task


class StorageCalls(Calls):
    def datastores(self) -> list[DatastoreView]:
        """All datastores and how each host sees them."""
        return self._get(list[DatastoreView], "/datastores")

    def add_datastore(self, request: AddDatastore) -> Task:
        """Recognise the file system, prove that all hosts share it, take it into use."""
        return self._post(Task, "/datastores", body=request)

    def change_datastore(self, name: str, request: ChangeDatastore) -> DatastoreView:
        """Choose what proves a failed host dead before its vms are started elsewhere."""
        return self._patch(DatastoreView, "/datastores/{name}", name, body=request)

    def remove_datastore(self, name: str) -> Done:
        """Forget a datastore that holds no registered vm; its files stay."""
        return self._delete(Done, "/datastores/{name}", name)

    def networks(self) -> list[Network]:
        """All virtual networks."""
        return self._get(list[Network], "/networks")

    def add_network(self, request: AddNetwork) -> Network:
        """Add a network, or another host's bridge to one."""
        return self._post(Network, "/networks", body=request)

    def remove_network(self, name: str) -> Done:
        """Forget a network that no vm uses."""
        return self._delete(Done, "/networks/{name}", name)
