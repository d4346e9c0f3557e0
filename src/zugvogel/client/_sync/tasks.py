"""Tasks and events, and following them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from zugvogel import errors
from zugvogel.client._sync.calls import Calls
from zugvogel.client.watching import Message, message_of
from zugvogel.domain.answers import EventView
from zugvogel.domain.task import Task, TaskState

POLL_S = 20.0
AWAY_S = 60.0
"""How long a watcher puts up with no host answering before it gives up (the task goes on regardless)."""
UNKNOWN_S = 10.0
"""The same for a task that the host asked does not know: its copy in the registry is on its way."""
PAUSE_S = 0.5


class TaskCalls(Calls):
    def tasks(self) -> list[Task]:
        """All tasks, oldest first."""
        return self._get(list[Task], "/tasks")

    def task(self, task_id: str, *, since: int = -1, wait_s: float = 0.0) -> Task:
        """One task, as soon as its version is above `since`, at the latest after `wait_s` (at most 60)."""
        return self._get(Task, "/tasks/{task_id}", task_id, params={"since": since, "wait_s": wait_s})

    def cancel_task(self, task_id: str) -> Task:
        """Ask a task to stop and put everything back; its state tells the outcome."""
        return self._post(Task, "/tasks/{task_id}/cancel", task_id)

    def follow_task(self, task: Task | str) -> Iterator[Task]:
        """The task as it is and after each change, at last in its final state, whatever that is. A host that goes
        away meanwhile is waited for. Raises Unreachable, NotFound."""
        known = self.task(task) if isinstance(task, str) else task
        yield known
        while not known.state.is_final:
            found = self._next(known)
            if found != known:
                yield found
            known = found

    def _next(self, known: Task) -> Task:
        begun = time.monotonic()
        while True:
            try:
                return self.task(known.id, since=known.version, wait_s=POLL_S)
            except (errors.Unreachable, errors.NotFound) as error:
                limit_s = AWAY_S if isinstance(error, errors.Unreachable) else UNKNOWN_S
                if time.monotonic() - begun > limit_s:
                    raise
                time.sleep(PAUSE_S)

    def wait_task(self, task: Task | str, on_progress: Callable[[Task], None] | None = None) -> Task:
        """The task when it is done. Raises its error, as its class, when it failed or was cancelled.
        `on_progress` gets it after each change."""
        known = None
        for known in self.follow_task(task):
            if on_progress is not None:
                on_progress(known)
        assert known is not None
        if known.state is TaskState.DONE:
            return known
        if known.error is None:
            raise errors.ProcedureFailed(f"{known.kind} of {known.subject} {known.state}", "see its report")
        raise errors.from_code(known.error.code, known.error.cause, known.error.next_step)

    def events(
        self, *, after: str = "", limit: int = 200, subject: str = "", vm: str = "", host: str = "", kind: str = ""
    ) -> list[EventView]:
        """Oldest first; with `after` those newer than that id, else the newest `limit`. `host`: that saw or did
        it, or of which it tells. `kind`: as a whole (`vm.restarted`), or its noun alone (`vm`)."""
        wanted = {"subject": subject, "vm": vm, "host": host, "kind": kind}
        return self._get(list[EventView], "/events", params={"after": after, "limit": limit, **wanted})

    def watch(self, *topics: str) -> Iterator[Message]:
        """What is so now, and then each change, of `topics` (all: none named), until the agent ends the stream or
        Unreachable is raised; then call it again. `zugvogel.client.Picture` puts the messages together."""
        for event, data in self._transport.events("/watch", params={"topics": ",".join(topics) or None}):
            message = message_of(event, data)
            if message is not None:
                yield message
