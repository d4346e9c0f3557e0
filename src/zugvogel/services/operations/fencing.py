"""Operations: the device that can cut a host's power."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from zugvogel.core import fencing
from zugvogel.domain.host import FenceConfig, Host, HostStatus, Role, Verdict
from zugvogel.domain.requests import SetFence
from zugvogel.domain.task import Severity, Task
from zugvogel.errors import Conflict, NotFound, Refused, ZugvogelError
from zugvogel.ports.fence import Fences
from zugvogel.services.operations.world import World
from zugvogel.services.tasks import TaskContext

TEST_S = 75.0
TRIES = 8
ASKS = {Verdict.LIVE, Verdict.MAINTENANCE, Verdict.STORAGE_LOST}
"""Verdicts under which a primary can be asked."""


class FenceOperations:
    def __init__(self, world: World, fences: Fences) -> None:
        self._w = world
        self._fences = fences
        world.handlers["fence.test"] = self._on_test

    async def fence_config(self, name: str) -> FenceConfig | None:
        """With its secrets: whoever shows it masks them."""
        return self._w.inventory.host(name).fence

    async def set_fence(self, name: str, request: SetFence) -> FenceConfig:
        """In place of what was configured. Raises InvalidInput for what is no fence of a host's power."""
        config = fencing.sorted_out(FenceConfig(**request.model_dump()))
        fencing.refuse_unfit(config)
        await self._change(name, lambda host: host.model_copy(update={"fence": config}))
        told = f"the power of {name} can be cut by {config.agent}"
        evidence = {"agent": config.agent, "parameters": fencing.shown(config)}
        self._w.events.emit("host.fence-configured", name, told, evidence=evidence)
        return config

    async def remove_fence(self, name: str) -> None:
        """Nothing when there is none."""
        before = await self._change(name, lambda host: host.model_copy(update={"fence": None}))
        if before.fence is not None:
            told = f"the power of {name} cannot be cut by a device any more"
            self._w.events.emit("host.fence-removed", name, told, severity=Severity.WARNING)

    async def _change(self, name: str, change: Callable[[Host], Host]) -> Host:
        """Its record as it was."""
        for _ in range(TRIES):
            entry = await self._w.registry.get(f"hosts/{name}")
            if entry is None:
                raise NotFound(f"there is no host {name}", "see: zv host list")
            before = Host.model_validate_json(entry.value)
            if (after := change(before)) == before:
                return before
            try:
                await self._w.inventory.put(f"hosts/{name}", after, revision=entry.revision)
            except Conflict:
                continue
            return before
        raise Conflict(f"{name} is being changed by others all the time", "try again")

    # trying it -------------------------------------------------------------------------------------

    async def test_fence(self, name: str) -> Task:
        """Every primary that can be asked asks the device for the state of the power: any of them may have to cut
        it. Nothing is switched. Report: ``{"host": name, "works": bool, "by": {primary: what it found}}``."""
        host = self._w.inventory.host(name)
        if host.fence is None:
            raise NotFound(
                f"no device is configured that could cut the power of {name}",
                f"zv host fence-config {name} --agent fence_ipmilan --parameter ip=ADDRESS",
            )
        statuses = await self._w.statuses()
        primaries = [
            s.host.name
            for s in statuses
            if s.host.role is Role.PRIMARY and s.verdict in ASKS and s.host.name != name
        ]
        if not primaries:
            raise Refused(f"no primary but {name} itself can be asked to try it", "see: zv host list")
        is_up = any(s.host.name == name and _shows_life(s) for s in statuses)

        async def work(ctx: TaskContext) -> dict[str, Any]:
            ctx.progress("status", f"{', '.join(primaries)} ask the device of {name}")
            found = await asyncio.gather(*(self._tried_by(primary, host, is_up) for primary in primaries))
            by = {primary: told for primary, (_, told) in zip(primaries, found, strict=True)}
            return {"host": name, "works": all(works for works, _ in found), "by": by}

        return self._w.tasks.start("host.fence-test", name, work)

    async def _tried_by(self, primary: str, host: Host, is_up: bool) -> tuple[bool, str]:
        payload = {"host": host.model_dump(mode="json")}
        try:
            answer = await self._w.on(primary, "fence.test", payload, timeout_s=TEST_S)
        except ZugvogelError as error:
            return False, str(error)
        if is_up and not answer["is_on"]:
            return False, f"it says off, but {host.name} shows signs of life: it is another machine's device"
        return True, "it says on" if answer["is_on"] else "it says off"

    async def _on_test(self, payload: dict[str, Any]) -> dict[str, Any]:
        """With the configuration of the one that asks: this host's replica may be behind."""
        return {"is_on": await self._fences.is_on(Host.model_validate(payload["host"]))}


def _shows_life(status: HostStatus) -> bool:
    return status.verdict is not Verdict.FAILED
