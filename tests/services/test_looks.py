"""zugvogel.services.looks: of each place one look at a time, none behind another."""

from __future__ import annotations

import asyncio

from zugvogel.errors import Unreachable
from zugvogel.services.looks import Looks


class Place:
    """A look at it ends when it `answers`."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.begun = self.ended = 0

    async def look(self) -> None:
        self.begun += 1
        await self.answers.wait()
        self.ended += 1


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_that_hangs_holds_up_no_other_and_is_looked_at_once() -> None:
    looks, hung, healthy = Looks("orders"), Place(), Place()
    healthy.answers.set()
    for _ in range(3):
        looks.begin("hung", hung.look)
        looks.begin("healthy", healthy.look)
        await settle()
    assert (hung.begun, hung.ended) == (1, 0)
    assert (healthy.begun, healthy.ended) == (3, 3)
    hung.answers.set()
    await looks.over()
    looks.begin("hung", hung.look)
    await looks.over()
    assert hung.ended == 2


async def test_news_that_come_during_a_look_are_looked_at_after_it() -> None:
    looks, place = Looks("orders"), Place()
    looks.begin("a", place.look)
    await settle()
    for _ in range(3):
        looks.begin("a", place.look, is_news=True)
    place.answers.set()
    await looks.over()
    assert place.ended == 2


async def test_a_look_that_fails_is_no_reason_not_to_look_again() -> None:
    looks, place = Looks("orders"), Place()

    async def fails() -> None:
        raise Unreachable("it is away")

    async def is_broken() -> None:
        raise RuntimeError("a defect")

    for look in (fails, is_broken):
        looks.begin("a", look)
        await looks.over()
    place.answers.set()
    looks.begin("a", place.look)
    await looks.over()
    assert place.ended == 1


async def test_nothing_is_left_after_the_stop() -> None:
    looks, place = Looks("orders"), Place()
    looks.begin("a", place.look)
    await settle()
    looks.begin("a", place.look, is_news=True)
    await looks.stop()
    await looks.over()
    assert (place.begun, place.ended) == (1, 0)


async def test_the_tasks_that_look_stay_as_many_as_were_needed_and_end_with_the_stop() -> None:
    looks, others = Looks("orders"), asyncio.all_tasks()
    places = [Place() for _ in range(3)]
    for _ in range(2):
        for number, place in enumerate(places):
            place.answers.set()
            looks.begin(str(number), place.look)
        await looks.over()
    assert [place.ended for place in places] == [2, 2, 2]
    assert len(asyncio.all_tasks() - others) == 3
    await looks.stop()
    assert asyncio.all_tasks() == others
    looks.begin("0", places[0].look)
    await looks.over()
    assert places[0].ended == 3
    await looks.stop()


async def test_what_is_begun_while_it_stops_is_no_error() -> None:
    looks, place = Looks("orders"), Place()
    place.answers.set()
    looks.begin("a", place.look)
    await looks.over()
    stopping = asyncio.create_task(looks.stop())
    await asyncio.sleep(0)
    looks.begin("a", place.look)
    await stopping
    await looks.stop()
    assert place.begun == place.ended
