from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.fakes.registry import MemoryRegistry
from tests.services.liveness_world import ManualClock
from zugvogel.domain.base import Model
from zugvogel.ports.registry import Entry
from zugvogel.services import recent
from zugvogel.services.recent import FORGOTTEN_S, READ_EVERY_S, SHOWN, Kind, Recent
from zugvogel.services.sortable_id import encode

EPOCH_MS = 946_684_800_000
"""Of the clock's time."""


class Record(Model):
    text: str
    is_final: bool = True


class Registry(MemoryRegistry):
    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    async def list(self, prefix: str, *, stale_ok: bool = False) -> list[Entry]:
        assert stale_ok
        self.reads.append(prefix)
        return await super().list(prefix, stale_ok=stale_ok)

    async def get(self, key: str, *, stale_ok: bool = False) -> Entry | None:
        self.reads.append(key)
        return await super().get(key, stale_ok=stale_ok)


class World:
    def __init__(self, **kind: Any) -> None:
        self.registry, self.clock = Registry(), ManualClock()
        self.own: dict[str, Record] = {}
        self.parsed = 0
        kind = {"is_final": lambda record: record.is_final, **kind}
        self.recent = Recent(
            Kind("things/", self.parse, lambda: dict(self.own), **kind), self.registry, self.clock
        )

    def parse(self, entry: Entry) -> Record | None:
        self.parsed += 1
        return None if entry.value == b"?" else Record.model_validate_json(entry.value)

    async def put(self, record_id: str, text: str, *, is_final: bool = True) -> None:
        await self.registry.put(
            f"things/{record_id}", Record(text=text, is_final=is_final).model_dump_json().encode()
        )

    async def told(self) -> list[str]:
        return [record.text for record in await self.recent.newest()]

    def pass_time(self, seconds: float = READ_EVERY_S) -> None:
        self.clock.now += seconds


def id_at(ago_s: float, sign: int = 0) -> str:
    return encode(EPOCH_MS - int(ago_s * 1000), 10) + encode(sign, 4)


async def test_what_lies_in_the_registry_and_what_is_held_here_oldest_first() -> None:
    world = World()
    await world.put(id_at(20), "theirs")
    await world.put(id_at(10), "an old copy of ours")
    world.own = {id_at(10): Record(text="ours"), id_at(5): Record(text="not copied yet")}
    assert await world.told() == ["theirs", "ours", "not copied yet"]


async def test_the_registry_is_read_once_a_second_and_ours_are_told_at_once() -> None:
    world = World()
    await world.told()
    reads = len(world.registry.reads)
    world.own = {id_at(5): Record(text="ours")}
    assert await world.told() == ["ours"]
    assert len(world.registry.reads) == reads
    world.pass_time()
    await world.told()
    assert len(world.registry.reads) > reads


async def test_later_reads_ask_for_what_is_new_and_parse_what_changed() -> None:
    world = World()
    await world.put(id_at(10_000), "old")
    await world.put(id_at(10), "young")
    first = await world.recent.newest()
    assert world.registry.reads == ["things/"]
    assert world.parsed == 2
    world.pass_time()
    await world.put(id_at(1), "new")
    second = await world.recent.newest()
    assert [record.text for record in second] == ["old", "young", "new"]
    assert second[:2] == first
    assert all(one is other for one, other in zip(first, second, strict=False)), "the same objects"
    assert "things/" not in world.registry.reads[1:]
    assert world.parsed == 3


async def test_what_comes_late_with_an_older_id_is_found() -> None:
    world = World()
    await world.put(id_at(1), "first")
    await world.told()
    world.pass_time()
    await world.put(id_at(30), "late")
    assert await world.told() == ["late", "first"]


async def test_an_old_one_that_is_not_final_is_followed_to_its_end() -> None:
    world = World()
    await world.put(id_at(50_000), "runs", is_final=False)
    assert await world.told() == ["runs"]
    world.pass_time()
    await world.put(id_at(50_000), "done")
    assert await world.told() == ["done"]
    reads = len(world.registry.reads)
    world.pass_time()
    assert await world.told() == ["done"]
    assert f"things/{id_at(50_000)}" not in world.registry.reads[reads:]


async def test_one_that_was_deleted_or_spoiled_is_forgotten() -> None:
    world = World()
    await world.put(id_at(50_000), "runs", is_final=False)
    await world.put(id_at(60_000), "runs too", is_final=False)
    await world.told()
    world.pass_time()
    await world.registry.delete(f"things/{id_at(50_000)}")
    await world.registry.put(f"things/{id_at(60_000)}", b"?")
    assert await world.told() == []


async def test_the_newest_and_all_that_are_not_final_are_told() -> None:
    world = World()
    await world.put(id_at(90_000), "still runs", is_final=False)
    for number in range(SHOWN + 5):
        await world.put(id_at(1000 - number), str(number))
    assert await world.told() == ["still runs", *map(str, range(5, SHOWN + 5))]
    world.pass_time()
    assert len(await world.told()) == SHOWN + 1


async def test_of_those_that_never_change_only_the_newest_are_parsed() -> None:
    world = World(are_all_final=True)
    for number in range(SHOWN + 5):
        await world.put(id_at(1000 - number), str(number))
    assert await world.told() == list(map(str, range(5, SHOWN + 5)))
    assert world.parsed == SHOWN


async def test_without_the_registry_the_last_known_and_ours() -> None:
    world = World()
    await world.put(id_at(10), "theirs")
    await world.told()
    world.registry.is_reachable = False
    world.own = {id_at(5): Record(text="ours")}
    world.pass_time()
    assert await world.told() == ["theirs", "ours"]
    world.registry.is_reachable = True
    await world.put(id_at(1), "new")
    world.pass_time()
    assert await world.told() == ["theirs", "ours", "new"]


async def test_a_registry_that_hangs_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "WHOLE_S", 0.01)
    world = World()
    world.own = {id_at(5): Record(text="ours")}

    async def hang(prefix: str, *, stale_ok: bool = False) -> list[Entry]:
        await asyncio.Event().wait()
        return []

    with monkeypatch.context() as hung:
        hung.setattr(world.registry, "list", hang)
        assert await world.told() == ["ours"]
    await world.put(id_at(1), "new")
    world.pass_time()
    assert await world.told() == ["ours", "new"]


async def test_after_a_long_pause_all_is_read_anew() -> None:
    world = World()
    await world.told()
    world.pass_time(FORGOTTEN_S)
    await world.told()
    assert world.registry.reads == ["things/", "things/"]
