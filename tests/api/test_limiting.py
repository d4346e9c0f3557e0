from __future__ import annotations

import asyncio
import time

import pytest

from zugvogel.api import limiting
from zugvogel.api.limiting import BEARERS, LOGINS, Limits
from zugvogel.errors import Forbidden, TooManyRequests, Unreachable


async def fail(limits: Limits, user: str, client: str) -> None:
    with pytest.raises(Forbidden):
        async with limits.login(user, client):
            raise Forbidden("wrong")


async def succeed(limits: Limits, user: str, client: str) -> None:
    async with limits.login(user, client):
        pass


@pytest.fixture
def limits() -> Limits:
    return Limits()


async def test_a_user_is_guessed_at_from_many_addresses(limits: Limits) -> None:
    for number in range(LOGINS.amount):
        await fail(limits, "ada", f"192.0.2.{number}")
    with pytest.raises(TooManyRequests, match="of this user"):
        await succeed(limits, "ada", "192.0.2.99")
    await succeed(limits, "bob", "192.0.2.1")


async def test_one_address_guesses_at_many_users(limits: Limits) -> None:
    for number in range(LOGINS.amount):
        await fail(limits, f"user{number}", "192.0.2.7")
    with pytest.raises(TooManyRequests, match="from this address") as refused:
        await succeed(limits, "ada", "192.0.2.7")
    assert 1 <= refused.value.retry_after_s <= 60
    await succeed(limits, "ada", "192.0.2.8")


async def test_only_failures_count(limits: Limits) -> None:
    for _ in range(LOGINS.amount * 3):
        await succeed(limits, "ada", "192.0.2.7")
        with pytest.raises(Unreachable):
            async with limits.login("ada", "192.0.2.7"):
                raise Unreachable("no answer")
    await fail(limits, "ada", "192.0.2.7")


async def test_after_the_wait_that_was_told_it_goes_on(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(LOGINS.amount):
        await fail(limits, "ada", "192.0.2.7")
    with pytest.raises(TooManyRequests) as refused:
        await succeed(limits, "ada", "192.0.2.7")
    later = time.time() + refused.value.retry_after_s
    monkeypatch.setattr(time, "time", lambda: later)
    await succeed(limits, "ada", "192.0.2.7")


async def test_many_at_once_are_no_more_guesses_than_in_a_row(limits: Limits) -> None:
    guesses = 0

    async def guess() -> None:
        nonlocal guesses
        async with limits.login("ada", "192.0.2.7"):
            guesses += 1
            await asyncio.sleep(0)
            raise Forbidden("wrong")

    ended = await asyncio.gather(*(guess() for _ in range(200)), return_exceptions=True)
    assert all(isinstance(end, (Forbidden, TooManyRequests)) for end in ended)
    assert LOGINS.amount <= guesses < LOGINS.amount + limiting.AT_ONCE


async def test_few_wait_for_their_turn(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "WAITING", 1)
    go_on = asyncio.Event()
    let_in = 0

    async def log_in(number: int) -> None:
        nonlocal let_in
        async with limits.login(f"user{number}", f"192.0.2.{number}"):
            let_in += 1
            await go_on.wait()

    running = [asyncio.create_task(log_in(n)) for n in range(limiting.AT_ONCE + 1)]
    async with asyncio.timeout(10):
        while let_in < limiting.AT_ONCE:  # noqa: ASYNC110 - they tell nobody that they are in
            await asyncio.sleep(0)
    with pytest.raises(TooManyRequests, match="being checked"):
        await log_in(9)
    go_on.set()
    await asyncio.gather(*running)
    assert let_in == limiting.AT_ONCE + 1


async def test_who_gives_up_waiting_leaves_a_place(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "WAITING", 1)
    async with limits.login("a", "1"), limits.login("b", "2"):
        waits = asyncio.create_task(succeed(limits, "c", "3"))
        await asyncio.sleep(0)
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
        follows = asyncio.create_task(succeed(limits, "d", "4"))
        await asyncio.sleep(0)
    await follows


async def test_wrong_bearers_of_an_address(limits: Limits) -> None:
    for _ in range(BEARERS.amount):
        limits.wrong_bearer("192.0.2.7")
    with pytest.raises(TooManyRequests, match="more than 60 wrong tokens"):
        limits.wrong_bearer("192.0.2.7")
    limits.wrong_bearer("192.0.2.8")
