"""zugvogel.agent.main: the order in which an agent stops"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

from tests.fakes.registry import MemoryRegistry
from tests.services.test_tasks import FastClock, stored
from zugvogel.adapters.peers.rpc_server import RunningServer
from zugvogel.agent import main
from zugvogel.bootstrap.wiring import Wiring
from zugvogel.domain.task import TaskState
from zugvogel.services import events
from zugvogel.services.events import EventLog
from zugvogel.services.tasks import TaskBoard, TaskCancelled, TaskContext


class World:
    """A real board and event log on a registry that goes away with etcd; the rest only notes when it ends."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.registry = MemoryRegistry()
        self.tasks = TaskBoard("host1", self.registry, FastClock())
        self.events = EventLog("host1", self.registry, FastClock())
        self.services = SimpleNamespace(tasks=self.tasks, events=self.events)
        self.etcd = SimpleNamespace(stop=self.stop_etcd)
        self.peers = SimpleNamespace(close=self.close_peers)
        self.server = SimpleNamespace(stop=self.stop_server)

    async def stop_etcd(self) -> None:
        self.order.append("registry")
        self.registry.is_reachable = False

    async def close_peers(self) -> None:
        self.order.append("peers")

    async def stop_server(self) -> None:
        self.order.append("server")

    async def service(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.order.append("service")

    async def stop(self) -> None:
        services = [asyncio.create_task(self.service())]
        await asyncio.sleep(0)
        await main._stop(cast(Wiring, self), [cast(RunningServer, self.server)], services)


async def test_work_ends_first_and_the_last_states_reach_the_registry() -> None:
    world = World()

    async def move(ctx: TaskContext) -> None:
        await ctx.cancel_requested.wait()
        world.order.append("work")
        world.events.emit("vm.migration-ended", "web1", "web1 stayed on host1")
        raise TaskCancelled("web1 runs on host1, untouched")

    task = world.tasks.start("vm.migrate", "web1", move, is_cancellable=True)
    await asyncio.sleep(0)
    await world.stop()
    assert world.order == ["work", "server", "service", "registry", "peers"]
    world.registry.is_reachable = True
    end = await stored(world.registry, task.id)
    assert end is not None
    assert end.state is TaskState.CANCELLED
    assert len(await world.registry.list(events.PREFIX)) == 1


async def test_an_agent_stops_without_a_registry_too() -> None:
    world = World()
    world.registry.is_reachable = False
    world.events.emit("vm.started", "web1", "web1 started")
    await world.stop()
    assert world.order == ["server", "service", "registry", "peers"]


async def test_a_service_that_ends_is_exit_1() -> None:
    async def broken() -> None:
        raise ValueError("defect")

    async def returns() -> None:
        return None

    for work in (broken, returns):
        task = asyncio.create_task(work())
        await asyncio.wait([task])
        assert main._exit_code("host1", [task]) == 1
    waiting = asyncio.create_task(asyncio.Event().wait())
    assert main._exit_code("host1", [cast("asyncio.Task[None]", waiting)]) == 0
    waiting.cancel()
