"""`zv agent run`: the daemon of a host. Starts, serves, stops in order; QEMU processes outlive it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from zugvogel.adapters.console_process import run_console
from zugvogel.adapters.peers.heartbeat_udp import next_start_stamp, open_heartbeats
from zugvogel.adapters.peers.rpc_server import RunningServer, rpc_app, serve, server_context
from zugvogel.agent import logs
from zugvogel.agent.console import console_config
from zugvogel.api.app import create_app
from zugvogel.bootstrap.wiring import Places, Wiring
from zugvogel.errors import ZugvogelError

log = logging.getLogger(__name__)

DRAIN_S = 3.0


def run_agent(config_dir: Path, state_dir: Path, run_dir: Path, log_dir: Path = Path("/var/log/zugvogel")) -> int:
    """Runs until SIGTERM. Returns the exit code; raises ZugvogelError when it cannot start."""
    logs.set_up(os.environ.get("ZUGVOGEL_LOG", "INFO"), os.environ.get("ZUGVOGEL_LOG_FORMAT", "plain"))
    wiring = Wiring(Places(config_dir, state_dir, run_dir, log_dir))
    logs.tell_host(wiring.name)
    return asyncio.run(_main(wiring))


async def _main(wiring: Wiring) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log.info("agent of %s starts", wiring.name)
    servers: list[RunningServer] = []
    running: list[asyncio.Task[None]] = []
    ended = asyncio.create_task(stop.wait())
    try:
        wiring.start_learning()
        await _serve(wiring, servers)
        running = [asyncio.create_task(_guarded(work)) for work in _loops(wiring)]
        await asyncio.wait([ended, *running], return_when=asyncio.FIRST_COMPLETED)
        return _exit_code(wiring.name, running)
    finally:
        ended.cancel()
        await _stop(wiring, servers, running)


def _exit_code(name: str, running: Sequence[asyncio.Task[None]]) -> int:
    """0 after a signal; 1 when a service ended, which none ever should."""
    for task in running:
        if task.done():
            log.error("agent of %s ends: %s", name, task.exception() or "a service of it came to an end")
            return 1
    log.info("agent of %s stops; its vms run on", name)
    return 0


async def _stop(wiring: Wiring, servers: Sequence[RunningServer], running: Sequence[asyncio.Task[None]]) -> None:
    """Work first, while peers, registry and watchers can still be spoken to; then the servers; then, when nothing
    changes any more, the last states of tasks and events go to the registry; it and the peers close last.

    Live migrations before their switchover are called off, as by `zv task cancel`: without an agent QEMU would
    switch over by itself and the vm would stand still until the agent is back. Those past it finish, which
    takes moments. What takes longer is cut, and recovered by the next agent as after a crash.
    """
    await wiring.services.tasks.stop()
    await asyncio.gather(*(server.stop() for server in servers), return_exceptions=True)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await asyncio.gather(
        wiring.services.tasks.drain(DRAIN_S), wiring.services.events.drain(DRAIN_S), return_exceptions=True
    )
    await wiring.etcd.stop()
    await wiring.peers.close()


async def _serve(wiring: Wiring, servers: list[RunningServer]) -> None:
    """RPC with mutual TLS, the API with plain TLS, heartbeats. Adds to `servers` what listens already, also when
    the next cannot."""
    pki, address, ports = wiring.state.pki, wiring.config.address, wiring.config.ports
    certificate, key, ca = str(pki.host_certificate), str(pki.host_key), str(pki.ca_certificate)
    tls = server_context(certificate, key, ca, is_mutual=True)
    servers.append(
        await serve(rpc_app(wiring.services.world.handlers, wiring.etcd.membership.admit), address, ports.rpc, tls)
    )
    app = create_app(wiring.services.operations, pki.ca_certificate.read_text())
    tls = server_context(certificate, key, is_mutual=False)
    servers.append(await serve(app, address, ports.api, tls))
    wiring.udp.inner = await open_heartbeats(
        address,
        ports.heartbeat,
        wiring.state.heartbeat_key(),
        next_start_stamp(wiring.places.state / "heartbeat-start"),
        wiring.services.heartbeats.receive,
    )


def _loops(wiring: Wiring) -> list[Coroutine[Any, Any, None]]:
    loops = [*wiring.services.loops(), wiring.etcd.run()]
    if wiring.config.ports.console:
        token = wiring.services.operations.console_token()
        loops.append(run_console(console_config(wiring.config, wiring.state.pki, token)))
    return loops


async def _guarded(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except ZugvogelError:
        raise
    except Exception:
        log.exception("a service of the agent ended by a defect")
        raise
