from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from zugvogel.console import mirror as mirror_module
from zugvogel.console.mirror import Mirror
from zugvogel.errors import Unreachable


def message(changed: dict[str, Any], *, whole: bool = False, gone: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"whole": whole, "changed": changed, "gone": list(gone)}


def test_later_messages_hold_only_what_changed() -> None:
    mirror = Mirror()
    mirror.take(
        "hosts", message({"host1": {"name": "host1", "load1": 0.5}, "host2": {"name": "host2"}}, whole=True)
    )
    before = mirror.one("hosts", "host1")
    mirror.take("hosts", message({"host1": {"load1": 0.7}}, gone=("host2",)))
    assert mirror.all("hosts") == [{"name": "host1", "load1": 0.7}]
    assert before == {"name": "host1", "load1": 0.5}, "what somebody holds is not changed under him"


def test_a_whole_message_replaces_what_was_known() -> None:
    mirror = Mirror()
    mirror.take("vms", message({"a": {"name": "a"}}, whole=True))
    mirror.take("vms", message({"b": {"name": "b"}}, whole=True))
    assert list(mirror.topics["vms"]) == ["b"]


def test_old_events_are_dropped(monkeypatch: Any) -> None:
    monkeypatch.setattr(mirror_module, "MAX_EVENTS", 2)
    mirror = Mirror()
    mirror.take("events", message({key: {"id": key} for key in ("03", "01", "02")}, whole=True))
    assert sorted(mirror.topics["events"]) == ["02", "03"]


def test_trouble_is_told_and_taken_back() -> None:
    mirror = Mirror()
    mirror.take("trouble", {"topic": "tasks", "cause": "no majority", "next_step": ""})
    assert mirror.trouble == {"tasks": "no majority"}
    mirror.take("trouble", {"topic": "tasks", "cause": "", "next_step": ""})
    assert mirror.trouble == {}


async def test_waiters_wake_with_each_message() -> None:
    mirror = Mirror()
    waiting = asyncio.create_task(mirror.wait(mirror.version))
    await asyncio.sleep(0)
    assert not waiting.done()
    mirror.take("ready", {})
    assert await waiting == mirror.version


class Watch:
    """Streams that are laid out: messages, then an error or the end."""

    def __init__(self, *streams: list[Any]) -> None:
        self.streams = list(streams)
        self.opened = 0

    async def events(self, path: str, *, params: Any = None) -> AsyncGenerator[tuple[str, Any], None]:
        self.opened += 1
        for part in self.streams.pop(0) if self.streams else []:
            if isinstance(part, Exception):
                raise part
            yield part
        if not self.streams:
            await asyncio.Event().wait()


async def test_nobody_is_asked_while_nobody_looks() -> None:
    mirror, watch = Mirror(), Watch([("ready", {})])
    following = asyncio.create_task(mirror.follow(watch))
    for _ in range(5):
        await asyncio.sleep(0)
    assert watch.opened == 0
    async with mirror.looked_at():
        assert mirror.is_ready.is_set()
        assert watch.opened == 1
    following.cancel()


async def test_after_a_broken_stream_another_is_opened(monkeypatch: Any) -> None:
    monkeypatch.setattr(mirror_module, "AGAIN_S", 0.0)
    hosts = ("hosts", message({"host1": {"name": "host1"}}, whole=True))
    watch = Watch([hosts, ("ready", {}), Unreachable("gone")], [("ready", {})])
    mirror = Mirror()
    following = asyncio.create_task(mirror.follow(watch))
    async with mirror.looked_at():
        while watch.opened < 2 or mirror.trouble:
            await mirror.wait(mirror.version)
        assert mirror.all("hosts") == [{"name": "host1"}], "what was seen last stays"
    following.cancel()


async def test_the_watch_ends_some_time_after_the_last_look(monkeypatch: Any) -> None:
    monkeypatch.setattr(mirror_module, "LINGER_S", 0.0)
    mirror, watch = Mirror(), Watch([("ready", {})])
    following = asyncio.create_task(mirror.follow(watch))
    async with mirror.looked_at():
        pass
    for _ in range(20):
        await asyncio.sleep(0)
    assert not mirror.is_ready.is_set()
    async with mirror.looked_at():
        assert watch.opened == 2
    following.cancel()


async def test_a_stream_that_is_not_understood_is_told_and_tried_again(monkeypatch: Any) -> None:
    """Else the mirror would stand still for good, and nobody would see it."""
    monkeypatch.setattr(mirror_module, "AGAIN_S", 0.0)
    watch = Watch([("hosts", {"nonsense": 1})], [ValueError("no JSON")], [("ready", {})])
    mirror, told = Mirror(), []
    monkeypatch.setattr(mirror, "tell", lambda: told.append(mirror.trouble.get("", "")))
    following = asyncio.create_task(mirror.follow(watch))
    async with mirror.looked_at():
        pass
    following.cancel()
    assert [cause.rpartition(": ")[2] for cause in told if cause] == ["KeyError", "ValueError"]
    assert mirror.trouble == {}


def test_a_topic_that_is_read_again_is_no_trouble_any_more() -> None:
    """A new stream tells only of what cannot be read then."""
    mirror = Mirror()
    mirror.take("trouble", {"topic": "tasks", "cause": "no majority"})
    mirror.take("tasks", message({}, whole=True))
    assert mirror.trouble == {}


def test_a_task_that_came_and_went_in_one_message_is_passed_over() -> None:
    mirror = Mirror()
    mirror.take("tasks", message({"t1": {"id": "t1", "progress": {}}}, gone=("t1",)))
    assert mirror.all("tasks") == []
