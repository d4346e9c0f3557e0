from __future__ import annotations

import asyncio

from fastapi import FastAPI

from tests.api.conftest import as_backend
from tests.api.fake_backend import FakeBackend
from zugvogel.api import loop_lag
from zugvogel.api.app import create_app
from zugvogel.api.loop_lag import KEPT, LoopLag


def test_the_largest_of_the_last_looks_is_told() -> None:
    lag = LoopLag()
    assert lag.largest_s() is None
    for late_s in (0.001, 0.2, -0.001):
        lag.seen(late_s)
    assert lag.largest_s() == 0.2
    for _ in range(KEPT):
        lag.seen(-0.5)
    assert lag.largest_s() == 0.0


async def test_it_is_measured_while_the_api_serves() -> None:
    app: FastAPI = create_app(as_backend(FakeBackend()), "THE CA")
    before, loop_lag.LOOKED_S = loop_lag.LOOKED_S, 0.001
    tasks = asyncio.all_tasks()
    try:
        async with app.router.lifespan_context(app), asyncio.timeout(10):
            while app.state.lag.largest_s() is None:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == tasks
    finally:
        loop_lag.LOOKED_S = before
