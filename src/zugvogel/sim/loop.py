"""An asyncio event loop on virtual time: when nothing is ready, the clock jumps to the next timer.

Nothing sleeps, no thread runs, and equal instants run in the order in which they were asked for, so a run is a
function of its input. Every callback belongs to a `Domain` (an agent, a guard, a QEMU), which can be paused, as by
SIGSTOP, or ended, as by SIGKILL: what was due is kept, or never runs, no `finally` either.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import logging
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)

ENDINGS = 20
EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


class Tasks(list[asyncio.Task[Any]]):
    """Those that have not ended, and for a while some that have."""

    __slots__ = ("full",)

    def __init__(self) -> None:
        super().__init__()
        self.full = 64
        """With so many, those that have ended are to be dropped."""

    def drop_ended(self) -> None:
        self[:] = [t for t in self if not t.done()]
        self.full = 64 + 2 * len(self)


class Domain:
    """What is stopped and ended together. `context` is what its callbacks and tasks run in. Domains are used for
    one life: a restarted agent gets a new one."""

    __slots__ = ("_held", "_loop", "context", "is_ended", "is_stopped", "name", "tasks")

    def __init__(self, loop: VirtualLoop, name: str) -> None:
        self.name = name
        self.is_stopped = False
        """Paused or ended: nothing of it runs now."""
        self.is_ended = False
        self.tasks = Tasks()
        self.context = contextvars.Context()
        self.context.run(DOMAIN.set, self)
        self._held: list[Due] = []
        self._loop = loop

    def pause(self) -> None:
        if not self.is_ended:
            self.is_stopped = True

    def resume(self) -> None:
        """What came due meanwhile runs now, in the order in which it was due."""
        if self.is_ended or not self.is_stopped:
            return
        self.is_stopped = False
        held, self._held = self._held, []
        self._loop.run_soon(held)

    def end(self) -> None:
        self.is_stopped = self.is_ended = True
        self._loop.bury(self)
        self._held.clear()

    def hold(self, due: Due) -> None:
        if not self.is_ended:
            self._held.append(due)

    def spawn(self, work: Coroutine[Any, Any, T], name: str = "") -> asyncio.Task[T]:
        return self._loop.create_task(work, name=name or None, context=self.context.copy())


DOMAIN: contextvars.ContextVar[Domain | None] = contextvars.ContextVar("zugvogel_sim_domain", default=None)


class Handle(list[Any]):
    """A callback that is due: what to call, with what, in which context. Empty once it is cancelled. (A list:
    hundreds are made for each simulated second.)"""

    __slots__ = ()

    def cancel(self) -> None:
        self.clear()

    def cancelled(self) -> bool:
        return not self


Due = Handle | tuple[Callable[..., Any], tuple[Any, ...], contextvars.Context]
"""What nobody can cancel is a tuple."""


class VirtualLoop(asyncio.BaseEventLoop):
    """`defects`: what no callback may do (an exception that nobody took)."""

    def __init__(self) -> None:
        self._is_running = False
        self._is_closed = False
        super().__init__()
        self.create_future = partial(asyncio.Future, loop=self)  # type: ignore[method-assign]
        self.now = 0.0
        self.epoch = EPOCH
        """What calendars show at the instant 0."""
        self.defects: list[str] = []
        self._due: deque[Due] = deque()
        self._timers: list[tuple[float, int, Handle | asyncio.Future[None]]] = []
        self._count = 0
        self._buried: list[asyncio.Task[Any]] = []
        self._tasks = Tasks()
        self._world = contextvars.Context()

    def __del__(self) -> None:
        """It holds nothing that must be given back."""

    # what asyncio asks of a loop -----------------------------------------------------------------

    def time(self) -> float:
        return self.now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> Handle | None:
        """Futures and tasks give a context and never cancel what they ask for: they get nothing to do it with."""
        if context is not None:
            self._due.append((callback, args, context))
            return None
        handle = Handle((callback, args, contextvars.copy_context()))
        self._due.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        handle = Handle((callback, args, contextvars.copy_context() if context is None else context))
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def world_at(self, when: float, call: Callable[..., Any], *args: Any) -> Handle:
        """What happens to the world, whatever becomes of whoever caused it."""
        handle = Handle((call, args, self._world))
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    def sleep(self, seconds: float) -> asyncio.Future[None]:
        """As `asyncio.sleep`, with less work: most of what goes on here is to sleep."""
        future: asyncio.Future[None] = self.create_future()
        self._count += 1
        heapq.heappush(self._timers, (self.now + seconds, self._count, future))
        return future

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=name, context=context)
        domain = DOMAIN.get() if context is None else context.get(DOMAIN)
        tasks = self._tasks if domain is None else domain.tasks
        tasks.append(task)
        if len(tasks) >= tasks.full:
            tasks.drop_ended()
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """At once: there are no threads."""
        future: asyncio.Future[T] = asyncio.Future(loop=self)
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    get_debug = staticmethod(bool)
    """False; asked for by each future and task."""

    def is_running(self) -> bool:
        return self._is_running

    def is_closed(self) -> bool:
        return self._is_closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        told = f"{type(error).__name__}: {error}" if error is not None else ""
        self.defects.append(f"{context.get('message', 'a defect')} {told}".strip())

    # running ---------------------------------------------------------------------------------------

    def run_soon(self, due: list[Due]) -> None:
        self._due.extend(due)

    def run_until(self, until: float) -> None:
        """Everything that is due up to the instant `until`, which is the time afterwards."""
        around = asyncio._get_running_loop()  # one that steps this one in real time
        asyncio._set_running_loop(self)
        self._is_running = True
        try:
            self._run_until(until)
        finally:
            self._is_running = False
            asyncio._set_running_loop(around)

    def _run_until(self, until: float) -> None:
        ready, timers, pop, take = self._due, self._timers, heapq.heappop, self._due.popleft
        domain_of = DOMAIN
        while True:
            while ready:
                handle = take()
                if not handle:
                    continue
                call, args, context = handle
                domain = context.get(domain_of)
                if domain is not None and domain.is_stopped:
                    domain.hold(handle)
                    continue
                context.run(call, *args)
            if not timers or timers[0][0] > until:
                break
            when, _, timer = pop(timers)
            if isinstance(timer, Handle):
                if timer:
                    if when > self.now:
                        self.now = when
                    ready.append(timer)
            elif not timer.done():
                if when > self.now:
                    self.now = when
                timer.set_result(None)
        self.now = max(self.now, until)

    def run_until_complete(self, future: Coroutine[Any, Any, T]) -> T:  # type: ignore[override]
        """For tests: the result of one coroutine; raises RuntimeError when nothing is left that could end it."""
        task = self.create_task(future)
        while not task.done():
            if not self._due and not self._timers:
                raise RuntimeError("nothing is left to wait for")
            self.run_until(self._timers[0][0] if self._timers and not self._due else self.now)
        return task.result()

    # ends ------------------------------------------------------------------------------------------

    def bury(self, domain: Domain) -> None:
        """Its tasks are kept: collecting one would run its `finally` blocks, which a killed process never does."""
        self._buried.extend(domain.tasks)

    def close(self, domains: list[Domain] | None = None) -> None:
        """The world is over; what its tasks would still do concerns nobody."""
        self._is_closed = True
        tasks = [*self._buried, *self._tasks]
        for domain in domains or ():
            tasks.extend(domain.tasks)
        self._due.clear()
        self._timers.clear()
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            for task in tasks:
                _end_quietly(task)
            self._buried.clear()
        finally:
            sys.unraisablehook = hook
        self._due.clear()
        self._timers.clear()


def _end_quietly(task: asyncio.Task[Any]) -> None:
    """Some wait for something else while they are ended, and are ended again."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    work = task.get_coro()
    for _ in range(ENDINGS):
        if task.done():
            return
        try:
            work.close()
        except (Exception, GeneratorExit, BaseExceptionGroup) as error:
            log.debug("%r: %s", task, error)
        else:
            return
