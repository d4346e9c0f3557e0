"""Tasks and events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from zugvogel.api.auth import OPERATOR, VIEWER, TheBackend
from zugvogel.api.routes_cluster import IdPath
from zugvogel.domain.answers import EventView
from zugvogel.domain.base import HOST_PATTERN, NAME_PATTERN
from zugvogel.domain.task import Task

router = APIRouter()

MAX_WAIT_S = 60.0


@router.get("/tasks", dependencies=[VIEWER], tags=["tasks"])
async def tasks(backend: TheBackend) -> list[Task]:
    """All tasks, oldest first."""
    return await backend.tasks()


@router.get("/tasks/{task_id}", dependencies=[VIEWER], tags=["tasks"])
async def task(
    task_id: IdPath,
    backend: TheBackend,
    since: Annotated[int, Query(ge=-1, le=2**53)] = -1,
    wait_s: Annotated[float, Query(ge=0, le=MAX_WAIT_S)] = 0.0,
) -> Task:
    """One task. Long poll: answers when its version is above `since`, at the latest after `wait_s`."""
    return await backend.task(task_id, since=since, wait_s=wait_s)


@router.post("/tasks/{task_id}/cancel", status_code=202, dependencies=[OPERATOR], tags=["tasks"])
async def cancel_task(task_id: IdPath, backend: TheBackend) -> Task:
    """Ask a task to stop and put everything back; its state tells the outcome."""
    return await backend.cancel_task(task_id)


@router.get("/events", dependencies=[VIEWER], tags=["events"])
async def events(
    backend: TheBackend,
    after: Annotated[str, Query(max_length=80)] = "",
    limit: Annotated[int, Query(ge=1, le=5000)] = 200,
    subject: Annotated[str, Query(max_length=80)] = "",
    vm: Annotated[str, Query(pattern=f"^$|{NAME_PATTERN}")] = "",
    host: Annotated[str, Query(pattern=f"^$|{HOST_PATTERN}")] = "",
    kind: Annotated[str, Query(pattern=r"^[a-z.-]{0,80}$")] = "",
) -> list[EventView]:
    """Oldest first; with `after` those newer than that id, else the newest `limit`. `host`: that saw or did it, or
    of which it tells. `kind`: as a whole (`vm.restarted`), or its noun alone (`vm`)."""
    found = await backend.events(after=after, limit=limit, subject=subject, vm=vm, host=host, kind=kind)
    return [EventView.of(event) for event in found]
