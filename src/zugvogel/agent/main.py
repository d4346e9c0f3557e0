"""`zv agent run`: the daemon of a host. Starts, serves, stops in order; QEMU processes outlive it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from zugvogel.adapters.peers.heartbeat_udp import next_start_stamp, open_heartbeats
from zugvogel.adapters.peers.rpc_server import rpc_app, serve, server_context
from zugvogel.api.app import create_app
from zugvogel.bootstrap.wiring import Places, Wiring
from zugvogel.errors import ZugvogelError
from zugvogel.services.ticking import run_every

log = logging.getLogger(__name__)

SETTLE_S = 10.0


def run_agent(config_dir: Path, state_dir: Path, run_dir: Path, log_dir: Path = Path("/var/log/zugvogel")) -> int:
    """Runs until SIGTERM. Returns the exit code; raises ZugvogelError when it cannot start."""
    level = os.environ.get("ZUGVOGEL_LOG", "INFO")
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    wiring = Wiring(Places(config_dir, state_dir, run_dir, log_dir))
    return asyncio.run(_main(wiring))


async def _main(wiring: Wiring) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log.info("agent of %s starts", wiring.name)
    running: list[asyncio.Task[None]] = []
    wiring.start_learning()
    servers = await _serve(wiring)
    try:
        running = [asyncio.create_task(_guarded(work)) for work in _loops(wiring)]
        ended = asyncio.create_task(stop.wait())
        await asyncio.wait([ended, *running], return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            if task.done() and task.exception() is not None:
                log.error("the agent ends: %s", task.exception())
                return 1
        log.info("agent of %s stops; its vms run on", wiring.name)
        return 0
    finally:
        for server in servers:
            await server.stop()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await wiring.etcd.stop()
        await wiring.peers.close()


async def _serve(wiring: Wiring) -> list[Any]:
    """RPC with mutual TLS, the API with plain TLS, heartbeats."""
    pki, address, ports = wiring.state.pki, wiring.config.address, wiring.config.ports
    certificate, key, ca = str(pki.host_certificate), str(pki.host_key), str(pki.ca_certificate)
    rpc = await serve(
        rpc_app(wiring.world.handlers), address, ports.rpc, server_context(certificate, key, ca, is_mutual=True)
    )
    app = create_app(wiring.operations, pki.ca_certificate.read_text())
    api = await serve(app, address, ports.api, server_context(certificate, key, is_mutual=False))
    wiring.udp.inner = await open_heartbeats(
        address,
        ports.heartbeat,
        wiring.state.heartbeat_key(),
        next_start_stamp(wiring.places.state / "heartbeat-start"),
        wiring.heartbeats.receive,
    )
    return [rpc, api]


def _loops(wiring: Wiring) -> list[Coroutine[Any, Any, None]]:
    return [*wiring.services(), wiring.etcd.run(), _look_after_vms(wiring)]


async def _look_after_vms(wiring: Wiring) -> None:
    """Adopt first; then the rounds that look after incoming vms and leases."""
    await wiring.adopt()

    async def each_second() -> None:
        await wiring.incoming.tick()

    async def settle() -> None:
        await wiring.vms.settle_leases()

    await asyncio.gather(
        run_every(wiring.clock, lambda: 1.0, each_second, "incoming vms"),
        run_every(wiring.clock, lambda: SETTLE_S, settle, "leases"),
    )


async def _guarded(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except ZugvogelError:
        raise
    except Exception:
        log.exception("a service of the agent ended by a defect")
        raise
