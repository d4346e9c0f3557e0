"""A copy of what the API's watch tells, for all pages of this console: one stream, however many people look."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Protocol

from zugvogel.console.samples import Samples
from zugvogel.errors import ZugvogelError

log = logging.getLogger(__name__)

TOPICS = ("cluster", "hosts", "vms", "datastores", "networks", "tasks", "events", "settings", "ha")
AGAIN_S = 1.0
MAX_EVENTS = 2000
"""Events that are kept, the newest."""
READY_S = 3.0
LINGER_S = 60.0
"""The watch is kept for so long after the last look: people go from page to page."""

Fields = dict[str, Any]


class Watched(Protocol):
    """The part of `zugvogel.client.AsyncTransport` that is used here."""

    def events(self, path: str, *, params: Any = None) -> AsyncGenerator[tuple[str, Any], None]: ...


class Mirror:
    """`topics`: topic -> key -> fields, as the API names them. `trouble`: topic -> why it cannot be read now; the
    topic "" is the API itself. `samples`: of migrations. Values are replaced, never changed in place: whoever
    holds one may compare by identity."""

    def __init__(self) -> None:
        self.topics: dict[str, dict[str, Fields]] = {topic: {} for topic in TOPICS}
        self.trouble: dict[str, str] = {}
        self.samples = Samples()
        self.is_ready = asyncio.Event()
        self.version = 0
        self._changed = asyncio.Event()
        self._wanted = asyncio.Event()
        self._lookers = self._looks = 0
        self._nobody = asyncio.Event()

    def all(self, topic: str) -> list[Fields]:
        return list(self.topics[topic].values())

    def one(self, topic: str, key: str) -> Fields | None:
        return self.topics[topic].get(key)

    @property
    def cluster(self) -> Fields:
        return self.topics["cluster"].get("cluster", {})

    @property
    def ha(self) -> Fields | None:
        return self.topics["ha"].get("ha")

    async def wait(self, version: int) -> int:
        """The version, as soon as it is not `version` any more."""
        while self.version == version:
            await self._changed.wait()
        return self.version

    def take(self, name: str, data: Fields) -> None:
        """One message of the watch."""
        if name == "ready":
            self.is_ready.set()
        elif name == "trouble":
            self._trouble(data["topic"], data["cause"])
        elif name in self.topics:
            self._take(name, data)
        self.tell()

    def tell(self) -> None:
        """Wake all who wait for a change."""
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def _take(self, topic: str, data: Fields) -> None:
        before = {} if data.get("whole") else self.topics[topic]
        after = {**before, **{k: {**before.get(k, {}), **fields} for k, fields in data["changed"].items()}}
        for key in data.get("gone", ()):
            after.pop(key, None)
        if topic == "events" and len(after) > MAX_EVENTS:
            after = {key: after[key] for key in sorted(after)[-MAX_EVENTS:]}
        self.topics[topic] = after
        if data.get("whole"):
            self._trouble(topic, "")
        if topic == "tasks":
            for key in data["changed"].keys() & after.keys():
                self.samples.add(after[key])

    def _trouble(self, topic: str, cause: str) -> None:
        self.trouble = {k: v for k, v in self.trouble.items() if k != topic}
        if cause:
            self.trouble[topic] = cause

    # following ---------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def looked_at(self) -> AsyncIterator[None]:
        """While somebody looks, the watch is followed. Begins when something is known, or cannot be for now."""
        self._lookers, self._looks = self._lookers + 1, self._looks + 1
        self._wanted.set()
        self._nobody.clear()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(READY_S):
                    await self.is_ready.wait()
            yield
        finally:
            self._lookers -= 1
            if not self._lookers:
                self._nobody.set()

    async def follow(self, api: Watched) -> None:
        """Until cancelled. Nobody is asked while nobody looks, so that an idle console costs its agent nothing.
        What was seen last stays while the API is away, and `trouble` says so."""
        while True:
            await self._wanted.wait()
            following = asyncio.create_task(self._follow(api))
            try:
                await self._left_alone()
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            self._wanted.clear()
            self.is_ready.clear()

    async def _left_alone(self) -> None:
        """Returns when nobody has looked for a while."""
        looks = -1
        while looks != self._looks:
            await self._nobody.wait()
            looks = self._looks
            await asyncio.sleep(LINGER_S)

    async def _follow(self, api: Watched) -> None:
        while True:
            cause = await self._read(api)
            if self.trouble.get("") != cause:
                log.info("the watch ended: %s", cause)
                self._trouble("", cause)
                self.tell()
            await asyncio.sleep(AGAIN_S)

    async def _read(self, api: Watched) -> str:
        """One stream, to its end; why it ended."""
        stream = api.events("/watch", params={"topics": ",".join(TOPICS)})
        try:
            async with contextlib.aclosing(stream):
                async for name, data in stream:
                    self._trouble("", "")
                    self.take(name, data)
        except ZugvogelError as error:
            return error.cause
        except Exception as error:  # a stream that cannot be read must not end the reading for good
            cause = f"what the agent tells is not understood: {type(error).__name__}"
            if self.trouble.get("") != cause:
                log.exception("the watch")
            return cause
        return "the agent ended the stream"
