"""Reads the backend for all who watch, once, and tells each what changed.

A topic is read only while somebody watches it. A watcher that does not keep up gets the whole topic anew instead
of a backlog. All of it runs in the agent's loop beside the heartbeats: nothing here is long between two awaits.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pydantic_core import to_json

from zugvogel.api.watch_sources import SOURCES, Source
from zugvogel.core.changes import Delta, Fields, changed_fields
from zugvogel.errors import TooManyRequests, ZugvogelError
from zugvogel.ports.backend import Backend
from zugvogel.ports.caller import caller

log = logging.getLogger(__name__)

PORTION = 200
"""So many things are made or written before others get their turn: about 5 ms."""
QUEUED = 16
"""Messages of one topic that wait for a watcher; with more it gets the topic anew."""
MAX_WATCHERS = 200
SLOWEST_S = 10.0
"""A topic that is slow to read rests as long as reading it took, but no longer than this."""
READY = b"event: ready\ndata: {}\n\n"


class Watching:
    """One for each API. `join` is all there is to it."""

    def __init__(self, backend: Backend, sources: Mapping[str, Source] = SOURCES) -> None:
        self._backend = backend
        self._sources = sources
        self._topics: dict[str, Topic] = {}
        self.watchers: set[Watcher] = set()

    @asynccontextmanager
    async def join(self, names: Iterable[str]) -> AsyncIterator[Watcher]:
        """Raises TooManyRequests when too many watch already."""
        if len(self.watchers) >= MAX_WATCHERS:
            raise TooManyRequests(f"{MAX_WATCHERS} watch through this host already", "ask another host")
        topics = {name: self._topic(name) for name in names}
        watcher = Watcher(topics)
        self.watchers.add(watcher)
        try:
            for topic in topics.values():
                topic.watchers.add(watcher)
            yield watcher
        finally:
            self.watchers.discard(watcher)
            await self._leave(watcher, topics.values())

    def _topic(self, name: str) -> Topic:
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = Topic(name, self._sources[name], self._backend)
            topic.task = asyncio.create_task(topic.run(), name=f"watch {name}")
        return topic

    async def _leave(self, watcher: Watcher, topics: Iterable[Topic]) -> None:
        ended = []
        for topic in topics:
            topic.watchers.discard(watcher)
            if not topic.watchers and self._topics.get(topic.name) is topic:
                del self._topics[topic.name]
                if topic.task is not None:
                    topic.task.cancel()
                    ended.append(topic.task)
        await asyncio.gather(*ended, return_exceptions=True)


class _Thing:
    """A thing as last seen: what it was made from, its fields, and, once somebody needed them, these as JSON."""

    __slots__ = ("_encoded", "fields", "source")

    def __init__(self, source: Any, fields: Fields) -> None:
        self.source = source
        self.fields = fields
        self._encoded = b""

    @property
    def is_encoded(self) -> bool:
        return bool(self._encoded)

    def encoded(self) -> bytes:
        if not self._encoded:
            self._encoded = to_json(self.fields, inf_nan_mode="null")
        return self._encoded


class Topic:
    """`things` None: it could not be read yet. Replaced by each look that brought something, never changed."""

    def __init__(self, name: str, source: Source, backend: Backend) -> None:
        self.name = name
        self._source = source
        self._backend = backend
        self.things: dict[str, _Thing] | None = None
        self.trouble = b""
        """What is told of it while it cannot be read; empty: it can."""
        self._cause = ""
        self.watchers: set[Watcher] = set()
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        caller.set(None)  # it is read for all, not for the one who came first
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            await self.look()
            took_s = loop.time() - started
            await asyncio.sleep(max(self._source.interval_s - took_s, min(SLOWEST_S, took_s)))

    async def look(self) -> None:
        """Read once, and tell all watchers what changed."""
        try:
            await self._read()
        except ZugvogelError as error:
            self._in_trouble(error.cause, error.next_step)
        except Exception as error:
            cause = f"the agent has a defect: {type(error).__name__}: {error}"
            if cause != self._cause:
                log.exception("watching %s", self.name)
            self._in_trouble(cause, "see the agent's log and report it")
        else:
            if self._cause:
                self._in_trouble("", "")

    def _in_trouble(self, cause: str, next_step: str) -> None:
        """Told once a change; an empty cause: it works again."""
        if cause == self._cause:
            return
        self._cause = cause
        told = message("trouble", to_json({"topic": self.name, "cause": cause, "next_step": next_step}))
        self.trouble = told if cause else b""
        for watcher in self.watchers:
            watcher.tell_trouble(self.name, told)

    async def _read(self) -> None:
        read, before = await self._source.read(self._backend), self.things
        known, things, changed = before or {}, dict[str, _Thing](), dict[str, Fields]()
        made = 0
        for key, source in read:
            thing = known.get(key)
            if thing is None or thing.source is not source:
                fields = self._source.view(source).model_dump(mode="json")
                told = changed_fields(thing.fields if thing else None, fields)
                if thing is not None and not told:
                    thing.source = source
                else:
                    thing, changed[key] = _Thing(source, fields), told
                made += 1
                if made % PORTION == 0:
                    await asyncio.sleep(0)
            things[key] = thing
        change = Delta(changed, tuple(sorted(known.keys() - things.keys())))
        told_to_all = message(self.name, await _encoded(change)) if before is not None and change else b""
        self.things = things
        for watcher in self.watchers:
            watcher.tell(self.name, told_to_all)


async def _encoded(change: Delta) -> bytes:
    parts = []
    for number, (key, fields) in enumerate(change.changed.items(), start=1):
        parts.append(to_json(key) + b":" + to_json(fields, inf_nan_mode="null"))
        if number % PORTION == 0:
            await asyncio.sleep(0)
    return _data(b"false", parts, to_json(change.gone))


async def _whole(things: Mapping[str, _Thing]) -> bytes:
    parts, made = [], 0
    for key, thing in things.items():
        made += not thing.is_encoded
        parts.append(to_json(key) + b":" + thing.encoded())
        if made % PORTION == PORTION - 1:
            made += 1
            await asyncio.sleep(0)
    return _data(b"true", parts, b"[]")


def _data(is_whole: bytes, changed: Sequence[bytes], gone: bytes) -> bytes:
    return b'{"whole":%b,"changed":{%b},"gone":%b}' % (is_whole, b",".join(changed), gone)


def message(event: str, data: bytes) -> bytes:
    """As server-sent events are written; JSON has no line breaks."""
    return b"event: %b\ndata: %b\n\n" % (event.encode(), data)


class Watcher:
    """One who watches. Ask `next` for messages one after the other."""

    def __init__(self, topics: Mapping[str, Topic]) -> None:
        self._topics = topics
        self._anew = set(topics)
        """Topics that are to be told as a whole, whatever was told of them before."""
        self._queues: dict[str, deque[bytes]] = {name: deque() for name in topics}
        self._troubles = {name: topic.trouble for name, topic in topics.items() if topic.trouble}
        self._untold = set(topics)
        """Topics of which nothing was told yet."""
        self._is_ready = False
        self._wake = asyncio.Event()

    def tell(self, topic: str, change: bytes) -> None:
        """`change` empty: there is none, but the topic could be read."""
        queue = self._queues[topic]
        if topic not in self._anew and change:
            queue.append(change)
        if len(queue) > QUEUED:
            queue.clear()
            self._anew.add(topic)
        self._wake.set()

    def tell_trouble(self, topic: str, told: bytes) -> None:
        """The last one alone is told: how it is now."""
        self._troubles.pop(topic, None)
        self._troubles[topic] = told
        self._wake.set()

    async def next(self, timeout_s: float) -> bytes:
        """The next message; empty when there was none for so long."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while True:
            self._wake.clear()
            if found := await self._next():  # never cut off: what it has taken up would be lost
                return found
            try:
                await asyncio.wait_for(self._wake.wait(), max(0.0, until - loop.time()))
            except TimeoutError:
                return b""

    async def _next(self) -> bytes:
        """Troubles first, then whole topics, then that all were told, then changes."""
        if self._troubles:
            topic = next(iter(self._troubles))
            self._untold.discard(topic)
            return self._troubles.pop(topic)
        for topic in self._topics:
            things = self._topics[topic].things
            if topic in self._anew and things is not None:
                return await self._told_anew(topic, things)
        if not self._untold and not self._is_ready:
            self._is_ready = True
            return READY
        return self._change()

    async def _told_anew(self, topic: str, things: Mapping[str, _Thing]) -> bytes:
        """What changes while it is written goes into the queue, and so is told after it."""
        self._anew.discard(topic)
        self._untold.discard(topic)
        return message(topic, await _whole(things))

    def _change(self) -> bytes:
        """Of the topic that was not told of for longest."""
        for topic, queue in self._queues.items():
            if queue:
                self._queues[topic] = self._queues.pop(topic)
                return queue.popleft()
        return b""
