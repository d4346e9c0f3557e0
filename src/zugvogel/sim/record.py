"""What happened to the vms of a simulated world: when each ran where, and with whose memory."""

from __future__ import annotations

from dataclasses import dataclass

from zugvogel.domain.base import Model
from zugvogel.sim.machine import SimMachine
from zugvogel.sim.world import World


class Interval(Model):
    """The vCPUs of a vm ran on `host`. `to_s` None: to the end."""

    host: str
    from_s: float
    to_s: float | None = None


class Recovery(Model):
    """A vm that ran, did not, and runs again. `is_restart`: booted anew, what was not saved is lost."""

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
    """`down_since`: vm -> since when it runs nowhere, of those that ran."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.runs: dict[str, list[Run]] = {}
        self.down_since: dict[str, float] = {}
        self._open: dict[str, dict[SimMachine, Run]] = {}
        world.on_vm.append(self._changed)

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
        """Those that lasted, counted from `origin_s`; one that goes on after a pause of nothing is one."""
        found: list[Interval] = []
        for run in self.runs.get(vm, ()):
            to_s = None if run.to_s is None else round(run.to_s - origin_s, 3)
            found.append(Interval(host=run.host, from_s=round(run.from_s - origin_s, 3), to_s=to_s))
        return found

    def recoveries(self, origin_s: float, until_s: float) -> list[Recovery]:
        found = []
        for vm in sorted(self.runs):
            for before, after, _ in self.gaps(vm, until_s):
                if after is None or before.to_s is None or before.to_s < origin_s:
                    continue
                if after.token == before.token and after.host == before.host and after.from_s - before.to_s < 1.0:
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
