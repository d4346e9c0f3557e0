"""What every operation works with, and how it reaches the host that must do the work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from zugvogel.domain.host import Host, HostStatus
from zugvogel.errors import NotFound
from zugvogel.ports.clock import Clock
from zugvogel.ports.peers import Handler, Peers
from zugvogel.ports.registry import Registry
from zugvogel.ports.storage import Datastores, MountedDatastore
from zugvogel.services.events import EventLog
from zugvogel.services.inventory import Inventory
from zugvogel.services.local_vms import LocalVms
from zugvogel.services.tasks import TaskBoard

FORWARDED_KEPT = 1000


@dataclass(slots=True)
class World:
    """`handlers` are the RPC commands of this host; calling one locally needs no socket. `task_owners`: task id ->
    the host that does it, of the newest tasks that were begun elsewhere through this host.
    `shows_no_life(datastore, host)`: that host does not beat there now. `is_registry_member`: this host runs a
    member of the registry."""

    me: str
    registry: Registry
    inventory: Inventory
    tasks: TaskBoard
    events: EventLog
    peers: Peers
    clock: Clock
    vms: LocalVms
    datastores: Datastores
    mounted: Callable[[str], MountedDatastore]
    statuses: Callable[[], Awaitable[list[HostStatus]]]
    shows_no_life: Callable[[str, str], bool] = lambda datastore, host: False
    is_registry_member: Callable[[], bool] = lambda: False
    handlers: dict[str, Handler] = field(default_factory=dict)
    task_owners: dict[str, str] = field(default_factory=dict)

    async def on(
        self, host: str, command: str, payload: dict[str, Any], *, timeout_s: float = 15.0
    ) -> dict[str, Any]:
        """Run `command` on `host`, here or there."""
        if host == self.me:
            return await self.handlers[command](payload)
        answer = await self.peers.call(self.inventory.host(host), command, payload, timeout_s=timeout_s)
        self._remember_task(answer)
        return answer

    def _remember_task(self, answer: dict[str, Any]) -> None:
        """The registry's copy of a new task comes later, or never while there is no majority."""
        task_id, owner = answer.get("id"), answer.get("owner")
        if isinstance(task_id, str) and isinstance(owner, str):
            self.task_owners[task_id] = owner
            while len(self.task_owners) > FORWARDED_KEPT:
                del self.task_owners[next(iter(self.task_owners))]

    async def status_of(self, name: str) -> HostStatus:
        for status in await self.statuses():
            if status.host.name == name:
                return status
        raise NotFound(f"there is no host {name}", "see: zv host list")

    def host(self) -> Host:
        return self.inventory.host(self.me)
