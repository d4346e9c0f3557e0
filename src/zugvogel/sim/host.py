"""A simulated host: its power, its clock, its QEMUs, its paths to storage, its agent and its guard."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zugvogel.domain.host import Host, HostFacts
from zugvogel.ports.hypervisor import MachineSpec
from zugvogel.sim.agent import SimAgent
from zugvogel.sim.clock import SimClock
from zugvogel.sim.guard import SimGuard
from zugvogel.sim.machine import SimMachine
from zugvogel.sim.memory import Pipes
from zugvogel.sim.storage import Fault, StoragePath

if TYPE_CHECKING:
    from zugvogel.sim.world import World

BOOT_S = 20.0
"""From power to the agent's start."""


@dataclass(slots=True)
class SimBoot:
    """A port `Boot`."""

    id: str
    has_spoken: bool = False

    def speaks(self, does: bool) -> None:
        self.has_spoken = does


class SimHost:
    """Off until `power_on`. `rate` of its clock; `hosts_known`: what its agents keep on its own disk."""

    def __init__(self, world: World, record: Host, facts: HostFacts, rate: float) -> None:
        self.world = world
        self.name = record.name
        self.joined_at = record.joined_at
        self.address = record.address
        self.facts = facts
        self.rate = rate
        self.hosts_known: list[Host] = []
        self.is_powered = False
        self.is_hung = False
        self.boot_number = 0
        self.boot = SimBoot("")
        self.clock = SimClock(world.loop, rate=rate)
        self.paths = {name: world.new_path(files) for name, files in world.files.items()}
        self.pipes = Pipes()
        self.machines: dict[int, SimMachine] = {}
        self.agent: SimAgent | None = None
        self.guard = SimGuard(self)
        self._agents = 0
        self._is_start_due = False
        """Its agent was to start while it hung."""
        self._pids = 1000

    @property
    def is_up(self) -> bool:
        """It has power and does not hang."""
        return self.is_powered and not self.is_hung

    @property
    def has_member(self) -> bool:
        """Its agent keeps a member of the registry running."""
        return self.is_up and self.agent is not None and not self.agent.domain.is_stopped

    # power -----------------------------------------------------------------------------------------

    def power_on(self, boot_s: float = BOOT_S) -> None:
        if self.is_powered:
            return
        self.is_powered = True
        self.world.fenced.discard(self.name)
        self.boot_number += 1
        self.boot = SimBoot(f"{self.name}-boot-{self.boot_number}")
        rng = random.Random(f"{self.world.seed}/{self.boot.id}")
        self.clock = SimClock(
            self.world.loop,
            rate=self.rate,
            started_at_s=rng.uniform(5, 500),
            since_s=self.world.loop.now,
        )
        self.guard = SimGuard(self)
        boot = self.boot_number
        self.world.loop.world_at(self.world.loop.now + boot_s, self._booted, boot)

    def _booted(self, boot: int) -> None:
        if self.is_powered and self.boot_number == boot:
            self.start_agent()

    def power_off(self) -> None:
        """All of it at once; what was not written is lost."""
        if not self.is_powered:
            return
        self._is_start_due = False
        self.resume()
        self.is_powered = False
        if self.agent is not None:
            self.agent.end()
            self.agent = None
        self.guard.end()
        for machine in list(self.machines.values()):
            machine.lose_power()
            self.forget(machine)
        for path in self.paths.values():
            path.drop()
        self.world.topology_changed()

    def hang(self) -> None:
        """Nothing of the host runs: no agent, no guard, no vCPU."""
        if not self.is_up:
            return
        self.is_hung = True
        if self.agent is not None:
            self.agent.domain.pause()
        self.guard.pause()
        self._tell_machines()
        self.world.topology_changed()

    def resume(self) -> None:
        """It goes on as if nothing had been, but its clock has gone on: vCPUs first, which is the worst."""
        if not self.is_hung:
            return
        self.is_hung = False
        self._tell_machines()
        self.guard.resume()
        if self.agent is not None and not self.agent.is_paused:
            self.agent.domain.resume()
        self.world.topology_changed()
        if self._is_start_due:
            self.start_agent()

    def _tell_machines(self) -> None:
        for machine in list(self.machines.values()):
            machine.look_at_host()
            self.world.vm_changed(machine.vm)

    # the agent -------------------------------------------------------------------------------------

    def start_agent(self) -> None:
        """On a host that hangs when it goes on, as its service manager would."""
        self._is_start_due = self.is_hung
        if not self.is_up or self.agent is not None:
            return
        self._agents += 1
        self.agent = SimAgent(self, self._agents)
        self.world.topology_changed()

    def kill_agent(self) -> None:
        self._is_start_due = False
        if self.agent is None:
            return
        agent, self.agent = self.agent, None
        agent.end()
        agent.reset_connections()
        self.world.topology_changed()

    def pause_agent(self) -> None:
        """SIGSTOP of the agent alone."""
        if self.agent is not None:
            self.agent.is_paused = True
            self.agent.domain.pause()
            self.world.topology_changed()

    def resume_agent(self) -> None:
        if self.agent is not None and self.agent.is_paused:
            self.agent.is_paused = False
            if not self.is_hung:
                self.agent.domain.resume()
            self.world.topology_changed()

    # storage and QEMUs -----------------------------------------------------------------------------

    def set_storage(self, fault: Fault, datastores: Sequence[str]) -> None:
        for name in datastores:
            self.paths[name].set_fault(fault)

    def new_machine(self, path: StoragePath, spec: MachineSpec) -> SimMachine:
        self._pids += 1
        machine = self.machines[self._pids] = SimMachine(self, path, spec, self._pids)
        self.world.by_vm.setdefault(machine.vm, []).append(machine)
        return machine

    def forget(self, machine: SimMachine) -> None:
        if self.machines.pop(machine.pid, None) is not None:
            self.world.by_vm[machine.vm].remove(machine)
            self.guard.machine_changed()

    def listener(self, port: int) -> SimMachine | None:
        """The QEMU that waits for a stream at `port`."""
        for machine in self.machines.values():
            if machine.is_alive and machine.listens_at is not None and machine.listens_at[1] == port:
                return machine
        return None
