from __future__ import annotations

import asyncio
import errno
import threading
from functools import partial

import pytest

from zugvogel.adapters.datastore.deadline import Deadlines
from zugvogel.errors import DeadlineExceeded, NotFound, StorageError


async def test_results_and_our_errors_pass_through() -> None:
    deadlines = Deadlines("store")
    assert await deadlines.run("x", lambda: 7) == 7

    def refuse() -> None:
        raise NotFound("no")

    with pytest.raises(NotFound):
        await deadlines.run("x", refuse)


async def test_an_os_error_becomes_one_plain_cause() -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match="store is full; free space"):
        await Deadlines("store").run("x", fail)


async def test_hung_calls_end_at_the_deadline_and_all_hung_fails_at_once_until_they_return() -> None:
    deadlines = Deadlines("store", threads=2, deadline_s=0.05)
    gate = threading.Event()
    with pytest.raises(DeadlineExceeded, match=r"writing on store took longer than 0\.05 s"):
        await deadlines.run("writing", gate.wait)
    assert await deadlines.run("x", lambda: 1, 30) == 1  # one thread is left
    with pytest.raises(DeadlineExceeded):
        await deadlines.run("writing", gate.wait)
    with pytest.raises(DeadlineExceeded, match="2 calls to it do not come back"):
        await deadlines.run("x", lambda: 1, 30)
    gate.set()
    for _ in range(500):
        try:
            assert await deadlines.run("x", lambda: 1, 30) == 1
        except DeadlineExceeded:
            await asyncio.sleep(0.01)
        else:
            return
    pytest.fail("the threads did not come back")


async def test_more_calls_than_threads_take_turns() -> None:
    deadlines = Deadlines("store", threads=2)
    assert await asyncio.gather(*(deadlines.run("x", partial(int, i)) for i in range(20))) == list(range(20))
