"""This host's own member of etcd: its process under supervision, and its data."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import shutil
import socket
import ssl
from pathlib import Path

from zugvogel.adapters.etcd.gateway import EtcdRegistry
from zugvogel.adapters.etcd.members import EtcdMembers
from zugvogel.adapters.etcd.supervisor import EtcdSpec, EtcdSupervisor
from zugvogel.domain.registry import Member
from zugvogel.errors import ProcedureFailed, Refused, Unreachable

CURRENT_S = 2.0
REFORM_S = 30.0
POLL_S = 0.1


class OwnEtcd:
    """`ports.members.OwnMember`. `spec`: with the list of members and `is_new` left open, see `start`."""

    def __init__(self, spec: EtcdSpec, context: ssl.SSLContext) -> None:
        self._spec = spec
        self._context = context
        self._registry = EtcdRegistry(lambda: [spec.client_url], context)
        self._members = EtcdMembers(self._registry)
        self._supervisor: EtcdSupervisor | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def has_data(self) -> bool:
        return (self._spec.data_dir / "member").exists()

    @property
    def is_running(self) -> bool:
        return self._supervisor is not None

    @property
    def failures(self) -> int:
        return self._supervisor.failures if self._supervisor is not None else 0

    @property
    def pid(self) -> int | None:
        return self._supervisor.pid if self._supervisor is not None else None

    async def start(self, members: dict[str, str], *, is_new: bool) -> None:
        known = {self._spec.name: self._spec.peer_url} | members
        self._launch(dataclasses.replace(self._spec, initial_cluster=known, is_new=is_new))

    def _launch(self, spec: EtcdSpec) -> None:
        if self._supervisor is not None:
            raise Refused(f"etcd of {spec.name} runs already")
        spec.log_file.parent.mkdir(parents=True, exist_ok=True)
        self._supervisor = EtcdSupervisor(spec)
        self._running = asyncio.create_task(self._supervisor.run(), name="etcd")

    async def stop(self) -> None:
        supervisor, running = self._supervisor, self._running
        if supervisor is None or running is None:
            return
        await supervisor.stop()
        running.cancel()  # it may wait to start the process again
        await asyncio.wait({running})
        self._supervisor = self._running = None

    async def close(self) -> None:
        await self.stop()
        await self._registry.close()

    async def reform(self) -> None:
        """The flag is given to one process only: one that a supervisor started with it again would throw out
        whoever has joined since. That process listens elsewhere: nobody writes into what is not yet formed."""
        await self.stop()
        alone = {self._spec.name: self._spec.peer_url}
        aside = dataclasses.replace(
            self._spec,
            client_port=_free_port(self._spec.address),
            initial_cluster=alone,
            is_new=False,
            is_forced=True,
        )
        registry = EtcdRegistry(lambda: [aside.client_url], self._context)
        self._launch(aside)
        try:
            async with asyncio.timeout(REFORM_S):
                await _come_up_alone(registry, aside.peer_url)
        except TimeoutError:
            raise ProcedureFailed("etcd did not come up as the only member", f"see {aside.log_file}") from None
        finally:
            await registry.close()
            await self.stop()

    async def discard(self) -> None:
        if self.is_running:
            raise Refused("etcd runs on its data")
        await self.forget_discarded()
        if self._spec.data_dir.exists():
            self._spec.data_dir.rename(self._former)

    async def forget_discarded(self) -> None:
        await asyncio.to_thread(shutil.rmtree, self._former, ignore_errors=True)

    @property
    def _former(self) -> Path:
        return self._spec.data_dir.with_name(self._spec.data_dir.name + ".former")

    async def members(self) -> list[Member]:
        return await self._members.list()

    async def is_current(self) -> bool:
        try:
            async with asyncio.timeout(CURRENT_S):
                await self._registry.get("generation")
        except (TimeoutError, Unreachable, Refused):
            return False
        return True


async def _come_up_alone(registry: EtcdRegistry, peer_url: str) -> None:
    """It is the only member and takes writes."""
    while True:
        with contextlib.suppress(Unreachable, Refused):
            if [m.peer_url for m in await EtcdMembers(registry).list()] == [peer_url]:
                await registry.get("generation")
                return
        await asyncio.sleep(POLL_S)


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
