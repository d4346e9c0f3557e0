"""What happened to the vms of a simulated world: when each ran where, and with whose memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

from zugvogel.domain.base import Model
from zugvogel.domain.lease import Lease, LeaseState
from zugvogel.domain.task import Task, TaskState
from zugvogel.domain.vm import VmRecord
from zugvogel.sim.files import SharedFiles
from zugvogel.sim.machine import SimMachine
from zugvogel.sim.world import World

BLACKOUT_S = 1.0


class Interval(Model):
    """The vCPUs of a vm ran on `host`. `to_s` None: to the end."""

    host: str
    from_s: float
    to_s: float | None = None


class Recovery(Model):
    """A vm that ran, did not though nobody wanted that, and runs again. `is_restart`: booted anew, what was not
    saved is lost."""

    vm: str
    failed_at_s: float
    running_at_s: float
    source: str
    target: str
    is_restart: bool


@dataclass(slots=True)
class Run:
    """As `Interval`, with the token of its memory."""

    host: str
    token: str
    from_s: float
    to_s: float | None = None


class Recorder:
    """`down_since`: vm -> since when it runs nowhere, of those that ran. A gap that somebody wished for is no
    recovery: of a vm that is stopped and started again, of one that moves live (it stands still for less than
    BLACKOUT_S and goes on with its memory), of a quick migration that is done as asked."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.runs: dict[str, list[Run]] = {}
        self.down_since: dict[str, float] = {}
        self._open: dict[str, dict[SimMachine, Run]] = {}
        self._stops: dict[str, list[list[float]]] = {}
        """vm -> [since, until] it was to be stopped."""
        self._moves: dict[str, list[tuple[float, float]]] = {}
        """vm -> (since, until) of its migrations that are done."""
        self._moving: dict[str, float] = {}
        """Task -> since when."""
        self._suspended: dict[str, list[float]] = {}
        world.on_vm.append(self._changed)
        world.on_write.append(self._written)
        world.on_link.append(self._linked)

    def _changed(self, vm: str) -> None:
        now, going = self._world.loop.now, self._world.going(vm)
        open_ = self._open.setdefault(vm, {})
        for machine in [m for m in open_ if m not in going]:
            open_.pop(machine).to_s = now
        for machine in going:
            if machine not in open_:
                run = open_[machine] = Run(machine.host.name, machine.token, now)
                self.runs.setdefault(vm, []).append(run)
        if going:
            self.down_since.pop(vm, None)
        else:
            self.down_since.setdefault(vm, now)

    def _written(self, key: str, value: bytes | None) -> None:
        kind, _, name = key.partition("/")
        if value is None:
            return
        if kind == "vms":
            self._wanted(name, VmRecord.model_validate_json(value).wanted)
        elif kind == "tasks":
            self._task(Task.model_validate_json(value))

    def _wanted(self, vm: str, wanted: str) -> None:
        now, stops = self._world.loop.now, self._stops.setdefault(vm, [])
        is_stopped = bool(stops) and math.isinf(stops[-1][1])
        if wanted == "stopped" and not is_stopped:
            stops.append([now, math.inf])
        elif wanted == "running" and is_stopped:
            stops[-1][1] = now

    def _task(self, task: Task) -> None:
        if task.kind != "vm.migrate":
            return
        since, now = self._moving.setdefault(task.id, self._world.loop.now), self._world.loop.now
        if task.state is TaskState.DONE:
            self._moves.setdefault(task.subject, []).append((since, now))

    def _linked(self, files: SharedFiles, host: str, before: Lease | None, linked: Lease) -> None:
        if linked.state is LeaseState.SUSPENDED:
            self._suspended.setdefault(linked.vm, []).append(self._world.loop.now)

    def _is_wished(self, vm: str, before: Run, after: Run) -> bool:
        from_s, to_s = before.to_s or 0.0, after.from_s
        if before.token != after.token:
            return any(since <= to_s and until >= from_s for since, until in self._stops.get(vm, ()))
        suspended_at = next((at for at in self._suspended.get(vm, ()) if from_s <= at <= to_s), None)
        if suspended_at is None:
            return to_s - from_s < BLACKOUT_S
        return any(since <= from_s and suspended_at <= until for since, until in self._moves.get(vm, ()))

    def going_on(self, vm: str) -> list[str]:
        return [run.host for run in self._open.get(vm, {}).values()]

    def gaps(self, vm: str, until_s: float) -> list[tuple[Run, Run | None, float]]:
        """Times in which it ran nowhere: (the run before, the one after or None, seconds)."""
        found: list[tuple[Run, Run | None, float]] = []
        runs = sorted(self.runs.get(vm, ()), key=lambda run: run.from_s)
        last: Run | None = None
        for run in runs:
            if last is not None and last.to_s is not None and run.from_s > last.to_s:
                found.append((last, run, run.from_s - last.to_s))
            if last is None or (last.to_s is not None and (run.to_s is None or run.to_s >= last.to_s)):
                last = run
        if last is not None and last.to_s is not None:
            found.append((last, None, until_s - last.to_s))
        return found

    def intervals(self, vm: str, origin_s: float) -> list[Interval]:
        """Counted from `origin_s`, and cut off there."""
        found: list[Interval] = []
        for run in self.runs.get(vm, ()):
            if run.to_s is not None and run.to_s < origin_s:
                continue
            to_s = None if run.to_s is None else round(run.to_s - origin_s, 3)
            found.append(Interval(host=run.host, from_s=max(0.0, round(run.from_s - origin_s, 3)), to_s=to_s))
        return found

    def recoveries(self, origin_s: float, until_s: float) -> list[Recovery]:
        found = []
        for vm in sorted(self.runs):
            for before, after, _ in self.gaps(vm, until_s):
                if after is None or before.to_s is None or before.to_s < origin_s:
                    continue
                if self._is_wished(vm, before, after):
                    continue
                found.append(
                    Recovery(
                        vm=vm,
                        failed_at_s=round(before.to_s - origin_s, 3),
                        running_at_s=round(after.from_s - origin_s, 3),
                        source=before.host,
                        target=after.host,
                        is_restart=after.token != before.token,
                    )
                )
        return found
