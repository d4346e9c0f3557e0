"""A simulated cluster: hosts, network, datastores and registry on one virtual clock, and what happened in it."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import secrets
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from functools import partial

from zugvogel.domain.cluster import Cluster, Token
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.ha import Proof
from zugvogel.domain.host import Host, Role
from zugvogel.domain.lease import Lease
from zugvogel.domain.network import Network
from zugvogel.domain.task import Event
from zugvogel.domain.vm import VmDefinition, VmRecord
from zugvogel.services.heartbeats import Load
from zugvogel.sim.agent import SimAgent, facts
from zugvogel.sim.delays import Delays
from zugvogel.sim.fence import DEVICE, SimFences
from zugvogel.sim.files import Folder, SharedFiles
from zugvogel.sim.host import SimHost
from zugvogel.sim.loop import VirtualLoop
from zugvogel.sim.machine import DIRTY_BPS, SimMachine
from zugvogel.sim.network import BRIDGE, Wires
from zugvogel.sim.peers import Noise, Traffic
from zugvogel.sim.registry import SharedRegistry
from zugvogel.sim.storage import StoragePath

PRIMARIES = 5
BOOTS_IN_S = 10.0
NETWORK = "lan"
WORLD = "world"
"""Who writes what is there from the beginning."""


class World:
    """Made empty; `add_*` before `begin`. `seed` decides all chance in it."""

    def __init__(self, seed: int, noise: Noise | None = None) -> None:
        self.seed = seed
        self.noise = noise or Noise()
        self.rng = random.Random(f"{seed}/world")
        self._chance = random.Random(f"{seed}/chance")
        self.loop = VirtualLoop()
        self.wires = Wires()
        self.traffic = Traffic()
        self.hosts: dict[str, SimHost] = {}
        self.files: dict[str, SharedFiles] = {}
        self.by_vm: dict[str, list[SimMachine]] = {}
        self.defects: list[str] = []
        self.events: MutableSequence[tuple[float, Event]] = []
        self.beat_at: dict[tuple[str, str], float] = {}
        """(host, datastore) -> when its last beat there was written."""
        self.heard_at: dict[tuple[str, str], float] = {}
        """(host, by whom) -> when its last heartbeat was taken in there."""
        self.on_vm: list[Callable[[str], None]] = []
        self.on_claim: list[Callable[[SharedFiles, str, Lease], None]] = []
        """Told of the datastore, the host and its claim, which is about to be written."""
        self.on_link: list[Callable[[SharedFiles, str, Lease | None, Lease], None]] = []
        self.on_write: list[Callable[[str, bytes | None], None]] = []
        self.on_event: list[Callable[[Event], None]] = []
        self.fences = SimFences(self._fence, lambda host: self.hosts[host].is_powered)
        self.fenced: set[str] = set()
        """Hosts whose power a fence has cut since they were switched on."""
        self.load_of: Callable[[SimHost], Load] = _steady_load
        self._records: dict[str, Host] = {}
        self._voters: list[str] | None = None
        self._tokens = 0
        self.vms: dict[str, tuple[VmDefinition, str]] = {}
        """As they were at first, with their datastores."""
        self._boots_in_s: dict[str, float] = {}
        self._booted_at: dict[str, float] = {}
        rng = random.Random(f"{seed}/delays")
        self.qmp = Delays(rng, 0.0005, 0.003)
        self.spawn = Delays(rng, 0.1, 0.6)
        self.wire_delays = Delays(rng, 0.0001, 0.001)
        self._quick = Delays(rng, 0.001, 0.02, share=0.15)
        self._slow = Delays(rng, 0.002, 0.03)
        self.registry = SharedRegistry(
            self.loop,
            Delays(rng, 0.001, 0.004),
            voters=self.voters,
            is_running=lambda host: host in self.hosts and self.hosts[host].has_member,
            connected=self.wires.connected,
        )
        self.registry.on_write = self._written
        self.wires.on_change.append(self.registry.changed)

    # making it -------------------------------------------------------------------------------------

    def add_datastore(
        self,
        name: str,
        kind: str,
        *,
        proof: Proof | None = None,
        has_locks: bool = True,
        lock_lease_s: float = 90.0,
        holds_killed: bool = False,
    ) -> None:
        datastore = Datastore(
            name=name, id=f"id-{name}", path=f"/srv/{name}", kind=kind, is_shared=True, proof=proof
        )
        self.files[name] = files = SharedFiles(
            datastore, has_locks=has_locks, lock_lease_s=lock_lease_s, holds_killed=holds_killed
        )
        files.on_beat = lambda host, beat: self.beat_at.__setitem__((host, name), self.loop.now)
        files.on_claim = partial(self._claiming, files)
        files.on_link = partial(self._linked, files)
        self._put(f"datastores/{name}", datastore.model_dump_json())

    def _claiming(self, files: SharedFiles, host: str, claim: Lease) -> None:
        for told in self.on_claim:
            told(files, host, claim)

    def _linked(self, files: SharedFiles, host: str, before: Lease | None, linked: Lease) -> None:
        for told in self.on_link:
            told(files, host, before, linked)

    def add_host(
        self,
        name: str,
        cores: int,
        memory_bytes: int,
        *,
        rate: float = 1.0,
        domain: str = "",
        has_fence: bool = False,
    ) -> None:
        """Primaries are the first five (P1)."""
        number = len(self._records) + 1
        record = Host(
            name=name,
            address=f"198.51.100.{number}" if number < 250 else f"203.0.{number // 250}.{number % 250}",
            role=Role.PRIMARY if number <= PRIMARIES else Role.SECONDARY,
            ordinal=number,
            joined_at="2030-01-01T00:00:00Z",
            failure_domain=domain,
            fence=DEVICE if has_fence else None,
        )
        self._records[name] = record
        self._put(f"hosts/{name}", record.model_dump_json())
        self.hosts[name] = SimHost(self, record, facts(cores, memory_bytes), rate)

    def add_vm(self, definition: VmDefinition, datastore: str, boots_in_s: float = BOOTS_IN_S) -> None:
        """`boots_in_s`: from a boot of its guest until its agent answers."""
        self._boots_in_s[definition.name] = boots_in_s
        self.vms[definition.name] = (definition, datastore)
        self.files[datastore].folders[definition.name] = Folder(definition, files={"disk0": 1})
        record = VmRecord(definition=definition, datastore=datastore)
        self._put(f"vms/{definition.name}", record.model_dump_json())

    def add_setting(self, name: str, value: bool | int | str) -> None:
        self._put(f"settings/{name}", json.dumps(value))

    def add_token(self, token: Token) -> None:
        self._put(f"tokens/{token.id}", token.model_dump_json())

    def begin(self, hosts: Sequence[str] | None = None) -> None:
        """Power for `hosts`, all by default, whose agents start within a second."""
        network = Network(name=NETWORK, bridges={"*": BRIDGE})
        self._put(f"networks/{NETWORK}", network.model_dump_json())
        cluster = Cluster(id="simulated", name="sim", created_at="2030-01-01T00:00:00Z")
        self._put("cluster", cluster.model_dump_json())
        for host in self.hosts.values():
            host.hosts_known = list(self._records.values())
            if hosts is None or host.name in hosts:
                host.power_on(boot_s=self.rng.random())

    def _written(self, host: str, key: str, value: bytes | None) -> None:
        if key.startswith("hosts/"):
            self._voters = None
            self.registry.changed()
        for told in self.on_write:
            told(key, value)

    def _put(self, key: str, text: str) -> None:
        self.registry.write(WORLD, key, text.encode())

    def new_path(self, files: SharedFiles) -> StoragePath:
        return StoragePath(self.loop, files, self._quick, self._slow)

    # looking ---------------------------------------------------------------------------------------

    def record_of(self, name: str) -> Host:
        """As it was when the world was made."""
        return self._records[name]

    def host_records(self) -> list[Host]:
        return [Host.model_validate_json(e.value) for e in self.registry.entries("hosts/")]

    def voters(self) -> list[str]:
        return self._voters if self._voters is not None else self._count_voters()

    def _count_voters(self) -> list[str]:
        self._voters = [h.name for h in self.host_records() if h.role is Role.PRIMARY]
        return self._voters

    def host_at(self, address: str) -> SimHost:
        return next(h for h in self.hosts.values() if h.address == address)

    def is_up_at(self, address: str) -> bool:
        return any(h.address == address and h.is_up for h in self.hosts.values())

    def listener(self, address: str, port: int) -> SimMachine | None:
        return self.host_at(address).listener(port)

    def machines_of(self, vm: str) -> list[SimMachine]:
        return [m for m in self.by_vm.get(vm, ()) if m.is_alive]

    def going(self, vm: str) -> list[SimMachine]:
        """Those whose vCPUs run."""
        return [m for m in self.machines_of(vm) if m.is_going]

    def door(self, via: str | None = None) -> SimAgent | None:
        """The agent a user is connected to: the one named, else the first that runs. None: it does not."""
        hosts = [self.hosts[via]] if via else list(self.hosts.values())
        for host in hosts:
            if host.is_up and host.agent is not None and not host.agent.is_paused:
                return host.agent
        return None

    # chance ----------------------------------------------------------------------------------------

    def coin(self) -> bool:
        return self.rng.random() < 0.5

    def new_token(self, vm: str) -> str:
        """Its guest boots now."""
        self._tokens += 1
        token = f"{vm}-{self._tokens}"
        self._booted_at[token] = self.loop.now
        return token

    def has_booted(self, vm: str, token: str) -> bool:
        return self.loop.now - self._booted_at[token] >= self._boots_in_s[vm]

    def dirty_bps(self, vm: str) -> float:
        return DIRTY_BPS

    def _fence(self, host: str) -> None:
        self.hosts[host].power_off()
        self.fenced.add(host)

    # told ------------------------------------------------------------------------------------------

    def vm_changed(self, vm: str) -> None:
        for told in self.on_vm:
            told(vm)

    def happened(self, event: Event) -> None:
        self.events.append((self.loop.now, event))
        for told in self.on_event:
            told(event)

    def defect(self, what: str) -> None:
        self.defects.append(f"at {self.loop.now:.3f} s: {what}")

    def topology_changed(self) -> None:
        self.registry.changed()

    # running ---------------------------------------------------------------------------------------

    def run_until(self, until_s: float) -> None:
        with quiet_logs(self.defect), seeded_chance(self._chance):
            self.loop.run_until(until_s)

    def close(self) -> None:
        domains = [h.agent.domain for h in self.hosts.values() if h.agent is not None]
        machines = [m.domain for h in self.hosts.values() for m in h.machines.values()]
        with quiet_logs(lambda _: None):
            self.loop.close([*domains, *machines])


def _steady_load(host: SimHost) -> Load:
    return Load(0.2, host.facts.memory_total_bytes // 2)


class _Defects(logging.Handler):
    """A traceback in the log is a defect of the product."""

    def __init__(self, told: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self._told(self.format(record))


@contextlib.contextmanager
def quiet_logs(told: Callable[[str], None]) -> Iterator[None]:
    logger = logging.getLogger("zugvogel")
    level, propagates, handler = logger.level, logger.propagate, _Defects(told)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates


@contextlib.contextmanager
def seeded_chance(rng: random.Random) -> Iterator[None]:
    """What the product draws by chance (ends of ids, the order of roles) comes from `rng` as well, so that a run
    can be repeated. Nothing else runs in this process meanwhile."""
    bits, system = secrets.randbits, random.SystemRandom
    secrets.randbits = rng.getrandbits  # type: ignore[assignment]
    random.SystemRandom = lambda: rng  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        secrets.randbits = bits
        random.SystemRandom = system  # type: ignore[misc]
