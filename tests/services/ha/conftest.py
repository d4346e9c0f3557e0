"""Worlds of several hosts that are always closed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.services.ha.failover_world import World

Make = Callable[..., Any]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[World] = []

    async def build(hosts: int = 3, *, settings: dict[str, Any] | None = None, **more: Any) -> World:
        world = World(hosts, **more)
        await world.begin(**(settings or {}))
        made.append(world)
        return world

    yield build
    for world in made:
        await world.close()


async def web_lost(make: Make, hosts: int = 3, **more: Any) -> World:
    """The vm web ran on h1, which has just failed."""
    world: World = await make(hosts, **more)
    await world.add("web")
    world.fail("h1")
    return world
