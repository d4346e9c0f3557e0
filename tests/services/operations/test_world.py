from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.services.operations.cluster_of_two import ClusterOfTwo
from zugvogel.domain.task import TaskState
from zugvogel.errors import NotFound
from zugvogel.services.operations import world
from zugvogel.services.tasks import TaskContext


@pytest.fixture
async def cluster(tmp_path: Path) -> ClusterOfTwo:
    """host2 does a task that waits for `go_on`; the registry is away, so there is never a copy of it."""
    found = ClusterOfTwo(tmp_path)
    await found.begin()
    found.registry.is_reachable = False
    return found


async def begun_elsewhere(cluster: ClusterOfTwo, go_on: asyncio.Event) -> str:
    async def work(ctx: TaskContext) -> dict[str, Any]:
        await asyncio.wait(
            {asyncio.ensure_future(go_on.wait()), asyncio.ensure_future(ctx.cancel_requested.wait())},
            return_when=asyncio.FIRST_COMPLETED,
        )
        return {"is_cancelled": ctx.cancel_requested.is_set()}

    async def begin(payload: dict[str, Any]) -> dict[str, Any]:
        task = cluster.nodes["host2"].tasks.start("vm.start", "web1", work, is_cancellable=True)
        return task.model_dump(mode="json")

    cluster.nodes["host2"].world.handlers["vm.start"] = begin
    answer = await cluster.nodes["host1"].world.on("host2", "vm.start", {})
    return str(answer["id"])


async def test_a_task_begun_elsewhere_is_followed_without_the_registry(cluster: ClusterOfTwo) -> None:
    go_on = asyncio.Event()
    task_id = await begun_elsewhere(cluster, go_on)
    hosts = cluster.nodes["host1"].hosts
    assert (await hosts.task(task_id)).state is TaskState.RUNNING
    go_on.set()
    assert (await hosts.task(task_id, since=1, wait_s=10.0)).state is TaskState.DONE


async def test_a_task_begun_elsewhere_is_cancelled_without_the_registry(cluster: ClusterOfTwo) -> None:
    task_id = await begun_elsewhere(cluster, asyncio.Event())
    hosts = cluster.nodes["host1"].hosts
    await hosts.cancel_task(task_id)
    assert (await hosts.task(task_id, since=1, wait_s=10.0)).report == {"is_cancelled": True}


async def test_when_its_owner_is_gone_the_registry_is_asked(cluster: ClusterOfTwo) -> None:
    task_id = await begun_elsewhere(cluster, asyncio.Event())
    task = cluster.nodes["host2"].tasks.local(task_id).model_copy(update={"state": TaskState.FAILED})
    cluster.gone.add("host2")
    cluster.registry.is_reachable = True
    with pytest.raises(NotFound):
        await cluster.nodes["host1"].hosts.task(task_id)
    await cluster.registry.put(f"tasks/{task_id}", task.model_dump_json().encode())
    assert (await cluster.nodes["host1"].hosts.task(task_id)).state is TaskState.FAILED
    await cluster.nodes["host2"].tasks.stop(0)


async def test_only_the_newest_owners_are_kept(cluster: ClusterOfTwo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "FORWARDED_KEPT", 2)
    go_on = asyncio.Event()
    ids = [await begun_elsewhere(cluster, go_on) for _ in range(3)]
    assert list(cluster.nodes["host1"].world.task_owners) == ids[1:]
    go_on.set()
