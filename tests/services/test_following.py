"""zugvogel.services.following"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

from zugvogel.domain.datastore import Datastore
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.following import cut_off_all, follow
from zugvogel.services.rounds import Rounds


class Kept:
    """Its rounds never end by themselves."""

    def __init__(self, mounted: MountedDatastore) -> None:
        self.mounted = mounted
        self.rounds = Rounds(asyncio.Event().wait)


def mount(name: str, id: str = "1") -> MountedDatastore:
    datastore = Datastore(name=name, id=id, path=f"/srv/{name}", kind="NFS v4", is_shared=True)
    return cast(MountedDatastore, SimpleNamespace(datastore=datastore))


async def under_way(kept: Kept) -> Rounds:
    assert kept.rounds.begin()
    await asyncio.sleep(0)
    return kept.rounds


async def is_cut_off(rounds: Rounds) -> bool:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return rounds.begin()  # only once the one before has ended


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
    all_rounds = [await under_way(each) for each in kept.values()]
    assert follow(kept, [kept["b"].mounted], Kept)
    assert list(kept) == ["b"]
    assert [await is_cut_off(rounds) for rounds in all_rounds] == [True, False]
    cut_off_all(kept)
    assert await is_cut_off(all_rounds[1])


async def test_one_that_is_opened_anew_goes_on_and_one_that_became_another_does_not() -> None:
    kept: dict[str, Kept] = {}
    follow(kept, [mount("a")], Kept)
    first, rounds = kept["a"], await under_way(kept["a"])
    again = mount("a")
    assert not follow(kept, [again], Kept)
    assert (kept["a"] is first, first.mounted is again, await is_cut_off(rounds)) == (True, True, False)
    assert not follow(kept, [mount("a", id="2")], Kept)
    assert (kept["a"] is first, kept["a"].rounds is rounds, await is_cut_off(rounds)) == (False, False, True)
