"""The registry of an agent: a client of etcd everywhere, a member of it on primaries."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zugvogel.adapters.authority import FileAuthority
from zugvogel.adapters.etcd.gateway import EtcdRegistry
from zugvogel.adapters.etcd.members import EtcdMembers
from zugvogel.adapters.etcd.own import OwnEtcd
from zugvogel.adapters.etcd.supervisor import EtcdSpec
from zugvogel.adapters.host_state import AgentConfig, HostState
from zugvogel.adapters.peers.rpc_server import client_context
from zugvogel.bootstrap.failpoints import failpoint
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.host import Host, Role
from zugvogel.domain.registry import GenerationAnswer, Member, peer_url
from zugvogel.errors import Conflict, ZugvogelError
from zugvogel.services.ha.reforming import Reforming
from zugvogel.services.ha.registry_chain import RegistryChain
from zugvogel.services.ha.registry_member import RegistryMember
from zugvogel.services.ha.role_changes import ANSWERS, RoleChanges
from zugvogel.services.membership import CALL_S, Membership
from zugvogel.services.operations.world import World
from zugvogel.services.ticking import run_every

log = logging.getLogger(__name__)

STEP_S = 0.5
CHANGES_S = 2.0
KEYS_S = 5.0
MEMBERS_S = 30.0
STRANGERS = 16
"""So many other hosts are tried for etcd while its members are not known from itself."""


class Etcd:
    """Client and, on a primary, supervisor of this host's member. `connect`, then `run`."""

    def __init__(self, state: HostState, config: AgentConfig, hosts: list[Host], log_dir: Path) -> None:
        self._state = state
        self._config = config
        self._hosts = hosts
        self._known: list[Member] = []
        self._roles_changed = asyncio.Event()
        context = client_context(
            str(state.pki.host_certificate), str(state.pki.host_key), str(state.pki.ca_certificate)
        )
        self.registry = EtcdRegistry(self._endpoints, context)
        self.members = EtcdMembers(self.registry)
        self.own = OwnEtcd(self._spec(log_dir), context)
        self.membership: Membership
        self.member: RegistryMember
        self.changes: RoleChanges
        self._world: World

    def _spec(self, log_dir: Path) -> EtcdSpec:
        config = self._config
        return EtcdSpec(
            name=config.name,
            address=config.address,
            client_port=config.ports.etcd_client,
            peer_port=config.ports.etcd_peer,
            data_dir=self._state.etcd_dir,
            log_file=log_dir / "etcd.log",
            pki=self._state.pki,
            initial_cluster={},
            is_new=False,
            cluster_token=config.cluster,
        )

    def connect(self, world: World, judges: Callable[[str], bool] = lambda datastore: False) -> None:
        """Second half of the wiring: what needs the other services. `judges`: whether this host judges the
        datastore of that name; without it etcd is never formed anew."""
        self._world = world
        self.membership = Membership(
            self._config.name,
            registry=self.registry,
            inventory=world.inventory,
            clock=world.clock,
            authority=FileAuthority(self._state.pki),
            members=self.members,
            call=self._call,
            ready=self._ready,
            former=self._former_primaries,
        )
        chain = RegistryChain(lambda: world.vms.me, world.clock, self._datastores, world.datastores.open)
        reforming = self._reforming(world, chain, judges)
        self.member = RegistryMember(
            self._config.name,
            clock=world.clock,
            registry=self.registry,
            members=self.members,
            own=self.own,
            memory=self._state,
            chain=chain,
            reforming=reforming,
            events=world.events,
            first=_FirstRecords(self._state, self.registry),
            hosts=lambda: self._hosts,
            contacts=self._contacts,
            call=self._call,
            datastores=self._datastores_read,
            ensure_keys=self.membership.ensure_keys,
            stands_down=world.vms.ends.namesakes.why,
        )
        self.changes = RoleChanges(
            self._config.name,
            clock=world.clock,
            registry=self.registry,
            members=self.members,
            events=world.events,
            statuses=world.statuses,
            generation=self.member.generation,
        )
        world.handlers.update(self.member.handlers() | self.changes.handlers())
        world.is_registry_member = lambda: self.own.is_running

    def _reforming(self, world: World, chain: RegistryChain, judges: Callable[[str], bool]) -> Reforming:
        async def generation_of(host: Host) -> int:
            answer = await self._call(host, "etcd.generation", {})
            return GenerationAnswer.model_validate(answer).generation

        return Reforming(
            self._config.name,
            clock=world.clock,
            own=self.own,
            memory=self._state,
            chain=chain,
            events=world.events,
            statuses=world.statuses,
            judges=judges,
            generation_of=generation_of,
            detection_s=lambda: world.inventory.number("das.failuredetectiontime") / 1000,
            failpoint=failpoint,
        )

    # hosts and datastores --------------------------------------------------------------------------

    def use_hosts(self, hosts: list[Host]) -> None:
        if {h.name: h.role for h in hosts} != {h.name: h.role for h in self._hosts}:
            self._roles_changed.set()
        self._hosts = hosts

    async def _call(self, host: Host, command: str, payload: dict[str, Any]) -> dict[str, Any]:
        return await self._world.peers.call(host, command, payload, timeout_s=CALL_S)

    def _me(self) -> Host | None:
        return next((h for h in self._hosts if h.name == self._config.name), None)

    def _members_first(self) -> list[Host]:
        """Primaries and etcd's members, which are not the same while roles change. Before the members are known
        from etcd itself this host's list may be old, so some others are tried last."""
        urls = {m.peer_url for m in self._known}
        near = [h for h in self._hosts if h.role is Role.PRIMARY or peer_url(h) in urls]
        strangers = [] if self._known else [h for h in self._hosts if h not in near][:STRANGERS]
        return [*near, *strangers]

    def _endpoints(self) -> list[str]:
        """This host's own member first: stale reads work with everybody else gone."""
        own = [h for h in self._members_first() if h.name == self._config.name]
        others = [h for h in self._members_first() if h.name != self._config.name]
        return [f"https://{h.address}:{h.ports.etcd_client}" for h in (*own, *others)]

    def _contacts(self) -> list[Host]:
        return [h for h in self._members_first() if h.name != self._config.name]

    def _former_primaries(self) -> list[Host]:
        """Members of etcd that are no primaries any more: they have the CA's keys until they have left."""
        return [h for h in self._contacts() if h.role is not Role.PRIMARY]

    async def _ready(self) -> frozenset[str]:
        return frozenset(s.host.name for s in await self._world.statuses() if s.verdict in ANSWERS)

    def _datastores_read(self) -> list[Datastore] | None:
        inventory = self._world.inventory
        return inventory.datastores() if inventory.is_loaded.is_set() else None

    def _datastores(self) -> list[Datastore]:
        read = self._datastores_read()
        return self._state.load_datastores() if read is None else read

    # running -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """A member where this host is a primary, and none where it is not; the members follow the roles."""
        clock = self._world.clock
        await asyncio.gather(
            run_every(clock, lambda: STEP_S, self.member.tick, "etcd"),
            run_every(clock, lambda: CHANGES_S, self.changes.tick, "members of etcd"),
            run_every(clock, lambda: KEYS_S, self._have_keys, "keys of the CA"),
            self._know_members(),
        )

    async def _have_keys(self) -> None:
        """On primaries, and nowhere else; a host that still is a member of etcd may be asked for them."""
        me = self._me()
        if me is None:
            return
        if me.role is Role.PRIMARY:
            await self.membership.ensure_keys()
        elif not self.own.is_running and not self.own.has_data:
            await self.membership.give_up_keys()

    async def _know_members(self) -> None:
        while True:
            self._roles_changed.clear()
            try:
                self._known = await self.members.list()
            except ZugvogelError as error:
                log.debug("etcd's members are not known now: %s", error)
            try:
                async with asyncio.timeout(MEMBERS_S if self._known else STEP_S):
                    await self._roles_changed.wait()
            except TimeoutError:
                continue

    async def stop(self) -> None:
        await self.own.close()
        await self.registry.close()


class _FirstRecords:
    """`services.ha.registry_member.FirstRecords`, from what `zv cluster init` left on disk."""

    def __init__(self, state: HostState, registry: EtcdRegistry) -> None:
        self._state = state
        self._registry = registry

    @property
    def is_pending(self) -> bool:
        return self._state.load_initial() is not None

    async def write(self) -> None:
        """Once, also after a crash in between."""
        initial = self._state.load_initial()
        if initial is None:
            return
        values = {
            "cluster": initial.cluster.model_dump_json().encode(),
            f"hosts/{initial.host.name}": initial.host.model_dump_json().encode(),
            f"tokens/{initial.token.id}": initial.token.model_dump_json().encode(),
        }
        try:
            await self._registry.put_many(values, expect=dict.fromkeys(values, 0))
        except Conflict:
            log.info("the first records were written before")
        self._state.drop_initial()
