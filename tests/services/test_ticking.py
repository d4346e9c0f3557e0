import logging

import pytest

from tests.services.liveness_world import ManualClock
from zugvogel.errors import Unreachable
from zugvogel.services.ticking import Gaps, run_all_every, run_every


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
        if len(ticks) == 5:
            raise Unreachable("nobody answers", "look")

    with caplog.at_level(logging.INFO), pytest.raises(Stop):
        await run_every(clock, lambda: 1.0, tick, "thing")
    assert ticks == [1000.0, 1001.0, 1002.0, 1003.0, 1004.0, 1005.0]
    told = [(r.levelname, r.getMessage(), bool(r.exc_info)) for r in caplog.records]
    assert told == [
        ("ERROR", "thing: ValueError: the cause", True),
        ("WARNING", "thing: nobody answers; look", False),
    ]


async def test_the_end_of_a_failure_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    outcomes: list[type[BaseException] | None] = [Unreachable, Unreachable, None, None, Stop]

    async def tick() -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome("nobody answers")

    with caplog.at_level(logging.INFO), pytest.raises(Stop):
        await run_every(ManualClock(), lambda: 1.0, tick, "thing")
    assert [r.getMessage() for r in caplog.records] == ["thing: nobody answers", "thing: works again"]


def test_a_loop_that_stood_still_is_late_and_a_shortened_interval_makes_it_so_from_then_on() -> None:
    clock, interval_s = ManualClock(), 1.0
    gaps = Gaps(clock, lambda: interval_s, 3)
    clock.now += 3.0
    assert (gaps.is_late(), gaps.tick()) == (False, False)
    clock.now += 3.1
    assert (gaps.is_late(), gaps.tick(), gaps.is_late()) == (True, True, False)
    interval_s = 0.333
    clock.now += 1.0
    assert (gaps.is_late(), gaps.tick()) == (False, False)
    clock.now += 1.0
    assert (gaps.is_late(), gaps.tick()) == (True, True)
    interval_s = 1.0
    clock.now += 1.0
    assert not gaps.tick()


async def test_ticks_that_share_a_loop_come_in_order_and_a_failing_one_holds_up_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, ticked = ManualClock(), []

    async def failing() -> None:
        ticked.append(("failing", clock.now))
        if len(ticked) < 4:
            raise Unreachable("nobody answers", "look")

    async def other() -> None:
        ticked.append(("other", clock.now))
        if len(ticked) == 6:
            raise Stop

    with caplog.at_level(logging.INFO), pytest.raises(Stop):
        await run_all_every(clock, lambda: 2.0, {"first": failing, "second": other})
    assert ticked == [(name, at) for at in (1000.0, 1002.0, 1004.0) for name in ("failing", "other")]
    assert [r.getMessage() for r in caplog.records] == ["first: nobody answers; look", "first: works again"]
