"""The web console over a simulated cluster: the product's own, in a process of its own."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from zugvogel.adapters.console_process import is_open, run_console, wait_until_open
from zugvogel.domain.cluster import Access
from zugvogel.domain.requests import NewUser
from zugvogel.errors import InvalidInput
from zugvogel.sim.serving import LOOPBACK, Secured, Served

USER = "admin"
OPENS_S = 30.0


@dataclass(frozen=True, slots=True)
class Door:
    """Where people go in, and as whom."""

    url: str
    user: str
    password: str


@asynccontextmanager
async def console_over(served: Served, port: int, secured: Secured | None = None) -> AsyncIterator[Door]:
    """Once it listens on loopback, with a user made for it who may do everything. Raises InvalidInput for a
    port that is taken, and ProcedureFailed."""
    if await is_open(LOOPBACK, port):
        raise InvalidInput(f"something listens on port {port} already", "choose another port for the console")
    password = secrets.token_urlsafe(9)
    await served.backend.new_user(NewUser(name=USER, access=Access.ADMIN, password=password))
    running = asyncio.create_task(run_console(_config(served, port, secured)), name="the web console")
    try:
        await wait_until_open(LOOPBACK, port, OPENS_S)
        yield Door(f"{'https' if secured else 'http'}://{LOOPBACK}:{port}", USER, password)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def _config(served: Served, port: int, secured: Secured | None) -> dict[str, Any]:
    """A `zugvogel.console.config.ConsoleConfig`."""
    files = (secured.ca_file, secured.certificate_file, secured.key_file) if secured else ("", "", "")
    ca, certificate, key = map(str, files)
    return {
        "host": next(iter(served.real_time.world.hosts)),
        "address": LOOPBACK,
        "port": port,
        "api_urls": [served.url],
        "token": served.backend.console_token(),
        "ca_file": ca,
        "certificate": certificate,
        "key": key,
    }
