"""Hosts in one process on 127.0.0.x, each with a real etcd under `bootstrap.registry.Etcd`; a datastore of files.

RPC is a call; verdicts are what the test says: a host that lost its power is failed once `bury` says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from tests.adapters.etcd.members_on_loopback import free_port
from zugvogel.adapters import pki
from zugvogel.adapters.clock import SystemClock
from zugvogel.adapters.datastore.store import FileDatastores
from zugvogel.adapters.host_state import AgentConfig, HostState, Initial
from zugvogel.bootstrap.registry import Etcd
from zugvogel.domain.cluster import Access, Cluster, Token
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.host import Host, HostStatus, Ports, Role, Verdict
from zugvogel.domain.lease import Holder
from zugvogel.errors import NotFound, Unreachable, ZugvogelError, from_code
from zugvogel.services.events import EventLog
from zugvogel.services.inventory import Inventory
from zugvogel.services.local_vms import LocalVms
from zugvogel.services.namesakes import Namesakes
from zugvogel.services.operations.world import World
from zugvogel.services.tasks import TaskBoard

DETECTION_MS = 3000
SEEN_S = 1.0
"""Age of the last sign of life that verdicts tell of a failed host, at least."""


class Site:
    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "nfs1").mkdir()
        self.ca, self.ca_key = pki.new_ca("test")
        self.migration_ca, self.migration_ca_key = pki.new_migration_ca("test")
        self.datastore = Datastore(
            name="nfs1", id="id-1", path=str(root / "nfs1"), kind="test", is_shared=True, added_at="1"
        )
        self.hosts: list[Host] = []
        self.nodes: dict[str, Node] = {}
        self.off_at: dict[str, float] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.judge = ""

    async def begin(self, primaries: int, secondaries: int = 0) -> None:
        """The first host begins the cluster, the others are entered and join its etcd."""
        await FileDatastores("test", os.getuid(), os.getgid()).initialise(self.datastore)
        for number in range(1, primaries + secondaries + 1):
            self._make(number, Role.PRIMARY if number <= primaries else Role.SECONDARY)
        first = self.hosts[0]
        HostState(*self.places(first.name)).save_initial(_initial(first))
        self.power_on(first.name)
        registry = self.nodes[first.name].etcd.registry
        await come_true(lambda: registry.get(f"hosts/{first.name}"), "the first records")
        await registry.put("datastores/nfs1", self.datastore.model_dump_json().encode())
        await registry.put("settings/das.failuredetectiontime", str(DETECTION_MS).encode())
        for host in self.hosts[1:]:
            await registry.put(f"hosts/{host.name}", host.model_dump_json().encode())
            self.power_on(host.name)
        await self.members_are(*(h.name for h in self.hosts[:primaries]))

    def places(self, name: str) -> tuple[Path, Path]:
        return self.root / name / "etc", self.root / name / "var"

    def _make(self, number: int, role: Role) -> None:
        name, address = f"host{number}", f"127.0.0.{number}"
        ports = Ports(etcd_client=free_port(address), etcd_peer=free_port(address))
        host = Host(name=name, address=address, role=role, ordinal=number, joined_at="", ports=ports)
        state = HostState(*self.places(name))
        state.make_directories()
        request, key = pki.new_request(name)
        files = {
            state.pki.ca_certificate: self.ca,
            state.pki.migration_ca_certificate: self.migration_ca,
            state.pki.host_certificate: pki.sign(request, name, address, self.ca, self.ca_key),
            state.pki.host_key: key,
            state.pki.heartbeat_key: b"00",
        }
        if number == 1:
            files |= {state.pki.ca_key: self.ca_key, state.pki.migration_ca_key: self.migration_ca_key}
        for path, data in files.items():
            pki.write_secret(path, data)
        state.save_config(AgentConfig(name=name, address=address, cluster="test", ports=ports))
        self.hosts.append(host)
        state.save_hosts([self.hosts[0], host])

    # power ---------------------------------------------------------------------------------------

    def power_on(self, name: str) -> None:
        self.off_at.pop(name, None)
        self.verdicts.pop(name, None)
        self.nodes[name] = Node(self, name)

    async def power_off(self, *names: str) -> None:
        """SIGKILL of etcd and an end of the agent that tells nobody; all of `names` at once."""
        for name in names:
            self.off_at[name] = asyncio.get_running_loop().time()
        for name in names:
            await self.nodes.pop(name).die()

    def bury(self, *names: str, verdict: Verdict = Verdict.FAILED) -> None:
        self.verdicts |= dict.fromkeys(names, verdict)

    async def close(self) -> None:
        for node in self.nodes.values():
            await node.die()

    # looking -------------------------------------------------------------------------------------

    def statuses(self, hosts: list[Host]) -> list[HostStatus]:
        now = asyncio.get_running_loop().time()
        return [
            HostStatus(
                host=h,
                verdict=self.verdicts.get(h.name, Verdict.LIVE),
                why="the test says so",
                heartbeat_age_s=now - self.off_at[h.name] + SEEN_S if h.name in self.off_at else 0.0,
            )
            for h in hosts
        ]

    async def members_are(self, *names: str) -> None:
        """These vote in etcd, and nobody else is a member."""

        async def settled() -> bool:
            node = next(n for n in self.nodes.values() if n.name in names)
            found = await node.etcd.own.members()
            return {(m.name, m.is_learner) for m in found} == {(n, False) for n in names}

        await come_true(settled, f"{', '.join(names)} to be the members")


class Node:
    """The agent of one host, as far as the registry is concerned."""

    def __init__(self, site: Site, name: str) -> None:
        self.site, self.name = site, name
        self.state = HostState(*site.places(name))
        known = self.state.load_hosts()
        self.etcd = Etcd(self.state, self.state.load_config(), known, site.root / name / "log")
        clock, registry = SystemClock(), self.etcd.registry
        self.inventory = Inventory(registry, clock, known)
        self.inventory.on_hosts = self._hosts_changed
        self.events = EventLog(name, registry, clock)
        self.datastores = FileDatastores(name, os.getuid(), os.getgid())
        ends = SimpleNamespace(namesakes=Namesakes(name, "", list, clock))
        self.world = World(
            me=name,
            registry=registry,
            inventory=self.inventory,
            tasks=TaskBoard(name, registry, clock),
            events=self.events,
            peers=self,
            clock=clock,
            vms=cast(LocalVms, SimpleNamespace(me=Holder(host=name, boot_id="boot"), ends=ends)),
            datastores=self.datastores,
            mounted=lambda store: self.datastores.open(self.inventory.datastore(store)),
            statuses=self._statuses,
        )
        self.etcd.connect(self.world, lambda datastore: datastore == "nfs1" and site.judge == name)
        self.world.handlers.update(self.etcd.membership.handlers())
        self._running = [
            asyncio.create_task(work) for work in (self.inventory.run(), self.events.run(), self.etcd.run())
        ]

    def _hosts_changed(self, hosts: list[Host]) -> None:
        self.state.save_hosts(hosts)
        self.etcd.use_hosts(hosts)

    async def _statuses(self) -> list[HostStatus]:
        return self.site.statuses(self.inventory.hosts())

    async def call(
        self, host: Host, command: str, payload: dict[str, Any], *, timeout_s: float = 10.0
    ) -> dict[str, Any]:
        node = self.site.nodes.get(host.name)
        if node is None:
            raise Unreachable(f"{host.name} cannot be reached")
        handler = node.world.handlers.get(command)
        if handler is None:
            raise NotFound(command)
        try:
            async with asyncio.timeout(timeout_s):
                answer = await handler(json.loads(json.dumps(payload)))
        except TimeoutError:
            raise Unreachable(f"{host.name} does not answer") from None
        except ZugvogelError as error:
            raise from_code(error.code, error.cause, error.next_step) from None
        found: dict[str, Any] = json.loads(json.dumps(answer))
        return found

    async def die(self) -> None:
        for task in self._running:
            task.cancel()
        pid = self.etcd.own.pid
        stopping = asyncio.create_task(self.etcd.own.stop())
        await asyncio.sleep(0)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await stopping
        await asyncio.gather(*self._running, return_exceptions=True)
        await self.etcd.stop()

    async def put(self, key: str, value: str) -> None:
        """Written by a majority, as soon as there is one."""
        await come_true(lambda: _done(self.etcd.registry.put(key, value.encode())), f"{key} to be written")

    async def get(self, key: str) -> str:
        entry = await self.etcd.registry.get(key)
        return entry.value.decode() if entry else ""

    async def has(self, key: str, value: str) -> bool:
        return await self.get(key) == value

    async def kinds_of_events(self) -> list[str]:
        return [e.kind for e in await self.events.list()]


async def come_true(ask: Callable[[], Awaitable[object]], what: str, within_s: float = 60.0) -> None:
    try:
        async with asyncio.timeout(within_s):
            while True:
                with contextlib.suppress(ZugvogelError, StopIteration, RuntimeError):
                    if await ask():
                        return
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"{what} did not come true within {within_s:.0f} s") from None


async def _done(work: Awaitable[object]) -> bool:
    await work
    return True


def _initial(host: Host) -> Initial:
    return Initial(
        cluster=Cluster(id="c", name="test", created_at=""),
        host=host,
        token=Token(id="t", access=Access.ADMIN, secret_sha256="f" * 64),
    )
