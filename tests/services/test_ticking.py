import logging

import pytest

from tests.services.liveness_world import ManualClock
from zugvogel.services.ticking import run_every


class Stop(BaseException):
    pass


async def test_a_failing_tick_is_logged_once_and_never_ends_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    ticks: list[float] = []
    clock = ManualClock()

    async def tick() -> None:
        ticks.append(clock.now)
        if len(ticks) == 6:
            raise Stop
        if len(ticks) in (2, 3, 4):
            clock.now += 0.25
            raise ValueError("the cause")

    with caplog.at_level(logging.INFO), pytest.raises(Stop):
        await run_every(clock, lambda: 1.0, tick, "thing")
    assert ticks == [1000.0, 1001.0, 1002.0, 1003.0, 1004.0, 1005.0]
    assert [r.getMessage() for r in caplog.records] == ["thing: ValueError: the cause", "thing: works again"]
