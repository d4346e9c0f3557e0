"""zugvogel.services.following"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

from zugvogel.domain.datastore import Datastore
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.following import cut_off_all, follow


@dataclass(slots=True)
class Kept:
    mounted: MountedDatastore
    task: asyncio.Task[None] | None = None


def mount(name: str, id: str = "1") -> MountedDatastore:
    datastore = Datastore(name=name, id=id, path=f"/srv/{name}", kind="NFS v4", is_shared=True)
    return cast(MountedDatastore, SimpleNamespace(datastore=datastore))


async def under_way(kept: Kept) -> asyncio.Task[None]:
    kept.task = asyncio.create_task(asyncio.sleep(3600))
    await asyncio.sleep(0)
    return kept.task


async def is_cut_off(task: asyncio.Task[None]) -> bool:
    await asyncio.sleep(0)
    return task.cancelled()


async def test_each_datastore_is_kept_once_and_stays_the_same() -> None:
    kept: dict[str, Kept] = {}
    one, two = mount("a"), mount("b")
    assert not follow(kept, [one, two], Kept)
    before = dict(kept)
    assert not follow(kept, [one, two], Kept)
    assert list(kept) == ["a", "b"]
    assert all(kept[name] is before[name] for name in kept)


async def test_one_that_is_gone_is_forgotten_and_its_round_ends() -> None:
    kept: dict[str, Kept] = {}
    follow(kept, [mount("a"), mount("b")], Kept)
    tasks = [await under_way(each) for each in kept.values()]
    assert follow(kept, [kept["b"].mounted], Kept)
    assert list(kept) == ["b"]
    assert [await is_cut_off(task) for task in tasks] == [True, False]
    cut_off_all(kept)
    assert await is_cut_off(tasks[1])


async def test_one_that_is_opened_anew_goes_on_and_one_that_became_another_does_not() -> None:
    kept: dict[str, Kept] = {}
    follow(kept, [mount("a")], Kept)
    first, task = kept["a"], await under_way(kept["a"])
    again = mount("a")
    assert not follow(kept, [again], Kept)
    assert (kept["a"] is first, first.mounted is again, await is_cut_off(task)) == (True, True, False)
    assert not follow(kept, [mount("a", id="2")], Kept)
    assert (kept["a"] is first, kept["a"].task, await is_cut_off(task)) == (False, None, True)
