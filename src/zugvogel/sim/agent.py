"""An agent of a simulated host: the production services over simulated ports, for one life of the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zugvogel.bootstrap.services import HostPorts, HostServices
from zugvogel.core.cpu import MODELS
from zugvogel.domain.host import BridgeFacts, CpuFacts, Host, HostFacts
from zugvogel.domain.requests import CaKeys
from zugvogel.domain.task import Event
from zugvogel.errors import Refused
from zugvogel.ports.backend import ByteStream, ConsoleKind
from zugvogel.services.heartbeats import Load
from zugvogel.services.membership import Membership
from zugvogel.sim.hypervisor import VERSION, SimHypervisor
from zugvogel.sim.loop import Domain
from zugvogel.sim.memory import SimMemory
from zugvogel.sim.network import BRIDGE, LINK_MBIT, SimHostNetwork, SimPinger
from zugvogel.sim.passwords import SimPasswords
from zugvogel.sim.peers import Receiver, SimHeartbeats, SimPeers, break_off
from zugvogel.sim.registry import SimRegistry
from zugvogel.sim.storage import SimDatastores, SimMount

if TYPE_CHECKING:
    from zugvogel.sim.host import SimHost

CPU = CpuFacts(
    vendor="GenuineIntel",
    family=6,
    model=143,
    stepping=8,
    name="simulated",
    flags=frozenset(MODELS["x86-64-v3"]),
)


class SimAgent:
    """`number` counts the agents of this host. Its tasks live in `domain`."""

    def __init__(self, host: SimHost, number: int) -> None:
        self.host = host
        self.name = host.name
        self.domain = Domain(host.world.loop, f"agent {number} of {host.name}")
        self.serving: set[asyncio.Future[str]] = set()
        self.is_listening = False
        self.is_paused = False
        """By itself, not with its host."""
        self._registry = SimRegistry(host.world.registry, host.name)
        self.services: HostServices = self.domain.context.copy().run(self._services, number)
        self.receiver = Receiver(self, self.services.heartbeats.receive)
        self._loops = [self.domain.spawn(self._guarded(work)) for work in self.services.loops()]
        self.is_listening = True

    def _services(self, number: int) -> HostServices:
        host, world = self.host, self.host.world
        mounts = {
            name: SimMount(path, host.name, SimMemory(path, host.pipes)) for name, path in host.paths.items()
        }
        services = HostServices(
            HostPorts(
                name=host.name,
                boot=host.boot,
                joined_at=host.joined_at,
                clock=host.clock,
                registry=self._registry,
                hypervisor=SimHypervisor(host),
                network=SimHostNetwork(),
                datastores=SimDatastores(mounts),
                peers=SimPeers(host),
                heartbeat_sender=SimHeartbeats(host, world.rng, number),
                facts=self._facts,
                load=self._load,
                failpoint=_no_failpoint,
                hosts_known=list(host.hosts_known),
                on_hosts=self._keep_hosts,
                migration_address=host.address,
                ports=world.record_of(host.name).ports,
                guard=host.guard,
                pinger=SimPinger(world.wires, host.name, host.clock, world.is_up_at),
                fences=world.fences,
                passwords=SimPasswords(),
            )
        )
        services.take_operations(self._membership(services), NoConsoles())
        services.world.handlers["registry.reform"] = _no_members
        self._listen(services)
        return services

    def _listen(self, services: HostServices) -> None:
        """All events, also those that an agent takes with it into its grave."""
        told, emit = self.host.world.happened, services.events.emit

        def emitted(*args: Any, **more: Any) -> None:
            emit(*args, **more)
            told(_event(services, args, more))

        services.events.emit = emitted  # type: ignore[method-assign]

    def _membership(self, services: HostServices) -> Membership:
        async def call(host: Host, command: str, payload: dict[str, Any]) -> dict[str, Any]:
            return await services.peers.call(host, command, payload)

        return Membership(
            self.name,
            registry=self._registry,
            inventory=services.inventory,
            clock=self.host.clock,
            authority=SimAuthority(),
            members=SimMembers(),
            call=call,
        )

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """A service that ends is a defect; the product's agent ends with it and is started again."""
        try:
            await work
            why = "a service came to an end"
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        self.host.world.defect(f"agent of {self.name}: {why}")

    async def _facts(self) -> HostFacts:
        return self.host.facts

    def _load(self) -> Load:
        return self.host.world.load_of(self.host)

    def _keep_hosts(self, hosts: list[Host]) -> None:
        self.host.hosts_known = list(hosts)

    def end(self) -> None:
        """SIGKILL, or the end of its host."""
        self.is_listening = False
        self.domain.end()
        self._registry.close()
        for machine in self.host.machines.values():
            machine.forget_readers()

    def reset_connections(self) -> None:
        break_off(self.serving, self.name)


def facts(cores: int, memory_bytes: int) -> HostFacts:
    return HostFacts(
        cpu=CPU,
        cores=cores,
        memory_total_bytes=memory_bytes,
        link_mbit=LINK_MBIT,
        bridges=(BridgeFacts(name=BRIDGE, mtu=1500),),
        qemu_version=VERSION,
        accelerator="kvm",
        agent_version="sim",
    )


def _event(services: HostServices, args: tuple[Any, ...], more: dict[str, Any]) -> Event:
    named = dict(zip(("kind", "subject", "message", "severity", "evidence", "task"), args, strict=False)) | more
    named["evidence"] = named.get("evidence") or {}
    return Event(id="", at=services.clock.now_iso(), host=services.name, **named)


async def _no_failpoint(step: str) -> None:
    """Nothing is held."""


async def _no_members(payload: dict[str, Any]) -> dict[str, Any]:
    raise Refused("a simulated registry has no members from which it could be formed anew")


class NoConsoles:
    """Simulated vms have none."""

    async def local(self, socket: Path, *, is_shared: bool) -> ByteStream:
        raise Refused("a simulated vm has no console")

    async def remote(self, host: Host, vm: str, kind: ConsoleKind, ticket: str) -> ByteStream:
        raise Refused("a simulated vm has no console")


class SimAuthority:
    """Everybody is trusted."""

    ca_pem = migration_ca_pem = fingerprint = heartbeat_key_hex = "simulated"

    def keys(self) -> CaKeys | None:
        return CaKeys(ca_key_pem="simulated", migration_ca_key_pem="simulated")

    def take_keys(self, keys: CaKeys) -> None:
        """It has them."""

    def drop_keys(self) -> None:
        """Nobody minds."""

    def sign(self, request_pem: bytes, host: str, address: str) -> bytes:
        return b"simulated"

    def sign_for_qemu(self, request_pem: bytes, host: str, address: str) -> bytes:
        return b"simulated"

    def unix_time(self) -> float:
        return 0.0


class SimMembers:
    """The registry's members follow the hosts' roles by themselves."""

    async def ensure(self, peer_url: str) -> None:
        """Done already."""

    async def promote(self, peer_url: str) -> bool:
        return True

    async def remove(self, peer_url: str) -> None:
        """Done already."""
