"""Real etcd members on 127.0.0.x, as the agents start them: mutual TLS, one CA."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
from pathlib import Path

from zugvogel.adapters import pki
from zugvogel.adapters.etcd.gateway import EtcdRegistry
from zugvogel.adapters.etcd.members import EtcdMembers
from zugvogel.adapters.etcd.supervisor import EtcdSpec, EtcdSupervisor
from zugvogel.adapters.peers.rpc_server import client_context
from zugvogel.errors import ZugvogelError

READY_S = 30.0


def free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


class Site:
    """Key material and specs of hosts host1.. at 127.0.0.1.. below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ca, self.ca_key = pki.new_ca("test")
        self.specs: dict[str, EtcdSpec] = {}

    def spec(self, number: int, *, initial_cluster: dict[str, str] | None = None) -> EtcdSpec:
        name, address = f"host{number}", f"127.0.0.{number}"
        directory = self.root / name / "pki"
        directory.mkdir(parents=True)
        keys = pki.Pki(directory)
        request, key = pki.new_request(name)
        keys.ca_certificate.write_bytes(self.ca)
        keys.host_certificate.write_bytes(pki.sign(request, name, address, self.ca, self.ca_key))
        keys.host_key.write_bytes(key)
        peer_port = free_port(address)
        url = f"https://{address}:{peer_port}"
        spec = EtcdSpec(
            name=name,
            address=address,
            client_port=free_port(address),
            peer_port=peer_port,
            data_dir=self.root / name / "etcd",
            log_file=self.root / name / "etcd.log",
            pki=keys,
            initial_cluster={name: url} | (initial_cluster or {}),
            is_new=not initial_cluster,
            cluster_token="test",
        )
        self.specs[name] = spec
        return spec

    def context(self, name: str = "host1") -> ssl.SSLContext:
        keys = self.specs[name].pki
        return client_context(str(keys.host_certificate), str(keys.host_key), str(keys.ca_certificate))

    def registry(self, *names: str) -> EtcdRegistry:
        """A client of `names`, in that order; of all without any."""
        urls = [self.specs[n].client_url for n in names or tuple(self.specs)]
        return EtcdRegistry(lambda: urls, self.context())


class Running:
    """Supervised members; `close` ends every process it started."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.supervisors: dict[str, EtcdSupervisor] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, spec: EtcdSpec) -> EtcdSupervisor:
        supervisor = self.supervisors[spec.name] = EtcdSupervisor(spec)
        self._tasks.append(asyncio.create_task(supervisor.run()))
        return supervisor

    async def first(self) -> EtcdRegistry:
        self.start(self.site.spec(1))
        registry = self.site.registry("host1")
        await until_it_answers(registry)
        return registry

    async def join(self, number: int, members: EtcdMembers) -> None:
        """As an agent does it: learner, start, promote until it works."""
        known = {m.name: m.peer_url for m in await members.list()}
        spec = self.site.spec(number, initial_cluster=known)
        await members.ensure(spec.peer_url)
        self.start(spec)
        async with asyncio.timeout(READY_S):
            while True:
                with contextlib.suppress(ZugvogelError):
                    if await members.promote(spec.peer_url):
                        return
                await asyncio.sleep(0.1)

    async def power_off(self, name: str) -> None:
        """SIGKILL, and no restart."""
        supervisor = self.supervisors.pop(name)
        pid = supervisor.pid
        assert pid is not None
        stopping = asyncio.create_task(supervisor.stop())
        os.kill(pid, signal.SIGKILL)
        await stopping

    async def close(self) -> None:
        for supervisor in self.supervisors.values():
            await supervisor.stop()
        await asyncio.gather(*self._tasks)


async def until_it_answers(registry: EtcdRegistry) -> None:
    async with asyncio.timeout(READY_S):
        while True:
            try:
                await registry.get("ready")
                return
            except ZugvogelError:
                await asyncio.sleep(0.05)
