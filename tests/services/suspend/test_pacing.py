"""zugvogel.services.suspend.pacing"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from zugvogel.services.suspend.pacing import PACE_S, Pacing


class Machine:
    vm = "web1"

    def __init__(self) -> None:
        self.limits: list[int] = []

    async def limit_save(self, bps: int) -> None:
        self.limits.append(bps)


def nothing() -> None:
    """Waits on."""


async def test_one_save_at_a_time_on_a_datastore_and_others_beside_it() -> None:
    pacing, order = Pacing(lambda _: 0.0, lambda: 15.0), list[str]()

    async def save(name: str, datastore: str) -> None:
        async with pacing.turn(datastore, nothing):
            order.append(f"{name} begins")
            await asyncio.sleep(0.05)
            order.append(f"{name} ends")

    await asyncio.gather(save("a", "fast"), save("b", "fast"), save("c", "slow"))
    assert order[:2] == ["a begins", "c begins"]
    assert order[-2:] == ["b begins", "b ends"]


async def test_who_waits_can_give_up_and_a_turn_that_fails_is_passed_on() -> None:
    pacing = Pacing(lambda _: 0.0, lambda: 15.0)

    def give_up() -> None:
        raise RuntimeError("cancelled")

    async def fail() -> None:
        async with pacing.turn("shared", nothing):
            with pytest.raises(RuntimeError, match="cancelled"):
                async with pacing.turn("shared", give_up):
                    raise AssertionError("two at a time")
            raise ValueError("disk full")

    with pytest.raises(ValueError, match="disk full"):
        await fail()
    async with pacing.turn("shared", give_up):
        pass


async def test_the_writer_is_limited_by_late_beats_and_let_go_again() -> None:
    machine, beat = Machine(), {"shared": 2.0}
    any_machine: Any = machine
    writer = Pacing(lambda name: beat[name], lambda: 15.0).writer(any_machine, "shared", 0.0)
    await writer.look(1 << 30, PACE_S / 2)
    assert machine.limits == []
    await writer.look(1 << 30, 1.0)
    assert machine.limits == [1 << 29]
    beat["shared"] = 0.01
    written, now = 1 << 30, 1.0
    while writer.limit_bps and now < 60:
        now += 1.0
        written += 100 << 20  # the storage is slower than the limit
        await writer.look(written, now)
    assert machine.limits[-1] == 0
    assert sorted(machine.limits[:-1]) == machine.limits[:-1]
