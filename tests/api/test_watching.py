"""What watchers are told, on their own: the topics are the test's, and nothing is timed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic_core import to_json

from zugvogel.api import watching
from zugvogel.api.watch_sources import Source, Things
from zugvogel.api.watching import QUEUED, READY, Topic, Watcher, Watching
from zugvogel.core.changes import Delta, merged
from zugvogel.errors import TooManyRequests, Unreachable
from zugvogel.ports.backend import Backend
from zugvogel.ports.caller import caller

SOON_S = 10.0
NEVER_S = 3600.0


class Vm(BaseModel):
    state: str
    host: int | None = None


class World:
    """What there is to see; each look waits until the test lets it."""

    def __init__(self, things: dict[str, Vm] | None = None) -> None:
        self.things = things or {}
        self.error: Exception | None = None
        self.looks = 0
        self.viewed = 0
        self.is_held = False
        self.go_on = asyncio.Event()

    async def read(self, _backend: Backend) -> Things:
        self.looks += 1
        if self.is_held:
            await self.go_on.wait()
        if self.error is not None:
            raise self.error
        return list(self.things.items())

    def view(self, thing: Vm) -> BaseModel:
        self.viewed += 1
        return thing

    def source(self) -> Source:
        return Source(NEVER_S, self.read, self.view)

    def watching(self, **more: World) -> Watching:
        worlds = {"vms": self, **more}
        return Watching(cast(Backend, None), {name: world.source() for name, world in worlds.items()})


def topic_of(hub: Watching, name: str = "vms") -> Topic:
    return hub._topics[name]


class Reader:
    """A watcher's other end: it merges what it is told."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.known: dict[str, dict[str, Any]] = {}
        self.told: list[tuple[str, Any]] = []

    async def one(self, timeout_s: float = SOON_S) -> tuple[str, Any] | None:
        raw = await self.watcher.next(timeout_s)
        if not raw:
            return None
        first, second, third, rest = raw.decode().split("\n")
        assert (first[:7], second[:6], third, rest) == ("event: ", "data: ", "", "")
        event, data = first[7:], json.loads(second[6:])
        self.told.append((event, data))
        if event in {"vms", "hosts"}:
            change = Delta(data["changed"], tuple(data["gone"]), data["whole"])
            self.known[event] = dict(merged(self.known.get(event, {}), change))
        return event, data

    async def all(self) -> list[tuple[str, Any]]:
        """All that can be told now."""
        before = len(self.told)
        while await self.one(0.0) is not None:
            continue
        return self.told[before:]


@asynccontextmanager
async def joined(hub: Watching, *topics: str) -> AsyncIterator[Reader]:
    async with hub.join(topics or ("vms",)) as watcher:
        yield Reader(watcher)


async def test_the_whole_comes_first_then_ready_then_what_changes() -> None:
    world = World({"web1": Vm(state="running", host=1)})
    hub = world.watching()
    async with joined(hub) as reader:
        first = {"web1": {"state": "running", "host": 1}}
        assert await reader.one() == ("vms", {"whole": True, "changed": first, "gone": []})
        assert await reader.one() == ("ready", {})
        world.things = {"web1": Vm(state="running", host=2), "web2": Vm(state="stopped")}
        await topic_of(hub).look()
        changed = {"web1": {"host": 2}, "web2": {"state": "stopped", "host": None}}
        assert await reader.one() == ("vms", {"whole": False, "changed": changed, "gone": []})
        world.things = {"web2": world.things["web2"]}
        await topic_of(hub).look()
        assert await reader.one() == ("vms", {"whole": False, "changed": {}, "gone": ["web1"]})
        await topic_of(hub).look()
        assert await reader.all() == []


async def test_a_topic_without_anything_is_told_as_whole_too() -> None:
    async with joined(World().watching()) as reader:
        assert await reader.one() == ("vms", {"whole": True, "changed": {}, "gone": []})
        assert await reader.one() == ("ready", {})


async def test_only_what_was_made_anew_is_looked_at_and_only_what_differs_is_told() -> None:
    world = World({"web1": Vm(state="running"), "web2": Vm(state="running")})
    hub = world.watching()
    async with joined(hub) as reader:
        await reader.one()
        await reader.one()
        assert world.viewed == 2
        world.things["web1"] = Vm(state="running")
        await topic_of(hub).look()
        assert world.viewed == 3
        await topic_of(hub).look()
        assert world.viewed == 3
        assert await reader.all() == []


async def test_one_look_serves_all_and_a_late_one_gets_the_whole_at_once() -> None:
    world = World({"web1": Vm(state="running")})
    hub = world.watching()
    async with joined(hub) as early:
        await early.one()
        world.things["web1"] = Vm(state="frozen")
        await topic_of(hub).look()
        async with joined(hub) as late:
            told = await late.one()
            assert told == (
                "vms",
                {"whole": True, "changed": {"web1": {"state": "frozen", "host": None}}, "gone": []},
            )
            await early.all()
            await late.all()
            assert early.known == late.known
            assert world.looks == 2


async def test_it_is_read_only_while_somebody_watches_and_nothing_is_left() -> None:
    before = asyncio.all_tasks()
    world = World()
    hub = world.watching()
    for _ in range(2):
        async with joined(hub) as one, joined(hub) as other:
            await one.one()
            await other.one()
        assert asyncio.all_tasks() == before
        assert hub.watchers == set()
        assert hub._topics == {}
    assert world.looks == 2


async def test_a_look_under_way_ends_with_the_last_watcher() -> None:
    before = asyncio.all_tasks()
    world = World()
    world.is_held = True
    hub = world.watching()
    async with joined(hub) as reader:
        while not world.looks:  # noqa: ASYNC110 - looks are counted
            await asyncio.sleep(0)
        assert await reader.all() == []
    assert asyncio.all_tasks() == before


async def test_only_what_is_asked_for_is_read() -> None:
    vms, hosts = World(), World()
    async with joined(vms.watching(hosts=hosts), "hosts") as reader:
        assert (await reader.one() or ("",))[0] == "hosts"
    assert (vms.looks, hosts.looks) == (0, 1)


async def test_ready_waits_for_all_topics_and_a_trouble_counts_as_told() -> None:
    vms, hosts = World({"web1": Vm(state="running")}), World()
    hosts.is_held = True
    hub = vms.watching(hosts=hosts)
    async with joined(hub, "vms", "hosts") as reader:
        assert (await reader.one() or ("",))[0] == "vms"
        assert await reader.all() == []
        hosts.error = Unreachable("no primary answers", "ask another host")
        hosts.go_on.set()
        trouble = {"topic": "hosts", "cause": "no primary answers", "next_step": "ask another host"}
        assert await reader.one() == ("trouble", trouble)
        assert await reader.one() == ("ready", {})
        hosts.error = None
        await topic_of(hub, "hosts").look()
        assert await reader.all() == [
            ("trouble", {"topic": "hosts", "cause": "", "next_step": ""}),
            ("hosts", {"whole": True, "changed": {}, "gone": []}),
        ]


async def test_trouble_is_told_once_a_change_and_what_was_known_stays() -> None:
    world = World({"web1": Vm(state="running")})
    hub = world.watching()
    async with joined(hub) as reader:
        await reader.one()
        await reader.one()
        world.error = Unreachable("no primary answers")
        await topic_of(hub).look()
        await topic_of(hub).look()
        assert [event for event, _ in await reader.all()] == ["trouble"]
        async with joined(hub) as late:
            assert [event for event, _ in await late.all()] == ["trouble", "vms", "ready"]
        world.error, world.things = None, {"web1": Vm(state="frozen")}
        await topic_of(hub).look()
        told = await reader.all()
        assert [event for event, _ in told] == ["trouble", "vms"]
        assert told[0][1]["cause"] == ""
        assert told[1][1] == {"whole": False, "changed": {"web1": {"state": "frozen"}}, "gone": []}


async def test_a_defect_of_one_topic_is_logged_once_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    hub = world.watching()
    async with joined(hub) as reader:
        await reader.one()
        await reader.one()
        world.error = KeyError("x")
        await topic_of(hub).look()
        await topic_of(hub).look()
        ((event, told),) = await reader.all()
        assert (event, told["topic"]) == ("trouble", "vms")
        assert "KeyError" in told["cause"]
    assert [r.levelname for r in caplog.records] == ["ERROR"]


async def test_who_does_not_keep_up_gets_the_whole_anew_and_no_backlog() -> None:
    world = World({"web1": Vm(state="running", host=0)})
    hub = world.watching()
    async with joined(hub) as slow, joined(hub) as quick:
        for reader in (slow, quick):
            await reader.one()
            await reader.one()
        for number in range(1, 5 * QUEUED):
            world.things = {"web1": Vm(state="running", host=number), f"new{number}": Vm(state="stopped")}
            await topic_of(hub).look()
            await quick.all()
        told = await slow.all()
        assert [data["whole"] for _, data in told] == [True]
        assert slow.known == quick.known
        assert [data.get("whole") for _, data in quick.told].count(True) == 1
        await topic_of(hub).look()
        assert await slow.all() == []


async def test_a_slow_one_is_told_of_the_other_topics_all_the_same() -> None:
    vms, hosts = World({"web1": Vm(state="running", host=0)}), World({"host1": Vm(state="live")})
    hub = vms.watching(hosts=hosts)
    async with joined(hub, "vms", "hosts") as reader:
        for _ in range(3):
            await reader.one()
        for number in range(1, 3 * QUEUED):
            vms.things = {"web1": Vm(state="running", host=number)}
            await topic_of(hub).look()
        hosts.things = {"host1": Vm(state="failed")}
        await topic_of(hub, "hosts").look()
        told = await reader.all()
        assert [(event, data["whole"]) for event, data in told] == [("vms", True), ("hosts", False)]


async def test_what_changes_while_a_whole_is_written_is_told_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "PORTION", 1)
    world = World({f"vm{n}": Vm(state="running", host=n) for n in range(20)})
    hub = world.watching()
    async with joined(hub) as reader:
        while topic_of(hub).things is None:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0)
        writing = asyncio.create_task(reader.one(0.0))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not writing.done()
        world.things = {f"vm{n}": Vm(state="frozen", host=n) for n in range(1, 20)}
        await topic_of(hub).look()
        told = await writing
        assert told is not None
        assert told[1]["changed"]["vm0"]["state"] == "running"
        await reader.all()
        assert reader.known["vms"] == {f"vm{n}": {"state": "frozen", "host": n} for n in range(1, 20)}


async def test_when_there_is_nothing_to_tell_the_asker_gets_nothing_in_time() -> None:
    async with joined(World().watching()) as reader:
        await reader.one()
        await reader.one()
        assert await reader.watcher.next(0.01) == b""


async def test_too_many_watchers_are_refused_and_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_WATCHERS", 1)
    hub = World().watching()
    async with joined(hub) as first:
        with pytest.raises(TooManyRequests, match="watch through this host"):
            async with joined(hub):
                pass
        assert hub.watchers == {first.watcher}
    async with joined(hub) as again:
        assert (await again.one() or ("",))[0] == "vms"


async def test_it_is_read_on_nobodys_word() -> None:
    seen: list[object] = []
    world = World()

    async def read(_backend: Backend) -> Things:
        seen.append(caller.get())
        return []

    hub = Watching(cast(Backend, None), {"vms": Source(NEVER_S, read, world.view)})
    token = caller.set(cast(Any, "user ada"))
    try:
        async with joined(hub) as reader:
            await reader.one()
    finally:
        caller.reset(token)
    assert seen == [None]


def test_infinities_and_line_breaks_stay_one_line_of_json() -> None:
    raw = watching.message("vms", to_json({"a": float("inf"), "b": "x\ny"}, inf_nan_mode="null"))
    assert raw == b'event: vms\ndata: {"a":null,"b":"x\\ny"}\n\n'
    assert READY.count(b"\n") == 3


VMS = st.builds(Vm, state=st.sampled_from(["running", "frozen"]), host=st.none() | st.integers(0, 2))
LOOKS = st.lists(
    st.tuples(st.dictionaries(st.sampled_from("abcd"), VMS), st.booleans(), st.integers(0, 3)), max_size=12
)


@settings(deadline=None, max_examples=60)
@given(LOOKS)
def test_however_slow_they_read_and_whatever_fails_all_know_the_same_in_the_end(looks: Any) -> None:
    """Two watchers: one reads after each look as many messages as chance says, one joins in the middle."""

    async def play() -> None:
        world = World()
        hub = world.watching()
        async with joined(hub) as slow:
            await slow.one()
            for number, (things, fails, reads) in enumerate(looks):
                world.things = things
                world.error = Unreachable("the test says so") if fails else None
                await topic_of(hub).look()
                for _ in range(reads):
                    await slow.one(0.0)
                if number == len(looks) // 2:
                    async with joined(hub) as late:
                        await late.all()
            world.error = None
            await topic_of(hub).look()
            async with joined(hub) as last:
                await last.all()
                await slow.all()
                assert slow.known == last.known == {"vms": {k: v.model_dump() for k, v in world.things.items()}}

    queued, watching.QUEUED = watching.QUEUED, 3
    try:
        asyncio.run(play())
    finally:
        watching.QUEUED = queued
