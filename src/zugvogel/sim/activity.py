"""What goes on in a simulated cluster that people look at: loads wander, users move, stop and start vms."""

from __future__ import annotations

import math
import random
from enum import StrEnum

from zugvogel.services.heartbeats import Load
from zugvogel.sim.actions import Actions
from zugvogel.sim.host import SimHost
from zugvogel.sim.scenario import Action, Do
from zugvogel.sim.world import World

SYSTEM_BYTES = 1 << 30
LOAD_OF_VCPU = 0.3
STOPPED_SHARE = 0.02
"""So many vms are stopped at a time by what goes on here, at the most; one at least."""


class Activity(StrEnum):
    """How often a user of the simulated cluster does something."""

    NONE = "none"
    LOW = "low"
    BUSY = "busy"


PAUSE_S = {Activity.LOW: 15.0, Activity.BUSY: 2.0}
"""Between two wishes, on average."""


class Loads:
    """Of each host a load that wanders around what its vms would make, with a period of minutes of its own."""

    def __init__(self, world: World) -> None:
        self._world = world
        rng = random.Random(f"{world.seed}/loads")
        self._waves = {name: (rng.uniform(90, 600), rng.uniform(0, 6.28)) for name in world.hosts}
        world.load_of = self.of

    def of(self, host: SimHost) -> Load:
        period_s, phase = self._waves[host.name]
        now = self._world.loop.now
        wave = math.sin(now / period_s * 6.28 + phase) + 0.3 * math.sin(now / 7 + phase)
        running = [m.spec.definition for m in host.machines.values() if m.is_going]
        cpus, used = sum(d.cpus for d in running), sum(d.memory_bytes for d in running)
        load1 = max(0.02, LOAD_OF_VCPU * cpus * (1 + 0.5 * wave))
        system = int(SYSTEM_BYTES * (1.5 + 0.2 * wave))
        return Load(round(load1, 2), max(0, host.facts.memory_total_bytes - used - system))


class Users:
    """Every now and then one of them wants something of a vm, of whichever host answers."""

    def __init__(self, world: World, actions: Actions, vms: list[str], activity: Activity) -> None:
        self._world = world
        self._actions = actions
        self._vms = vms
        self._stopped: list[str] = []
        self._rng = random.Random(f"{world.seed}/users")
        self._pause_s = PAUSE_S.get(activity, 0.0)
        if self._pause_s and vms:
            self._wait()

    def _wait(self) -> None:
        loop = self._world.loop
        loop.world_at(loop.now + self._rng.expovariate(1 / self._pause_s), self._wish)

    def _wish(self) -> None:
        self._wait()
        rng, what = self._rng, self._rng.random()
        if what < 0.15 and len(self._stopped) < max(1, STOPPED_SHARE * len(self._vms)):
            vm = rng.choice(self._vms)
            if vm not in self._stopped:
                self._stopped.append(vm)
                self._do("vm_stop", vm)
        elif what < 0.3 and self._stopped:
            self._do("vm_start", self._stopped.pop(rng.randrange(len(self._stopped))))
        else:
            self._do("vm_migrate", rng.choice(self._vms), "quick" if what > 0.9 else "live")

    def _do(self, do: Do, vm: str, mode: str = "live") -> None:
        """Refused wishes are refused: that is to be seen as well."""
        self._actions.perform(Action.model_validate({"at_s": 0, "do": do, "vm": vm, "mode": mode}))
