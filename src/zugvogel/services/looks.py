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
        self._looking: dict[str, asyncio.Task[None]] = {}
        """The last look at each place; it may have ended."""
        self._due: dict[str, Look] = {}

    def begin(self, place: str, look: Look, *, is_news: bool = False) -> None:
        """Returns at once. Where a look is under way nothing is begun; with `is_news` (there is something that it
        may have missed) another one follows it."""
        last = self._looking.get(place)
        if last is None:
            self._looking = {place: look for place, look in self._looking.items() if not look.done()}
        if last is None or last.done():
            self._looking[place] = asyncio.create_task(self._looks(place, look))
        elif is_news:
            self._due[place] = look

    async def over(self) -> None:
        """Returns when all that are under way have ended."""
        while tasks := self._under_way():
            await asyncio.wait(tasks)

    async def stop(self) -> None:
        tasks = self._under_way()
        self._due.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _under_way(self) -> list[asyncio.Task[None]]:
        return [look for look in self._looking.values() if not look.done()]

    async def _looks(self, place: str, look: Look) -> None:
        due: Look | None = look
        while due is not None:
            try:
                await due()
            except ZugvogelError as error:
                log.warning("%s of %s not looked at: %s", self._what, place, error)
            except Exception:
                log.exception("%s of %s not looked at", self._what, place)
            due = self._due.pop(place, None) if self._due else None
