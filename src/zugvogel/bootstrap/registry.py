"""The registry of an agent: a client of etcd everywhere, a member of it on primaries."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from zugvogel.adapters.authority import FileAuthority
from zugvogel.adapters.etcd.gateway import EtcdRegistry
from zugvogel.adapters.etcd.members import EtcdMembers, Member
from zugvogel.adapters.etcd.supervisor import EtcdSpec, EtcdSupervisor
from zugvogel.adapters.host_state import AgentConfig, HostState
from zugvogel.adapters.peers.rpc_server import client_context
from zugvogel.domain.host import Host, Role
from zugvogel.errors import Conflict, Unreachable, ZugvogelError
from zugvogel.services.membership import CALL_S, Membership, peer_url
from zugvogel.services.operations.world import World

log = logging.getLogger(__name__)

RETRY_S = 0.5
PROMOTE_S = 0.3
WATCH_ROLE_S = 5.0


class Etcd:
    """Client and, on a primary, supervisor of this host's member."""

    def __init__(self, state: HostState, config: AgentConfig, hosts: list[Host], log_dir: Path) -> None:
        self._state = state
        self._config = config
        self._hosts = hosts
        self._log_dir = log_dir
        context = client_context(
            str(state.pki.host_certificate), str(state.pki.host_key), str(state.pki.ca_certificate)
        )
        self.registry = EtcdRegistry(self._endpoints, context)
        self.members = EtcdMembers(self.registry)
        self._supervisor: EtcdSupervisor | None = None
        self._running: asyncio.Task[None] | None = None
        self.membership: Membership
        self._forward: Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]

    def connect(self, world: World) -> None:
        """Second half of the wiring: what needs the other services."""

        async def call(host: Host, command: str, payload: dict[str, Any]) -> dict[str, Any]:
            return await world.peers.call(host, command, payload, timeout_s=CALL_S)

        async def forward(command: str, payload: dict[str, Any]) -> dict[str, Any]:
            last: ZugvogelError = Unreachable("no primary is known", "see: zv host list")
            for host in self._primaries():
                if host.name == self._config.name:
                    continue
                try:
                    return await call(host, command, payload)
                except Unreachable as error:
                    last = error
            raise last

        self._forward = forward
        self.membership = Membership(
            self._config.name,
            registry=self.registry,
            inventory=world.inventory,
            clock=world.clock,
            authority=FileAuthority(self._state.pki),
            members=self.members,
            call=call,
        )

    def handlers(self) -> dict[str, Any]:
        return self.membership.handlers()

    def use_hosts(self, hosts: list[Host]) -> None:
        self._hosts = hosts

    def _primaries(self) -> list[Host]:
        return [h for h in self._hosts if h.role is Role.PRIMARY]

    def _endpoints(self) -> list[str]:
        """This host's own member first: stale reads work with everybody else gone."""
        own = sorted(self._primaries(), key=lambda h: (h.name != self._config.name, h.ordinal))
        return [f"https://{h.address}:{h.ports.etcd_client}" for h in own]

    def _me(self) -> Host | None:
        return next((h for h in self._hosts if h.name == self._config.name), None)

    # running -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """A member where this host is a primary; becomes one when its role changes, and gets the CA's keys."""
        await asyncio.gather(self._follow_role(), self._have_keys())

    async def _follow_role(self) -> None:
        while True:
            me = self._me()
            if me is not None and me.role is Role.PRIMARY and self._supervisor is None:
                await self._start_member(me)
            await asyncio.sleep(WATCH_ROLE_S)

    async def _have_keys(self) -> None:
        """Beside the member's start, which may wait long for a majority that does not need the keys."""
        while True:
            me = self._me()
            if me is not None and me.role is Role.PRIMARY:
                await self.membership.ensure_keys()
            await asyncio.sleep(WATCH_ROLE_S)

    async def stop(self) -> None:
        if self._supervisor is not None:
            await self._supervisor.stop()
        if self._running is not None:
            await asyncio.wait({self._running}, timeout=1.0)
        await self.registry.close()

    async def _start_member(self, me: Host) -> None:
        initial = self._state.load_initial()
        has_data = (self._state.etcd_dir / "member").exists()
        if initial is None and not has_data:
            await self._retry("joining etcd", lambda: self._forward("etcd.add", {"host": me.name}))
        await self._launch(me, is_new=initial is not None, has_data=has_data)
        if initial is not None:
            await self._retry("writing the first records", self._write_initial)
        else:
            await self._retry("voting in etcd", lambda: self._promote(me), PROMOTE_S)

    async def _retry(self, what: str, step: Callable[[], Awaitable[Any]], pause_s: float = RETRY_S) -> None:
        told = ""
        while True:
            try:
                await step()
                return
            except ZugvogelError as error:
                if str(error) != told:
                    log.info("%s: not yet: %s", what, error)
                told = str(error)
            await asyncio.sleep(pause_s)

    async def _launch(self, me: Host, *, is_new: bool, has_data: bool) -> None:
        members = {me.name: peer_url(me)}
        if not is_new and not has_data:
            members |= await self._member_names()
        spec = EtcdSpec(
            name=me.name,
            address=me.address,
            client_port=me.ports.etcd_client,
            peer_port=me.ports.etcd_peer,
            data_dir=self._state.etcd_dir,
            log_file=self._log_dir / "etcd.log",
            pki=self._state.pki,
            initial_cluster=members,
            is_new=is_new,
            cluster_token=self._config.cluster,
        )
        self._log_dir.mkdir(parents=True, exist_ok=True)
        self._supervisor = EtcdSupervisor(spec)
        self._running = asyncio.create_task(self._supervisor.run(), name="etcd")

    async def _member_names(self) -> dict[str, str]:
        """All members as etcd itself lists them now; it refuses a start with any other list."""
        found: list[Member] = []

        async def ask() -> None:
            nonlocal found
            found = await self.members.list()

        await self._retry("asking for etcd's members", ask)
        names = {peer_url(h): h.name for h in self._hosts}
        return {m.name or names.get(m.peer_url, m.id): m.peer_url for m in found}

    async def _promote(self, me: Host) -> None:
        answer = await self._forward("etcd.promote", {"host": me.name})
        if not answer.get("votes"):
            raise Unreachable("etcd does not know this host", "")

    async def _write_initial(self) -> None:
        """The first records of a new cluster; written once, also after a crash in between."""
        initial = self._state.load_initial()
        if initial is None:
            return
        values = {
            "cluster": initial.cluster.model_dump_json().encode(),
            f"hosts/{initial.host.name}": initial.host.model_dump_json().encode(),
            f"tokens/{initial.token.id}": initial.token.model_dump_json().encode(),
        }
        try:
            await self.registry.put_many(values, expect=dict.fromkeys(values, 0))
        except Conflict:
            log.info("the first records were written before")
        self._state.drop_initial()
