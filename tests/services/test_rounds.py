"""zugvogel.services.rounds: one at a time, and none too few."""

from __future__ import annotations

import asyncio

from zugvogel.services.rounds import Rounds


class Work:
    """A round of it ends when it `may_end`."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.begun = self.ended = 0
        self.error: BaseException | None = None

    async def round(self) -> None:
        self.begun += 1
        await self.may_end.wait()
        if self.error is not None:
            raise self.error
        self.ended += 1


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_at_a_time() -> None:
    work = Work()
    rounds = Rounds(work.round)
    assert rounds.begin()
    assert not rounds.begin()  # it has not run yet
    await settle()
    assert not rounds.begin()
    assert (work.begun, work.ended) == (1, 0)
    work.may_end.set()
    for number in (1, 2, 3):
        await settle()
        assert (work.begun, work.ended) == (number, number)
        assert rounds.begin()
        assert not rounds.begin()
    rounds.cut_off()


async def test_after_one_that_failed_or_was_cut_off_the_next_one_begins() -> None:
    work = Work()
    rounds = Rounds(work.round)
    for error in (ValueError("a defect"), asyncio.CancelledError()):
        work.error = error
        work.may_end.set()
        assert rounds.begin()
        await settle()
    work.error = None
    assert rounds.begin()
    await settle()
    assert work.ended == 1
    rounds.cut_off()  # between two
    await settle()
    work.may_end.clear()
    assert rounds.begin()
    await settle()
    rounds.cut_off()  # in one
    await settle()
    work.may_end.set()
    assert rounds.begin()
    await settle()
    assert work.ended == 2
    rounds.cut_off()
