"""Rounds that come again and again, one at a time, in a task that stays for the next one: most of them are over at
once and cost less than a task for each would."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Rounds:
    """`round` is one of them; what it raises ends it, and the next one begins as ever."""

    def __init__(self, round: Callable[[], Awaitable[object]], what: str = "rounds") -> None:
        self._round = round
        self._what = what
        self._task: asyncio.Task[None] | None = None
        self._next: asyncio.Future[None] | None = None
        """What the task waits for between two rounds; None: one is under way, or there was none yet."""

    def begin(self) -> bool:
        """Returns at once. False: the one before is still under way, and nothing is begun."""
        due, self._next = self._next, None
        if due is not None and not due.done():
            due.set_result(None)
            return True
        if self._task is not None and not self._task.done():
            return False
        self._task = asyncio.create_task(self._run(), name=self._what)
        return True

    def cut_off(self) -> None:
        """The one under way, too."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._round()
            self._next = loop.create_future()
            await self._next
