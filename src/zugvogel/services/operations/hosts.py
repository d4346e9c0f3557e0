"""Operations: maintenance of a host, its labels, roles given out anew, the registry formed anew."""

from __future__ import annotations

import contextlib
from typing import Any

from zugvogel.domain.host import HostStatus, Role, Verdict
from zugvogel.domain.maintenance import MaintenanceReport, VmMove
from zugvogel.domain.requests import ChangeHost, Maintenance
from zugvogel.domain.task import Severity, Task
from zugvogel.errors import ProcedureFailed, Refused, Unreachable
from zugvogel.services.ha.maintenance import Evacuation, Moving
from zugvogel.services.ha.roles import Roles
from zugvogel.services.operations.world import World
from zugvogel.services.tasks import TaskCancelled, TaskContext

KIND = "host.maintenance"
SEEN_WITHIN_S = 15.0
LOOK_S = 0.25


class HostOperations:
    def __init__(self, world: World, moving: Moving, roles: Roles) -> None:
        self._w = world
        self._roles = roles
        self._evacuation = Evacuation(
            moving, world.registry, world.clock, lambda: world.inventory.number("migration.evacuations")
        )

    async def change_host(self, name: str, request: ChangeHost) -> HostStatus:
        if request.failure_domain is not None:
            await self._roles.label(name, request.failure_domain)
            told = f"the failure domain of {name} is {request.failure_domain or 'not known'}"
            self._w.events.emit("host.changed", name, told, evidence=request.model_dump())
        status = await self._w.status_of(name)
        if request.failure_domain is None:
            return status
        host = status.host.model_copy(update={"failure_domain": request.failure_domain})
        return status.model_copy(update={"host": host})

    async def reconfigure_roles(self) -> dict[str, Role]:
        return await self._roles.reconfigure()

    async def reform_registry(self, host: str) -> None:
        self._w.inventory.host(host)
        await self._w.on(host, "registry.reform", {})

    # maintenance ---------------------------------------------------------------------------------

    async def maintain_host(self, name: str, request: Maintenance) -> Task:
        host = self._w.inventory.host(name)
        if not request.is_on and not host.is_in_maintenance and not request.is_return:
            raise Refused(f"{name} is not in maintenance", "see: zv host list")
        running = [t for t in await self._w.tasks.list() if t.kind == KIND and t.subject == name]
        if going_on := [t for t in running if not t.state.is_final]:
            raise Refused(
                f"maintenance of {name} is being changed already",
                f"watch it: zv task watch {going_on[0].id}, or call it off: zv task cancel {going_on[0].id}",
            )
        work = self._enter_maintenance if request.is_on else self._end_maintenance

        async def perform(ctx: TaskContext) -> dict[str, Any]:
            return await work(ctx, name, request)

        return self._w.tasks.start(KIND, name, perform, is_cancellable=True)

    async def _enter_maintenance(self, ctx: TaskContext, name: str, request: Maintenance) -> dict[str, Any]:
        was_on = self._w.inventory.host(name).is_in_maintenance
        if not was_on:
            await self._evacuation.forget(name)
        ctx.progress("role", f"{name} goes into maintenance")
        successor = await self._roles.hand_over(name, is_in_maintenance=True)
        role = f"; {successor} is a primary in its place" if successor else ""
        if not was_on:
            self._w.events.emit("host.maintenance-begun", name, f"{name} is in maintenance{role}", task=ctx.id)
        status = await self._w.status_of(name)
        moves: list[VmMove] = []
        if status.verdict in {Verdict.LIVE, Verdict.MAINTENANCE}:
            moves = await self._emptied(ctx, name, request, was_on=was_on)
        else:
            moves = await self._left_behind(name, status)
        report = MaintenanceReport(host=name, is_in_maintenance=True, successor=successor, vms=tuple(moves))
        return self._told(ctx, report, f"stay on {name}")

    async def _emptied(self, ctx: TaskContext, name: str, request: Maintenance, *, was_on: bool) -> list[VmMove]:
        """Called off, the host takes vms again, unless it did not before."""
        try:
            return await self._evacuation.empty(ctx, name, is_quick_fallback=request.is_quick_fallback)
        except TaskCancelled as end:
            if was_on:
                raise
            await self._roles.hand_over(name, is_in_maintenance=False)
            self._w.events.emit(
                "host.maintenance-ended", name, f"maintenance of {name} was called off", task=ctx.id
            )
            raise TaskCancelled(f"{end.cause}; {name} is not in maintenance") from end

    async def _left_behind(self, name: str, status: HostStatus) -> list[VmMove]:
        why = f"{name} is {status.verdict}, so nothing can be moved away from it"
        held = [v for v in self._w.inventory.vms() if v.host == name and v.observed == "running"]
        return [VmMove(vm=v.definition.name, result="stayed", host=name, why=why) for v in held]

    async def _end_maintenance(self, ctx: TaskContext, name: str, request: Maintenance) -> dict[str, Any]:
        ctx.progress("role", f"{name} takes vms again")
        if self._w.inventory.host(name).is_in_maintenance:
            await self._roles.hand_over(name, is_in_maintenance=False)
            self._w.events.emit("host.maintenance-ended", name, f"{name} takes vms again", task=ctx.id)
        moves: list[VmMove] = []
        if request.is_return:
            await self._until_it_takes_vms(name)
            moves = await self._evacuation.bring_back(ctx, name, is_quick_fallback=request.is_quick_fallback)
        report = MaintenanceReport(host=name, is_in_maintenance=False, vms=tuple(moves))
        return self._told(ctx, report, f"were not brought back to {name}")

    async def _until_it_takes_vms(self, name: str) -> None:
        """Waits until what was written is seen here, where moves are planned: the replica follows the registry,
        and a secondary keeps a primary's answer for a while. A view that does not follow is left to the moves:
        they tell what they find."""
        until = self._w.clock.monotonic() + SEEN_WITHIN_S
        while self._w.clock.monotonic() < until:
            with contextlib.suppress(Unreachable):
                if (await self._w.status_of(name)).verdict is not Verdict.MAINTENANCE:
                    return
            await self._w.clock.sleep(LOOK_S)

    def _told(self, ctx: TaskContext, report: MaintenanceReport, what: str) -> dict[str, Any]:
        """The report as the task keeps it. Raises ProcedureFailed when a vm is not where it was wanted."""
        told = report.model_dump(mode="json")
        ctx.report(told)
        amiss = [m for m in report.vms if m.result == "stayed"]
        if not amiss:
            return told
        names = f"{len(amiss)} of {len(report.vms)} vms {what}"
        reasons = "; ".join(f"{m.vm}: {m.why}" for m in amiss)
        self._w.events.emit(
            "host.evacuation-ended", report.host, f"{names}: {reasons}", severity=Severity.WARNING, evidence=told,
            task=ctx.id,
        )  # fmt: skip
        raise ProcedureFailed(f"{names}: {reasons}", "see to them, then ask again; what has moved stays moved")
