"""`zv sim serve`: the product's API over a simulated cluster in real time, to look at and to practise with."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from zugvogel.adapters import pki
from zugvogel.adapters.peers.rpc_server import serve, server_context
from zugvogel.api.app import create_app
from zugvogel.domain.cluster import Access, Token
from zugvogel.errors import InvalidInput, ProcedureFailed
from zugvogel.ports.backend import Backend
from zugvogel.sim.actions import Actions
from zugvogel.sim.activity import Activity, Loads, Users
from zugvogel.sim.real_time import RealTime, backend_of
from zugvogel.sim.run import START_S, begin, build, start_pause_s
from zugvogel.sim.scenario import DatastoreSpec, HostSpec, Scenario, VmSpec

LOOPBACK = "127.0.0.1"
SETTLE_S = 60.0
"""Of the world's time, after the last vm was to start: by then all of them run."""
KEPT_EVENTS = 1000
HOSTS_PER_RACK = 8
MEMORY_MIB = (1024, 2048, 4096, 2048, 8192)
PURPOSES = ("web", "db", "mail", "build", "desk")


@dataclass(frozen=True, slots=True)
class Secured:
    """The host's certificate, and the CA by which callers know it."""

    context: ssl.SSLContext
    ca_pem: str
    ca_file: Path
    certificate_file: Path
    key_file: Path


class Training:
    """A simulated cluster whose vms run; from then on time is to go on as for people. Making it takes the CPU
    time that the vms take to start. `token`: a bearer with all rights. Raises InvalidInput, and ProcedureFailed
    when a vm does not start."""

    def __init__(self, scenario: Scenario, token: str, activity: Activity = Activity.NONE) -> None:
        self.scenario = scenario
        self.world = world = build(scenario)
        world.events = deque(maxlen=KEPT_EVENTS)
        world.add_token(token_of(token))
        vms = [vm.name for vm in scenario.each_vm() if vm.is_started]
        Loads(world)
        self._start(vms)
        actions = Actions(world)
        for action in scenario.timeline:
            actions.schedule(action, world.loop.now + action.at_s)
        Users(world, actions, vms, activity)

    def _start(self, vms: list[str]) -> None:
        world, ready_s = self.world, START_S + start_pause_s(len(vms)) * len(vms)
        world.loop.epoch = datetime.now(UTC) - timedelta(seconds=ready_s + SETTLE_S)
        begin(world, self.scenario)
        world.run_until(ready_s)
        while missing := [vm for vm in vms if not world.going(vm)]:
            if world.loop.now > ready_s + SETTLE_S:
                world.close()
                raise ProcedureFailed(f"{missing[0]} of the scenario does not start", "give its host more memory")
            world.run_until(world.loop.now + 1.0)
        world.loop.epoch = datetime.now(UTC) - timedelta(seconds=world.loop.now)

    def close(self) -> None:
        self.world.close()


def token_of(text: str) -> Token:
    """Raises InvalidInput for what cannot be an API token."""
    name, _, secret = text.partition(".")
    if not name.isalnum() or name == "s":
        raise InvalidInput(f"{text!r} cannot be a token", "write NAME.SECRET, for example training.secret")
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return Token(id=name, access=Access.ADMIN, secret_sha256=digest, description="of the simulated cluster")


def cluster_of(hosts: int, vms: int) -> Scenario:
    """A cluster to look at: racks as failure domains, two datastores, vms of different sizes."""
    need_mib = sum(MEMORY_MIB) // len(MEMORY_MIB) * (vms // hosts + 1)
    memory_mib = max(65_536, 2 ** (2 * need_mib - 1).bit_length())
    stores = ("san1", "san2")
    return Scenario(
        title=f"{hosts} hosts with {vms} vms",
        horizon_s=1.0,
        hosts=tuple(
            HostSpec(
                name=f"host{n + 1}",
                cpus=64,
                memory_mib=memory_mib,
                failure_domain=f"rack{n // HOSTS_PER_RACK + 1}",
                has_fence=True,
            )
            for n in range(hosts)
        ),
        datastores=tuple(DatastoreSpec(name=name) for name in stores),
        vms=tuple(
            VmSpec(
                name=f"{PURPOSES[n % len(PURPOSES)]}{n // len(PURPOSES) + 1}",
                memory_mib=MEMORY_MIB[n % len(MEMORY_MIB)],
                cpus=(1, 2, 4)[n % 3],
                datastore=stores[n % len(stores)],
            )
            for n in range(vms)
        ),
    )


@contextmanager
def secured() -> Iterator[Secured]:
    """With a CA made for this once, in a folder that is gone at the end."""
    ca, ca_key = pki.new_ca("sim")
    request, key = pki.new_request("localhost")
    certificate = pki.sign(request, "localhost", LOOPBACK, ca, ca_key)
    with TemporaryDirectory(prefix="zugvogel-sim-") as folder:
        files = pki.Pki(Path(folder))
        files.ca_certificate.write_bytes(ca)
        files.host_certificate.write_bytes(certificate)
        pki.write_secret(files.host_key, key)
        context = server_context(str(files.host_certificate), str(files.host_key), is_mutual=False)
        yield Secured(context, ca.decode(), files.ca_certificate, files.host_certificate, files.host_key)


@dataclass(frozen=True, slots=True)
class Served:
    """`url`: of the API, without its path."""

    url: str
    real_time: RealTime
    backend: Backend


@asynccontextmanager
async def serving(
    training: Training, port: int, *, speed: float = 1.0, secured: Secured | None = None
) -> AsyncIterator[Served]:
    """The API, on loopback, while the world goes on. `port` 0: any that is free."""
    real_time = RealTime(training.world, speed)
    backend = backend_of(real_time)
    app = create_app(backend, secured.ca_pem if secured else "")
    server = await serve(app, LOOPBACK, port, secured.context if secured else None)
    going_on = asyncio.create_task(real_time.run(), name="the simulated world")
    try:
        yield Served(f"{'https' if secured else 'http'}://{LOOPBACK}:{server.port}", real_time, backend)
    finally:
        await server.stop()
        going_on.cancel()
        with suppress(asyncio.CancelledError):
            await going_on
