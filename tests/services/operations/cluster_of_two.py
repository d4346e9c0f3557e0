"""Two hosts' operations on one real datastore (a directory) and one registry in memory; RPC is a call, and the
verdicts are the test's. Nothing here spawns a QEMU."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from tests.core.facts import status
from tests.fakes.registry import MemoryRegistry
from tests.services.test_tasks import FastClock
from zugvogel.adapters.datastore.store import FileDatastores
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.host import Host, HostStatus, Verdict
from zugvogel.domain.lease import Holder
from zugvogel.domain.task import Task
from zugvogel.domain.vm import VmDefinition, VmRecord
from zugvogel.errors import NotFound, Unreachable
from zugvogel.ports.hypervisor import Hypervisor
from zugvogel.ports.network import HostNetwork
from zugvogel.services.events import EventLog
from zugvogel.services.inventory import Inventory
from zugvogel.services.local_vms import LocalVms
from zugvogel.services.membership import Membership
from zugvogel.services.operations.cluster import ClusterOperations
from zugvogel.services.operations.vms import VmOperations
from zugvogel.services.operations.world import World
from zugvogel.services.tasks import TaskBoard

HOSTS = ("host1", "host2", "host3")


class ClusterOfTwo:
    """host1 and host2 have an agent each; host3 has none. `verdicts`: those that are not live. `silent`: whose
    beats do not move."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.registry = MemoryRegistry()
        self.verdicts: dict[str, Verdict] = {}
        self.gone: set[str] = set()
        self.silent: set[str] = set()
        self.removed: set[str] = set()
        self.nodes = {name: Node(self, name) for name in HOSTS[:2]}

    async def begin(self) -> None:
        for name, node in self.nodes.items():
            datastore = Datastore(name="nfs1", id="id-1", path=str(self.path), kind="NFS v4", is_shared=True)
            await node.world.datastores.initialise(datastore)
            await node.inventory.put("datastores/nfs1", datastore)
            for entry in self.statuses():
                await node.inventory.put(f"hosts/{entry.host.name}", entry.host)
            node.vms.expect([])
            assert node.world.me == name

    def statuses(self) -> list[HostStatus]:
        found = [status(name, number + 1) for number, name in enumerate(HOSTS) if name not in self.removed]
        return [
            s.model_copy(
                update={"verdict": self.verdicts.get(s.host.name, Verdict.LIVE), "why": "the test says so"}
            )
            for s in found
        ]

    async def add(self, definition: VmDefinition, **fields: Any) -> None:
        """A vm with its folder, known to both hosts."""
        await self.nodes["host1"].store.folders.create(definition)
        record = VmRecord(definition=definition, datastore="nfs1", **fields)
        for node in self.nodes.values():
            await node.inventory.put(f"vms/{definition.name}", record)


class Node:
    def __init__(self, cluster: ClusterOfTwo, name: str) -> None:
        clock = FastClock()
        self.cluster = cluster
        datastores = FileDatastores(name, os.getuid(), os.getgid())
        self.tasks = TaskBoard(name, cluster.registry, clock)
        self.inventory = Inventory(cluster.registry, clock, [])
        self.events = EventLog(name, cluster.registry, clock)
        hypervisor = SimpleNamespace(default_machine="pc-q35-7.2")
        self.vms = LocalVms(
            host=name, boot_id="boot", hypervisor=cast(Hypervisor, hypervisor),
            network=cast(HostNetwork, SimpleNamespace()), inventory=self.inventory,
            mounted=lambda store: datastores.open(self.inventory.datastore(store)), events=self.events,
            clock=clock,
        )  # fmt: skip
        self.world = World(
            me=name, registry=cluster.registry, inventory=self.inventory, tasks=self.tasks, events=self.events,
            peers=self, clock=clock, vms=self.vms, datastores=datastores, mounted=self.vms.mounted,
            statuses=self.statuses, shows_no_life=lambda _store, host: host in cluster.silent,
        )  # fmt: skip
        self.operations = VmOperations(self.world, self.baseline)
        self.hosts = ClusterOperations(self.world, cast(Membership, SimpleNamespace(remove_host=self.remove_host)))

    @property
    def store(self) -> Any:
        return self.vms.mounted("nfs1")

    @property
    def me(self) -> Holder:
        return self.vms.me

    async def remove_host(self, name: str) -> None:
        self.cluster.removed.add(name)

    async def baseline(self) -> str:
        return "x86-64-v2"

    async def statuses(self) -> list[HostStatus]:
        return self.cluster.statuses()

    async def call(
        self, host: Host, command: str, payload: dict[str, Any], *, timeout_s: float = 10.0
    ) -> dict[str, Any]:
        if host.name in self.cluster.gone:
            raise Unreachable(f"{host.name} does not answer")
        handler = self.cluster.nodes[host.name].world.handlers.get(command)
        if handler is None:
            raise NotFound(command)
        return await handler(payload)

    async def end_of(self, task: Task) -> Task:
        while not task.state.is_final:
            task = await self.tasks.wait(task.id, task.version, 10.0)
        return task
