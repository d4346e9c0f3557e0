"""A simulated world that goes on with real time, and is asked by an event loop of the real world.

The virtual loop is stepped by a task of the real one, in the same thread: so nothing runs at the same time as
anything else, and a request hops in by becoming a task of the virtual loop and out by a future of the real one.
"""

from __future__ import annotations

import asyncio
import contextvars
import hmac
import secrets
import time
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, cast

from zugvogel.domain.user import Caller
from zugvogel.errors import Unreachable
from zugvogel.ports.backend import Backend
from zugvogel.sim.agent import SimAgent
from zugvogel.sim.loop import DOMAIN
from zugvogel.sim.world import World

T = TypeVar("T")

STEP_S, BUSY_STEP_S = 0.05, 0.005
"""Real seconds between two steps, while nobody and while somebody waits for an answer."""
SLICE_S = 0.25
"""Virtual seconds after which the real loop has its turn, whatever is left to do."""
BEHIND_S = 2.0
"""A world that is late by more does not try to catch up."""


class RealTime:
    """`run` until cancelled: the world's time goes on by `speed` seconds a second. Where the machine is too slow
    for that it goes on more slowly: `lost_s` adds up what was left out."""

    def __init__(self, world: World, speed: float = 1.0) -> None:
        self.world = world
        self.speed = speed
        self.lost_s = 0.0
        self._asked = asyncio.Event()
        self._answers: dict[asyncio.Future[Any], SimAgent] = {}
        """Whom somebody waits for."""

    @property
    def is_asked(self) -> bool:
        """Somebody waits for an answer."""
        return bool(self._answers)

    async def run(self) -> None:
        loop = self.world.loop
        began, base = time.monotonic(), loop.now
        while True:
            due = base + (time.monotonic() - began) * self.speed
            if due - loop.now > BEHIND_S * max(1.0, self.speed):
                self.lost_s += due - loop.now
                began, base = time.monotonic(), loop.now
                continue
            self._asked.clear()
            self._step(min(due, loop.now + SLICE_S))
            if loop.now < due:
                await asyncio.sleep(0)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(BUSY_STEP_S if self._answers else STEP_S):
                    await self._asked.wait()

    def _step(self, until: float) -> None:
        self.world.run_until(until)
        for answer, agent in list(self._answers.items()):
            if agent.domain.is_ended and not answer.done():
                answer.set_exception(Unreachable(f"the agent of {agent.name} ended", "ask again"))

    async def ask(self, agent: SimAgent, work: Coroutine[Any, Any, T]) -> T:
        """What `work` comes to, done by `agent`. Raises Unreachable when that one ends meanwhile."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        context = contextvars.copy_context()  # it tells who asks
        context.run(DOMAIN.set, agent.domain)
        task = self.world.loop.create_task(work, context=context)
        task.add_done_callback(partial(_tell, answer))
        self._answers[answer] = agent
        self._asked.set()
        try:
            return await answer
        finally:
            del self._answers[answer]
            if not task.done():
                task.cancel()
                self._asked.set()


def _tell(answer: asyncio.Future[T], task: asyncio.Task[T]) -> None:
    if answer.done():
        if not task.cancelled():
            task.exception()  # nobody waits for it any more
    elif task.cancelled():
        answer.cancel()
    elif (error := task.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(task.result())


class _Door:
    """Each operation is done by the first host whose agent runs, as an administrator would turn to another one.
    So there is one console for all of them, with one token."""

    def __init__(self, real_time: RealTime) -> None:
        self._real_time = real_time
        self._console_token = f"console.{secrets.token_urlsafe(32)}"

    def console_token(self) -> str:
        return self._console_token

    async def authenticate(self, token: str) -> Caller:
        agent = self._agent()
        if hmac.compare_digest(token.encode(errors="replace"), self._console_token.encode()):
            token = agent.services.operations.console_token()
        return await self._real_time.ask(agent, agent.services.operations.authenticate(token))

    def __getattr__(self, operation: str) -> Any:
        def ask(*args: Any, **more: Any) -> Any:
            agent = self._agent()
            found = getattr(agent.services.operations, operation)(*args, **more)
            return self._real_time.ask(agent, found) if asyncio.iscoroutine(found) else found

        return ask

    def _agent(self) -> SimAgent:
        agent = self._real_time.world.door()
        if agent is None:
            raise Unreachable("no host of the simulated cluster is up", "wait, or start the simulation again")
        return agent


def backend_of(real_time: RealTime) -> Backend:
    """The simulated cluster, as the API sees it."""
    return cast(Backend, _Door(real_time))
