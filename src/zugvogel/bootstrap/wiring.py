"""An agent, put together: adapters as the ports of a host's services. No decisions here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zugvogel import __version__
from zugvogel.adapters.boot import RunBoot
from zugvogel.adapters.clock import SystemClock
from zugvogel.adapters.datastore.store import FileDatastores
from zugvogel.adapters.fence.agents import FenceAgents
from zugvogel.adapters.guard import ProcessGuard
from zugvogel.adapters.host_facts import ProcHostFacts
from zugvogel.adapters.host_state import AgentConfig, HostState
from zugvogel.adapters.network.host_network import LinuxHostNetwork
from zugvogel.adapters.network.pinger import IcmpPinger
from zugvogel.adapters.network.taps import HostTaps
from zugvogel.adapters.passwords import ArgonPasswords
from zugvogel.adapters.peers.consoles import AgentConsoles
from zugvogel.adapters.peers.rpc_client import HttpPeers
from zugvogel.adapters.peers.rpc_server import client_context
from zugvogel.adapters.qemu.hypervisor import QemuHypervisor
from zugvogel.adapters.unix_user import qemu_user
from zugvogel.bootstrap.failpoints import failpoint
from zugvogel.bootstrap.registry import Etcd
from zugvogel.bootstrap.services import HostPorts, HostServices
from zugvogel.domain.host import Host
from zugvogel.services.heartbeats import Load


@dataclass(frozen=True, slots=True)
class Places:
    """Directories of one host's agent."""

    config: Path
    state: Path
    run: Path
    log: Path


class Wiring:
    """The adapters of an agent, and the services over them."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.state = HostState(places.config, places.state)
        self.config: AgentConfig = self.state.load_config()
        self.name = self.config.name
        hosts = self.state.load_hosts()
        pki, user = self.state.pki, qemu_user()
        self.etcd = Etcd(self.state, self.config, hosts, places.log)
        self.network = LinuxHostNetwork()
        self.hypervisor = QemuHypervisor(
            run_dir=places.run / "vms",
            log_dir=places.log,
            user=user,
            network=HostTaps(),
            tls_directory=pki.qemu_directory,
        )
        pki.provide_qemu(user.uid, user.gid)
        context = client_context(str(pki.host_certificate), str(pki.host_key), str(pki.ca_certificate))
        self.peers = HttpPeers(self.name, context)
        self.udp = _LateSender()
        self.facts = ProcHostFacts(
            network=self.network,
            address=self.config.address,
            overrides=self.state.overrides,
            qemu_version=self.hypervisor.version,
            accelerator=self.hypervisor.accelerator,
            agent_version=__version__,
        )
        self.services = HostServices(
            HostPorts(
                name=self.name,
                boot=RunBoot(places.run),
                joined_at=self.config.joined_at,
                clock=SystemClock(),
                registry=self.etcd.registry,
                hypervisor=self.hypervisor,
                network=self.network,
                datastores=FileDatastores(self.name, user.uid, user.gid),
                peers=self.peers,
                heartbeat_sender=self.udp,
                facts=self.facts.facts,
                load=self._load,
                failpoint=failpoint,
                hosts_known=hosts,
                on_hosts=self._hosts_changed,
                migration_address=self.config.migration_address or self.config.address,
                ports=self.config.ports,
                guard=ProcessGuard(places.run, places.log),
                pinger=IcmpPinger(),
                fences=FenceAgents(),
                passwords=ArgonPasswords(),
            )
        )
        self.etcd.connect(self.services.world, self.services.ha.role.judges)
        self.services.take_operations(self.etcd.membership, AgentConsoles(context))

    def _hosts_changed(self, hosts: list[Host]) -> None:
        self.state.save_hosts(hosts)
        self.etcd.use_hosts(hosts)

    def _load(self) -> Load:
        load1, available = self.facts.load()
        return Load(load1, available)

    def start_learning(self) -> None:
        """Addresses of guests, from their ARP; needs the running loop."""
        self.network.start_learning()


class _LateSender:
    """Heartbeats are sent once the socket is open; before that they are dropped, as UDP may."""

    def __init__(self) -> None:
        self.inner: Any = None

    def send(self, to: Sequence[Host], heartbeat: Any) -> None:
        if self.inner is not None:
            self.inner.send(to, heartbeat)
