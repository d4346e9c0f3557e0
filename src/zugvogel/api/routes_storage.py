"""Datastores and networks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from zugvogel.api.auth import ADMIN, VIEWER, TheBackend
from zugvogel.api.views import datastore_view
from zugvogel.domain.answers import DatastoreView, Done
from zugvogel.domain.base import NAME_PATTERN
from zugvogel.domain.network import Network
from zugvogel.domain.requests import AddDatastore, AddNetwork, ChangeDatastore
from zugvogel.domain.task import Task

router = APIRouter()

NamePath = Annotated[str, Path(pattern=NAME_PATTERN)]


@router.get("/datastores", dependencies=[VIEWER], tags=["datastores"])
async def datastores(backend: TheBackend) -> list[DatastoreView]:
    """All datastores and how each host sees them."""
    return [datastore_view(status) for status in await backend.datastores()]


@router.post("/datastores", status_code=202, dependencies=[ADMIN], tags=["datastores"])
async def add_datastore(request: AddDatastore, backend: TheBackend) -> Task:
    """Recognise the file system, prove that all hosts share it, take it into use."""
    return await backend.add_datastore(request)


@router.patch("/datastores/{name}", dependencies=[ADMIN], tags=["datastores"])
async def change_datastore(name: NamePath, request: ChangeDatastore, backend: TheBackend) -> DatastoreView:
    """Choose what proves a failed host dead before its vms are started elsewhere."""
    return datastore_view(await backend.change_datastore(name, request))


@router.delete("/datastores/{name}", dependencies=[ADMIN], tags=["datastores"])
async def remove_datastore(name: NamePath, backend: TheBackend) -> Done:
    """Forget a datastore that holds no registered vm; its files stay."""
    await backend.remove_datastore(name)
    return Done()


@router.get("/networks", dependencies=[VIEWER], tags=["networks"])
async def networks(backend: TheBackend) -> list[Network]:
    """All virtual networks."""
    return await backend.networks()


@router.post("/networks", status_code=201, dependencies=[ADMIN], tags=["networks"])
async def add_network(request: AddNetwork, backend: TheBackend) -> Network:
    """Add a network, or another host's bridge to one."""
    return await backend.add_network(request)


@router.delete("/networks/{name}", dependencies=[ADMIN], tags=["networks"])
async def remove_network(name: NamePath, backend: TheBackend) -> Done:
    """Forget a network that no vm uses."""
    await backend.remove_network(name)
    return Done()
