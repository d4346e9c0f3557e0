"""Looks at places of which each may hang: one at a time for each, and none waits for another's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from zugvogel.errors import ZugvogelError

log = logging.getLogger(__name__)

Look = Callable[[], Awaitable[None]]


class Looks:
    """`what` is looked at, for the log: "orders to start". The tasks that look stay for the next one: most looks
    find nothing and cost less than a task for each would."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._under_way: set[str] = set()
        self._due: dict[str, Look] = {}
        self._lookers: set[asyncio.Task[None]] = set()
        self._idle: list[asyncio.Future[tuple[str, Look]]] = []
        """What lookers that have nothing to look at wait for."""
        self._over: asyncio.Event | None = None
        """Somebody waits for the end of all looks."""

    def begin(self, place: str, look: Look, *, is_news: bool = False) -> None:
        """Returns at once. Where a look is under way nothing is begun; with `is_news` (there is something that it
        may have missed) another one follows it."""
        if place in self._under_way:
            if is_news:
                self._due[place] = look
            return
        self._under_way.add(place)
        if self._idle:
            self._idle.pop().set_result((place, look))
            return
        looker = asyncio.create_task(self._looker(place, look), name=self._what)
        self._lookers.add(looker)
        looker.add_done_callback(self._lookers.discard)

    async def over(self) -> None:
        """Returns when all that are under way have ended."""
        while self._under_way:
            self._over = self._over or asyncio.Event()
            await self._over.wait()

    async def stop(self) -> None:
        lookers = list(self._lookers)
        self._due.clear()
        self._idle.clear()
        for looker in lookers:
            looker.cancel()
        await asyncio.gather(*lookers, return_exceptions=True)
        self._under_way.clear()

    async def _looker(self, place: str, look: Look) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._look(place, look)
            finally:
                self._under_way.discard(place)
                if self._over is not None and not self._under_way:
                    self._over.set()
                    self._over = None
            waiting: asyncio.Future[tuple[str, Look]] = loop.create_future()
            self._idle.append(waiting)
            try:
                place, look = await waiting
            except asyncio.CancelledError:
                if waiting in self._idle:
                    self._idle.remove(waiting)
                raise

    async def _look(self, place: str, look: Look) -> None:
        due: Look | None = look
        while due is not None:
            try:
                await due()
            except ZugvogelError as error:
                log.warning("%s of %s not looked at: %s", self._what, place, error)
            except Exception:
                log.exception("%s of %s not looked at", self._what, place)
            due = self._due.pop(place, None) if self._due else None
