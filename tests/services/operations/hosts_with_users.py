"""Hosts whose replicas follow one registry in memory, with clocks of the test and passwords that take no time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from tests.fakes.registry import MemoryRegistry
from zugvogel.domain.cluster import Access, Cluster, Token
from zugvogel.domain.requests import NewUser
from zugvogel.domain.task import Event
from zugvogel.domain.user import Caller
from zugvogel.services.events import EventLog
from zugvogel.services.inventory import Inventory
from zugvogel.services.operations.access import AccessOperations
from zugvogel.services.operations.users import UserOperations
from zugvogel.services.operations.world import World

PASSWORD = "correct horse"


class SetClock:
    """It moves when the test says so, and not while somebody sleeps."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.now.timestamp()

    def now_iso(self) -> str:
        return self.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0.001)

    def pass_by(self, **span: float) -> None:
        self.now += timedelta(**span)


class OpenPasswords:
    """`verified`: the hashes that were looked at, in order."""

    nobody = "hash of nobody"

    def __init__(self) -> None:
        self.verified: list[str] = []
        self._salt = 0

    async def hash(self, password: str) -> str:
        self._salt += 1
        return f"{self._salt}:{password}"

    async def verify(self, hashed: str, password: str) -> bool:
        self.verified.append(hashed)
        return hashed.partition(":")[2] == password


class Host(AccessOperations, UserOperations):
    """One life of an agent."""

    def __init__(self, registry: MemoryRegistry, clock: SetClock, name: str = "host1") -> None:
        self.passwords = OpenPasswords()
        self.clock = clock
        self.inventory = Inventory(registry, clock, [])
        self.events = EventLog(name, registry, clock)
        world = World(
            me=name, registry=registry, inventory=self.inventory, events=self.events, clock=clock,
            **dict.fromkeys(("tasks", "peers", "vms", "datastores", "mounted", "statuses"), cast(Any, None)),
        )  # fmt: skip
        AccessOperations.__init__(self, world, self)
        UserOperations.__init__(self, world, self.passwords)

    async def add(self, name: str = "ada", access: Access = Access.OPERATOR) -> None:
        await self.new_user(NewUser(name=name, access=access, password=PASSWORD))

    async def told(self, kind: str) -> list[Event]:
        return await self.events.list(kind=kind)

    async def accepts(self, token: str) -> Caller:
        return await self.authenticate(token)


class Hosts:
    """`token`: of an admin, id "root"."""

    def __init__(self) -> None:
        self.registry = MemoryRegistry()
        self.clock = SetClock()
        self._followers: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        cluster = Cluster(id="c1", name="birds", created_at="")
        token = Token(id="root", access=Access.ADMIN, secret_sha256="f" * 64)
        await self.registry.put("cluster", cluster.model_dump_json().encode())
        await self.registry.put("tokens/root", token.model_dump_json().encode())

    async def start(self, name: str = "host1", clock: SetClock | None = None) -> Host:
        host = Host(self.registry, clock or self.clock, name)
        self._followers.append(asyncio.create_task(host.inventory.run()))
        async with asyncio.timeout(10):
            await host.inventory.is_loaded.wait()
        return host

    async def stop(self) -> None:
        for task in self._followers:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@asynccontextmanager
async def hosts() -> AsyncIterator[Hosts]:
    found = Hosts()
    await found.begin()
    try:
        yield found
    finally:
        await found.stop()


async def follows(condition: Any) -> None:
    """Until a replica shows it."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a replica tells nobody that it has followed
            await asyncio.sleep(0.001)
