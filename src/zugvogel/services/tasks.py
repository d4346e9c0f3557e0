"""Long work that can be watched and cancelled.

A task lives in the memory of the host that does the work; the registry holds a copy, written best effort
by `TaskBoard.run`: state changes at once, progress at most once a second. Nothing waits for the registry.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ValidationError

from zugvogel.domain.task import Progress, Task, TaskError, TaskState
from zugvogel.errors import Conflict, NotFound, Refused, Unreachable, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.registry import Entry, Registry
from zugvogel.services.sortable_id import TIME_SIGNS, SortableIds, decode

log = logging.getLogger(__name__)

PREFIX = "tasks/"
COPY_INTERVAL_S = 1.0
KEPT = 1000
"""Finished tasks of the cluster that stay in the registry, the newest."""
KEPT_LOCALLY = 200
"""Finished tasks that stay in memory, so that their end can be read while the registry is away."""
TRIM_EVERY_S = 3600.0
STOP_S = 3.0

Work = Callable[["TaskContext"], Awaitable[dict[str, Any] | None]]


class TaskCancelled(Exception):
    """Raised by work that was asked to stop and has put everything back."""

    def __init__(self, cause: str = "cancelled on request") -> None:
        super().__init__(cause)
        self.cause = cause


class TaskContext:
    """What the work gets: its id, a place to report to, and the wish to stop."""

    def __init__(self, board: TaskBoard, task_id: str) -> None:
        self._board = board
        self.id = task_id
        self.cancel_requested = asyncio.Event()

    def progress(
        self,
        phase: str,
        message: str = "",
        fraction: float | None = None,
        detail: dict[str, Any] | BaseModel | None = None,
    ) -> None:
        """Never blocks. `fraction` 0 to 1; `detail` None keeps the last one."""
        if isinstance(detail, BaseModel):
            detail = detail.model_dump(mode="json")
        if detail is None:
            detail = self._board.local(self.id).progress.detail
        shown = Progress(phase=phase, message=message, fraction=fraction, detail=detail)
        self._board.change(self.id, progress=shown)

    def report(self, report: dict[str, Any]) -> None:
        """The report so far; what the work returns replaces it, if it returns one. Stays when it fails."""
        self._board.change(self.id, report=report)


class TaskBoard:
    def __init__(self, host: str, registry: Registry, clock: Clock) -> None:
        self._host = host
        self._registry = registry
        self._clock = clock
        self._ids = SortableIds(clock)
        self._tasks: dict[str, Task] = {}
        self._contexts: dict[str, TaskContext] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._changed: dict[str, asyncio.Event] = {}
        self._is_adopted = asyncio.Event()
        self._is_stopping = False
        self._trimmed_at = -TRIM_EVERY_S
        self._dirty: dict[str, bool] = {}
        """id -> is a state change, which is copied at once."""
        self._copied_at: dict[str, float] = {}
        self._wake = asyncio.Event()
        self.on_end: list[Callable[[Task], None]] = []
        """Each is called at once with every task of this host that ended; must not raise."""

    # work ------------------------------------------------------------------------------------

    def start(
        self, kind: str, subject: str, work: Work, *, is_cancellable: bool = False, task_id: str = ""
    ) -> Task:
        """Begin work and return at once. `task_id`: go on with a task of an earlier agent, which keeps the time
        it began at; do so before `adopted`. Raises Refused while the agent stops."""
        if self._is_stopping:
            raise Refused(f"the agent of {self._host} is stopping", "try again when it is back: zv host list")
        is_resumed = bool(task_id)
        task_id = task_id or self._ids.next()
        begun_at = created_at(task_id) or self._clock.now_iso()
        task = Task(
            id=task_id,
            kind=kind,
            subject=subject,
            owner=self._host,
            state=TaskState.RUNNING,
            version=self._ids.now_ms() if is_resumed else 1,  # above all that watchers have seen of it
            created_at=begun_at,
            started_at=begun_at,
            is_cancellable=is_cancellable,
        )
        context = TaskContext(self, task.id)
        self._tasks[task.id] = task
        self._contexts[task.id] = context
        self._changed[task.id] = asyncio.Event()
        self._mark(task.id, is_state=True)
        self._running[task.id] = asyncio.create_task(self._perform(context, work), name=f"task {kind} {subject}")
        return task

    async def _perform(self, context: TaskContext, work: Work) -> None:
        """An end by CancelledError (the agent stops) is no outcome: the next agent settles the task."""
        state, error, report = TaskState.DONE, None, None
        try:
            report = await work(context)
        except TaskCancelled as end:
            cause = f"the agent was stopped; {end.cause}" if self._is_stopping else end.cause
            state, error = TaskState.CANCELLED, TaskError(code="cancelled", cause=cause)
        except ZugvogelError as end:
            state, error = TaskState.FAILED, TaskError(code=end.code, cause=end.cause, next_step=end.next_step)
        except Exception as end:
            log.exception("task %s ended by a defect", context.id)
            cause = f"the agent has a defect: {type(end).__name__}: {end}"
            state, error = TaskState.FAILED, TaskError(code="failed", cause=cause, next_step="see the agent's log")
        if report is None:
            report = self._tasks[context.id].report
        self._running.pop(context.id, None)
        self._contexts.pop(context.id, None)
        self.change(context.id, state=state, error=error, report=report, ended_at=self._clock.now_iso())
        for told in self.on_end:
            told(self._tasks[context.id])

    def change(self, task_id: str, **fields: Any) -> None:
        """Replace fields of a task of this host; wakes all who wait for it."""
        task = self._tasks[task_id]
        self._tasks[task_id] = task.model_copy(update={**fields, "version": task.version + 1})
        self._mark(task_id, is_state="state" in fields)
        self._changed[task_id].set()
        self._changed[task_id] = asyncio.Event()

    def cancel(self, task_id: str) -> Task:
        """Ask the work to stop; returns at once. The outcome shows in the task. Raises NotFound, Refused."""
        task = self.local(task_id)
        if task.state.is_final:
            raise Refused(f"task {task_id} is {task.state.value} already")
        if not task.is_cancellable:
            raise Refused(f"{task.kind} of {task.subject} cannot be cancelled", "wait for its end")
        self._contexts[task_id].cancel_requested.set()
        return task

    async def stop(self, timeout_s: float = STOP_S) -> None:
        """The agent stops: nothing new begins, and what can be cancelled is asked to put everything back, so that
        nothing half done waits for an agent that may stay away. What has not ended after `timeout_s` is cut
        off as by a crash, and settled or gone on with by the next agent."""
        self._is_stopping = True
        for task_id, context in self._contexts.items():
            if self._tasks[task_id].is_cancellable:
                context.cancel_requested.set()
        running = list(self._running.values())
        if running:
            _, cut = await asyncio.wait(running, timeout=timeout_s)
            for work in cut:
                log.warning("%s goes on with the next agent", work.get_name())
                work.cancel()
            await asyncio.wait(running, timeout=timeout_s)

    # reading ---------------------------------------------------------------------------------

    def local(self, task_id: str) -> Task:
        """A task of this host that is in memory. Raises NotFound."""
        task = self._tasks.get(task_id)
        if task is None:
            raise NotFound(f"{self._host} does no task {task_id}", "see `zv task list`")
        return task

    def own(self) -> dict[str, Task]:
        """Tasks of this host that are in memory, by id: all that are under way, and the last that ended."""
        return dict(self._tasks)

    async def get(self, task_id: str) -> Task:
        """From memory, else from the registry (perhaps a little old). Raises NotFound."""
        if task_id in self._tasks:
            return self._tasks[task_id]
        entry = await self._registry.get(PREFIX + task_id, stale_ok=True)
        task = read_task(entry) if entry else None
        if task is None:
            raise NotFound(f"there is no task {task_id}", "see `zv task list`")
        return task

    async def wait(self, task_id: str, since: int = -1, wait_s: float = 0.0) -> Task:
        """The task as soon as its version is above `since`, at the latest after `wait_s`. Only tasks of
        this host are waited for; ask the owner for others."""
        deadline = asyncio.get_running_loop().time() + wait_s
        while task_id in self._tasks:
            task = self._tasks[task_id]
            left = deadline - asyncio.get_running_loop().time()
            if task.version > since or task.state.is_final or left <= 0:
                return task
            try:
                await asyncio.wait_for(self._changed[task_id].wait(), left)
            except TimeoutError:
                continue
        return await self.get(task_id)

    async def list(self) -> list[Task]:
        """All known tasks, oldest first; without the registry those of this host."""
        found: dict[str, Task] = {}
        try:
            entries = await self._registry.list(PREFIX, stale_ok=True)
        except Unreachable:
            entries = []
        for entry in entries:
            task = read_task(entry)
            if task is not None:
                found[task.id] = task
        found |= self._tasks
        return sorted(found.values(), key=lambda t: t.id)

    # the registry's copy ---------------------------------------------------------------------

    def adopted(self) -> None:
        """Say that all tasks of an earlier agent that go on have been started; `run` then fails the others."""
        self._is_adopted.set()

    async def run(self) -> None:
        """Copy changes until cancelled; after `adopted` settle what an earlier agent left."""
        await asyncio.gather(self._copy_changes(), self._settle())

    async def _settle(self) -> None:
        await self._is_adopted.wait()
        while not await self._attempt(self._settle_left()):
            await self._clock.sleep(COPY_INTERVAL_S)

    async def _copy_changes(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not await self._attempt(self._copy_due()):
                await self._clock.sleep(COPY_INTERVAL_S)
                self._wake.set()
            elif self._dirty:
                await self._pause()

    async def drain(self, timeout_s: float = 3.0) -> None:
        """Before the agent stops: copy what has not been copied yet, if the registry answers."""
        try:
            async with asyncio.timeout(timeout_s):
                for task_id in list(self._dirty):
                    await self._copy(task_id)
        except (TimeoutError, ZugvogelError):
            log.info("some task states were not copied to the registry")

    async def _pause(self) -> None:
        """Until progress may be copied again or a state changes, whichever is first."""
        sleeper = asyncio.ensure_future(self._clock.sleep(COPY_INTERVAL_S))
        waker = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({sleeper, waker}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            waker.cancel()
        self._wake.set()

    async def _attempt(self, step: Awaitable[None]) -> bool:
        try:
            await step
        except ZugvogelError as error:
            log.debug("tasks not copied: %s", error)
            return False
        return True

    async def _settle_left(self) -> None:
        for entry in await self._registry.list(PREFIX):
            task = read_task(entry)
            if task is None or task.owner != self._host or task.state.is_final:
                continue
            if task.id in self._tasks:
                continue
            error = TaskError(
                code="failed", cause="the agent restarted", next_step="see what was done, then retry"
            )
            change = {
                "state": TaskState.FAILED,
                "error": error,
                "ended_at": self._clock.now_iso(),
                "version": task.version + 1,
            }
            value = task.model_copy(update=change).model_dump_json().encode()
            try:
                await self._registry.put(entry.key, value, revision=entry.revision)
            except Conflict:
                log.info("task %s was settled by somebody else", task.id)

    async def _copy_due(self) -> None:
        now = self._clock.monotonic()
        for task_id, is_state in list(self._dirty.items()):
            if is_state or now - self._copied_at.get(task_id, -COPY_INTERVAL_S) >= COPY_INTERVAL_S:
                await self._copy(task_id)
        if now - self._trimmed_at >= TRIM_EVERY_S and any(t.state.is_final for t in self._tasks.values()):
            self._trimmed_at = now
            await self._trim()

    async def _trim(self) -> None:
        """By every host that ends tasks, at most once an hour: what two hosts delete is deleted once."""
        ended = []
        for entry in await self._registry.list(PREFIX, stale_ok=True):
            task = read_task(entry)
            if task is None or task.state.is_final:
                ended.append(entry.key)
        for key in ended[:-KEPT]:
            await self._registry.delete(key)

    async def _copy(self, task_id: str) -> None:
        task = self._tasks[task_id]
        self._copied_at[task_id] = self._clock.monotonic()
        await self._registry.put(PREFIX + task_id, task.model_dump_json().encode())
        if self._tasks[task_id].version == task.version:
            self._dirty.pop(task_id, None)
        self._forget_old()

    def _mark(self, task_id: str, *, is_state: bool) -> None:
        was_dirty = task_id in self._dirty
        self._dirty[task_id] = is_state or self._dirty.get(task_id, False)
        if is_state or not was_dirty:
            self._wake.set()

    def _forget_old(self) -> None:
        settled = [t.id for t in self._tasks.values() if t.state.is_final and t.id not in self._dirty]
        for task_id in sorted(settled)[:-KEPT_LOCALLY]:
            for place in (self._tasks, self._changed, self._copied_at):
                place.pop(task_id, None)


def created_at(task_id: str) -> str:
    """When a task was made, as its id tells; empty for ids that tell nothing."""
    try:
        made_s = decode(task_id[:TIME_SIGNS]) / 1000
        return datetime.fromtimestamp(made_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return ""


def read_task(entry: Entry) -> Task | None:
    try:
        return Task.model_validate_json(entry.value)
    except ValidationError:
        log.warning("%s in the registry is no task", entry.key)
        return None
