"""Looks at places of which each may hang: one at a time for each, and none waits for another's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from zugvogel.errors import ZugvogelError

log = logging.getLogger(__name__)

Look = Callable[[], Awaitable[None]]


class Looks:
    """`what` is looked at, for the log: "orders to start"."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._due: dict[str, Look] = {}

    def begin(self, place: str, look: Look, *, is_news: bool = False) -> None:
        """Returns at once. Where a look is under way nothing is begun; with `is_news` (there is something that it
        may have missed) another one follows it."""
        if place not in self._under_way:
            self._under_way[place] = asyncio.create_task(self._looks(place, look), name=f"{self._what}: {place}")
        elif is_news:
            self._due[place] = look

    async def over(self) -> None:
        """Returns when all that are under way have ended."""
        while tasks := list(self._under_way.values()):
            await asyncio.wait(tasks)

    async def stop(self) -> None:
        tasks = list(self._under_way.values())
        self._due.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._under_way.clear()

    async def _looks(self, place: str, look: Look) -> None:
        try:
            due: Look | None = look
            while due is not None:
                try:
                    await due()
                except ZugvogelError as error:
                    log.warning("%s of %s not looked at: %s", self._what, place, error)
                except Exception:
                    log.exception("%s of %s not looked at", self._what, place)
                due = self._due.pop(place, None)
        finally:
            if self._under_way.get(place) is asyncio.current_task():
                del self._under_way[place]
