"""A host is emptied: its vms move away, a few at a time, by the same operations a user has.

Nothing is kept of a move but the task that does it, and which vms have left (`maintenance/<host>` in the
registry), so an evacuation that is cut is gone on with by asking for maintenance again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

from zugvogel.domain.maintenance import MaintenanceRecord, VmMove
from zugvogel.domain.requests import MigrateVm
from zugvogel.domain.task import Task, TaskState
from zugvogel.domain.vm import VmState, VmView
from zugvogel.errors import Conflict, NotFound, Unreachable, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.registry import Registry
from zugvogel.services.tasks import TaskCancelled, TaskContext

log = logging.getLogger(__name__)

TRIES = 2
"""A live migration is tried so often: two that begin at once may choose the same room."""
WAIT_S = 5.0
AWAY_S = 60.0
"""So long a move whose owner does not answer is waited for."""
ROUNDS = 10
"""Vms that come to the host meanwhile (by moves that had begun before) are moved in rounds of their own."""

Mode = Literal["live", "quick"]


class Moving(Protocol):
    """The operations that are used: see `ports.backend.Backend`."""

    async def vms(self) -> list[VmView]: ...
    async def vm(self, name: str) -> VmView: ...
    async def migrate_vm(self, name: str, request: MigrateVm) -> Task: ...
    async def task(self, task_id: str, *, since: int = -1, wait_s: float = 0.0) -> Task: ...
    async def cancel_task(self, task_id: str) -> Task: ...


class Evacuation:
    """`parallel`: migration.evacuations."""

    def __init__(self, moving: Moving, registry: Registry, clock: Clock, parallel: Callable[[], int]) -> None:
        self._moving = moving
        self._registry = registry
        self._clock = clock
        self._parallel = parallel

    async def empty(self, ctx: TaskContext, host: str, *, is_quick_fallback: bool) -> list[VmMove]:
        """Every vm that runs on `host` is moved to where placement puts it. Those that cannot be moved stay, with
        the reason. Raises TaskCancelled when asked to stop: what moves then is called off, what has moved stays
        away."""
        done: dict[str, VmMove] = {}
        for _ in range(ROUNDS):
            left = [v.name for v in await self._moving.vms() if v.host == host and v.name not in done]
            if not left:
                break
            round_of = _Round(ctx, "evacuate", len(done) + len(left), list(done.values()))

            async def leave(vm: str, told: _Round = round_of) -> VmMove:
                return await self._leave(told, host, vm, is_quick_fallback=is_quick_fallback)

            for move in await self._all(round_of, left, leave):
                done[move.vm] = move
        return list(done.values())

    async def bring_back(self, ctx: TaskContext, host: str, *, is_quick_fallback: bool) -> list[VmMove]:
        """The vms that were moved away, as far as they still run."""
        record = await self.remembered(host)
        round_of = _Round(ctx, "return", len(record.vms), [])

        async def come(vm: str) -> VmMove:
            return await self._come(round_of, host, vm, is_quick_fallback=is_quick_fallback)

        return await self._all(round_of, list(record.vms), come)

    # one vm --------------------------------------------------------------------------------------

    async def _leave(self, told: _Round, host: str, vm: str, *, is_quick_fallback: bool) -> VmMove:
        move = await self._move(told, vm, None, is_quick_fallback=is_quick_fallback)
        if move.result == "moved" and move.how:
            await self._remember(host, vm, is_away=True)
        return move

    async def _come(self, told: _Round, host: str, vm: str, *, is_quick_fallback: bool) -> VmMove:
        try:
            view = await self._moving.vm(vm)
        except NotFound as error:
            await self._remember(host, vm, is_away=False)
            return VmMove(vm=vm, result="stayed", why=error.cause)
        if view.host == host:
            await self._remember(host, vm, is_away=False)
            return VmMove(vm=vm, result="moved", host=host, why="it is there already")
        if view.state is not VmState.RUNNING:
            return VmMove(vm=vm, result="stayed", host=view.host, why=f"it is {view.state}")
        move = await self._move(told, vm, host, is_quick_fallback=is_quick_fallback)
        if move.result == "moved":
            await self._remember(host, vm, is_away=False)
        return move

    async def _move(self, told: _Round, vm: str, target: str | None, *, is_quick_fallback: bool) -> VmMove:
        modes: list[Mode] = ["live"] * TRIES
        if is_quick_fallback:
            modes.append("quick")
        causes: list[str] = []
        for mode in modes:
            if told.ctx.cancel_requested.is_set():
                causes.append("it was called off")
                break
            why = await self._try(told, vm, MigrateVm(mode=mode, target=target))
            view = await self._moving.vm(vm)
            if not why:
                return VmMove(vm=vm, result="moved", how=mode, host=view.host)
            causes.append(f"{mode}: {why}")
            if view.host is None:
                break
        view = await self._moving.vm(vm)
        return VmMove(vm=vm, result="stayed", host=view.host, why="; ".join(dict.fromkeys(causes)))

    async def _try(self, told: _Round, vm: str, request: MigrateVm) -> str:
        """Why it was not moved; empty: it was."""
        try:
            task = await self._moving.migrate_vm(vm, request)
        except ZugvogelError as error:
            return error.cause
        told.begins(vm, task, request.mode)
        try:
            task = await self._end_of(told, task)
        except ZugvogelError as error:
            return error.cause
        finally:
            told.ends(vm)
        return "" if task.state is TaskState.DONE else task.error.cause if task.error else f"it was {task.state}"

    async def _end_of(self, told: _Round, task: Task) -> Task:
        """Waits for its end; calls it off when this task is called off. Raises Unreachable when its owner stays
        away: it goes on or is settled there."""
        answered_at = self._clock.monotonic()
        is_called_off = False
        while not task.state.is_final:
            if told.ctx.cancel_requested.is_set() and not is_called_off:
                is_called_off = await self._call_off(task)
            try:
                task = await self._moving.task(
                    task.id, since=task.version, wait_s=1.0 if is_called_off else WAIT_S
                )
                answered_at = self._clock.monotonic()
            except (Unreachable, NotFound):
                if self._clock.monotonic() - answered_at > AWAY_S:
                    raise
                await self._clock.sleep(1.0)
        return task

    async def _call_off(self, task: Task) -> bool:
        try:
            await self._moving.cancel_task(task.id)
        except Unreachable:
            return False
        except ZugvogelError as error:
            log.info("%s of %s is not called off: %s", task.kind, task.subject, error)
        return True

    # many ----------------------------------------------------------------------------------------

    async def _all(self, told: _Round, vms: list[str], step: Callable[[str], Awaitable[VmMove]]) -> list[VmMove]:
        room = asyncio.Semaphore(self._parallel())

        async def one(vm: str) -> VmMove:
            async with room:
                try:
                    move = await step(vm)
                except ZugvogelError as error:
                    move = VmMove(vm=vm, result="stayed", why=error.cause)
                told.has(move)
                return move

        told.show()
        moves = await asyncio.gather(*(one(vm) for vm in vms))
        if told.ctx.cancel_requested.is_set():
            moved = sum(m.result == "moved" for m in told.moves)
            raise TaskCancelled(f"called off; {moved} of {told.total} vms had moved")
        return list(moves)

    # what has left -------------------------------------------------------------------------------

    async def remembered(self, host: str) -> MaintenanceRecord:
        entry = await self._registry.get(_key(host))
        return MaintenanceRecord.model_validate_json(entry.value) if entry else MaintenanceRecord(host=host)

    async def forget(self, host: str) -> None:
        await self._registry.delete(_key(host))

    async def _remember(self, host: str, vm: str, *, is_away: bool) -> None:
        """Best effort: a move is not undone because it could not be noted."""
        try:
            while not await self._noted(host, vm, is_away=is_away):
                pass
        except ZugvogelError as error:
            log.warning("%s: whether it is away from %s is not remembered: %s", vm, host, error)

    async def _noted(self, host: str, vm: str, *, is_away: bool) -> bool:
        """False: another move was noted meanwhile."""
        entry = await self._registry.get(_key(host))
        record = MaintenanceRecord.model_validate_json(entry.value) if entry else MaintenanceRecord(host=host)
        vms = [v for v in record.vms if v != vm] + ([vm] if is_away else [])
        after = record.model_copy(update={"vms": tuple(vms)}).model_dump_json().encode()
        try:
            await self._registry.put(_key(host), after, revision=entry.revision if entry else 0)
        except Conflict:
            return False
        return True


class _Round:
    """What is shown of the moves under way."""

    def __init__(self, ctx: TaskContext, phase: str, total: int, moves: list[VmMove]) -> None:
        self.ctx = ctx
        self.total = total
        self.moves = moves
        self._phase = phase
        self._now: dict[str, tuple[Task, Mode]] = {}

    def begins(self, vm: str, task: Task, mode: Mode) -> None:
        self._now[vm] = (task, mode)
        self.show()

    def ends(self, vm: str) -> None:
        self._now.pop(vm, None)
        self.show()

    def has(self, move: VmMove) -> None:
        self.moves.append(move)
        self.show()

    def show(self) -> None:
        moved = sum(m.result == "moved" for m in self.moves)
        stay = len(self.moves) - moved
        parts = [f"{moved} of {self.total} vms moved"]
        if stay:
            parts.append(f"{stay} stay")
        if self._now:
            parts.append("now " + ", ".join(sorted(self._now)))
        detail = {
            "done": len(self.moves),
            "total": self.total,
            "moving": {vm: {"task": task.id, "how": mode} for vm, (task, mode) in sorted(self._now.items())},
            "vms": [m.model_dump(mode="json") for m in self.moves],
        }
        fraction = len(self.moves) / self.total if self.total else 1.0
        self.ctx.progress(self._phase, "; ".join(parts), fraction, detail)


def _key(host: str) -> str:
    return f"maintenance/{host}"
