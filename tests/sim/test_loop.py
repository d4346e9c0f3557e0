"""Virtual time: jumps, order, domains that are paused and ended."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from zugvogel.sim.clock import SimClock
from zugvogel.sim.loop import Domain, VirtualLoop


@pytest.fixture
def loop() -> VirtualLoop:
    return VirtualLoop()


def test_time_jumps_to_the_next_timer(loop: VirtualLoop) -> None:
    async def sleeps() -> float:
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time()

    assert loop.run_until_complete(sleeps()) == 86_400


def test_equal_instants_run_in_the_order_in_which_they_were_asked_for(loop: VirtualLoop) -> None:
    order: list[int] = []
    for number in range(50):
        loop.world_at(5.0, order.append, number)
    loop.run_until(5.0)
    assert order == list(range(50))


def test_run_until_stops_there_and_goes_on_from_there(loop: VirtualLoop) -> None:
    seen: list[float] = []
    for at in (1.0, 2.0, 3.0):
        loop.world_at(at, seen.append, at)
    loop.run_until(2.0)
    assert (seen, loop.now) == ([1.0, 2.0], 2.0)
    loop.run_until(10.0)
    assert (seen, loop.now) == ([1.0, 2.0, 3.0], 10.0)


def test_a_timer_that_is_cancelled_does_not_run(loop: VirtualLoop) -> None:
    seen: list[int] = []
    loop.world_at(1.0, seen.append, 1).cancel()
    loop.run_until(2.0)
    assert seen == []


def test_what_asyncio_offers_works(loop: VirtualLoop) -> None:
    async def work() -> str:
        lock, event = asyncio.Lock(), asyncio.Event()

        async def waker() -> None:
            async with lock:
                await asyncio.sleep(3)
            event.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(waker())
            await asyncio.wait_for(event.wait(), 10)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        return f"{loop.now:g}"

    assert loop.run_until_complete(work()) == "8"


def test_waiting_for_nothing_is_an_error_and_no_hang(loop: VirtualLoop) -> None:
    with pytest.raises(RuntimeError, match="nothing is left"):
        loop.run_until_complete(asyncio.Event().wait())


async def _ticks(loop: VirtualLoop, seen: list[float], every_s: float = 1.0) -> None:
    while True:
        await asyncio.sleep(every_s)
        seen.append(loop.now)


def test_a_paused_domain_does_nothing_until_it_is_resumed(loop: VirtualLoop) -> None:
    domain, seen = Domain(loop, "d"), list[float]()
    domain.spawn(_ticks(loop, seen))
    loop.run_until(2.5)
    domain.pause()
    loop.run_until(9.5)
    assert seen == [1.0, 2.0]
    domain.resume()
    loop.run_until(11.0)
    assert seen == [1.0, 2.0, 9.5, 10.5]


def test_tasks_of_tasks_belong_to_the_domain(loop: VirtualLoop) -> None:
    domain, seen = Domain(loop, "d"), list[float]()

    async def parent() -> None:
        child = asyncio.create_task(_ticks(loop, seen))
        await child

    domain.spawn(parent())
    loop.run_until(1.5)
    domain.pause()
    loop.run_until(5.0)
    assert seen == [1.0]


def test_an_ended_domain_runs_nothing_more_not_even_what_would_clean_up(loop: VirtualLoop) -> None:
    domain, seen = Domain(loop, "d"), list[str]()

    async def work() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            seen.append("cleaned up")

    domain.spawn(work())
    loop.run_until(1.0)
    domain.end()
    domain.resume()
    loop.run_until(100.0)
    assert seen == []
    assert loop.defects == []


def test_what_a_domain_is_told_while_paused_comes_in_order(loop: VirtualLoop) -> None:
    domain, seen = Domain(loop, "d"), list[int]()
    queue: asyncio.Queue[int] = asyncio.Queue()

    async def reads() -> None:
        while True:
            seen.append(await queue.get())

    domain.spawn(reads())
    loop.run_until(0.5)
    domain.pause()
    for number in range(3):
        loop.world_at(1.0 + number, queue.put_nowait, number)
    loop.run_until(5.0)
    assert seen == []
    domain.resume()
    loop.run_until(5.0)
    assert seen == [0, 1, 2]


def test_the_context_of_a_callback_decides_its_domain_not_who_caused_it(loop: VirtualLoop) -> None:
    one, other = Domain(loop, "one"), Domain(loop, "other")
    answer: asyncio.Future[str] = loop.create_future()
    got: list[str] = []

    async def asks() -> None:
        got.append(await answer)

    async def answers() -> None:
        answer.set_result("yes")
        one.pause()

    one.spawn(asks())
    loop.run_until(1.0)
    other.spawn(answers())
    loop.run_until(2.0)
    assert got == []
    one.resume()
    loop.run_until(3.0)
    assert got == ["yes"]


def test_close_leaves_nothing_running(loop: VirtualLoop) -> None:
    domain = Domain(loop, "d")
    domain.spawn(_ticks(loop, []))
    loop.run_until(1.0)
    domain.end()
    loop.close()
    assert loop.is_closed()


def test_a_clock_has_its_own_rate_and_goes_on_while_its_host_stands_still(loop: VirtualLoop) -> None:
    domain = Domain(loop, "d")
    clock = SimClock(loop, rate=1.1, started_at_s=100.0)
    seen: list[float] = []

    async def sleeps() -> None:
        await clock.sleep(11.0)
        seen.append(loop.now)

    domain.spawn(sleeps())
    loop.run_until(1.0)
    domain.pause()
    loop.run_until(20.0)
    assert clock.monotonic() == pytest.approx(122.0)
    domain.resume()
    loop.run_until(20.0)
    assert seen == [20.0]


def test_a_clock_that_is_fast_sleeps_shorter(loop: VirtualLoop) -> None:
    clock = SimClock(loop, rate=1.1)
    loop.run_until_complete(_sleeps(clock))
    assert loop.now == pytest.approx(10.0)
    assert clock.now_iso() == "2030-01-01T00:00:11.000Z"


async def _sleeps(clock: SimClock) -> None:
    await clock.sleep(11.0)


def test_a_sleep_of_a_domain_that_is_paused_ends_when_that_goes_on(loop: VirtualLoop) -> None:
    domain, woken = Domain(loop, "agent"), []

    async def sleeps() -> None:
        await loop.sleep(5.0)
        woken.append(loop.now)

    domain.spawn(sleeps())
    loop.run_until(1.0)
    domain.pause()
    loop.run_until(10.0)
    assert woken == []
    domain.resume()
    loop.run_until(10.0)
    assert woken == [10.0]


def test_a_sleep_that_is_cancelled_moves_no_time(loop: VirtualLoop) -> None:
    async def gives_up() -> float:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await loop.sleep(5.0)
        return loop.now

    assert loop.run_until_complete(gives_up()) == 1.0


def test_work_for_a_thread_is_done_at_once(loop: VirtualLoop) -> None:
    async def work() -> int:
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        return await asyncio.to_thread(lambda: 42)

    assert loop.run_until_complete(work()) == 42


def test_tasks_of_a_domain_that_have_ended_are_forgotten(loop: VirtualLoop) -> None:
    domain = Domain(loop, "agent")

    async def nothing() -> None: ...

    for _ in range(1000):
        domain.spawn(nothing())
        loop.run_until(loop.now)
    assert len(domain.tasks) < 100


def test_it_runs_within_another_loop_which_goes_on_afterwards(loop: VirtualLoop) -> None:
    async def inner() -> bool:
        return asyncio.get_running_loop() is loop

    async def outer() -> tuple[bool, bool]:
        around = asyncio.get_running_loop()
        found = loop.run_until_complete(inner())
        await asyncio.sleep(0)
        return found, asyncio.get_running_loop() is around

    assert asyncio.run(outer()) == (True, True)
