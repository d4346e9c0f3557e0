"""What can be watched: the topics, how each is read from the backend, how often, and as what it is shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from zugvogel.api.views import datastore_view, setting_view
from zugvogel.domain.answers import EventView, HaView, HostView
from zugvogel.ports.backend import Backend

Things = Sequence[tuple[str, Any]]
"""Key and thing; an unchanged thing may be the same object as at the last look, which makes it cheap."""


@dataclass(frozen=True, slots=True)
class Source:
    """`view` of a thing is what watchers get, as JSON."""

    interval_s: float
    read: Callable[[Backend], Awaitable[Things]]
    view: Callable[[Any], BaseModel]


def _as_it_is(thing: BaseModel) -> BaseModel:
    return thing


async def _cluster(backend: Backend) -> Things:
    return [("cluster", await backend.cluster())]


async def _hosts(backend: Backend) -> Things:
    return [(status.host.name, status) for status in await backend.hosts()]


async def _vms(backend: Backend) -> Things:
    return [(vm.name, vm) for vm in await backend.vms()]


async def _datastores(backend: Backend) -> Things:
    return [(status.datastore.name, status) for status in await backend.datastores()]


async def _networks(backend: Backend) -> Things:
    return [(network.name, network) for network in await backend.networks()]


async def _tasks(backend: Backend) -> Things:
    return [(task.id, task) for task in await backend.recent_tasks()]


async def _events(backend: Backend) -> Things:
    return [(event.id, event) for event in await backend.recent_events()]


async def _settings(backend: Backend) -> Things:
    return [(held.setting.name, held) for held in await backend.settings()]


async def _ha(backend: Backend) -> Things:
    return [("ha", await backend.ha_status())]


SOURCES = {
    "cluster": Source(2.0, _cluster, _as_it_is),
    "hosts": Source(1.0, _hosts, HostView.of),
    "vms": Source(1.0, _vms, _as_it_is),
    "datastores": Source(2.0, _datastores, datastore_view),
    "networks": Source(2.0, _networks, _as_it_is),
    "tasks": Source(0.25, _tasks, _as_it_is),
    "events": Source(1.0, _events, EventView.of),
    "settings": Source(2.0, _settings, setting_view),
    "ha": Source(2.0, _ha, HaView.of),
}
