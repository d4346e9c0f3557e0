"""What a timeline does to a simulated world: faults at once, wishes of users through an agent's operations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from zugvogel.domain.requests import CreateVm, Maintenance, MigrateVm, NewDisk, StartVm, StopVm
from zugvogel.errors import ZugvogelError
from zugvogel.sim.agent import SimAgent
from zugvogel.sim.host import SimHost
from zugvogel.sim.invariants import Invariants
from zugvogel.sim.scenario import Action
from zugvogel.sim.storage import Fault
from zugvogel.sim.world import World

FAULTS = {"storage_cut": Fault.CUT, "storage_hang": Fault.HANG, "storage_heal": Fault.NONE}


@dataclass(slots=True)
class Asked:
    """A wish: `at_s`, the world's instant of the answer, or of the wish while there is none."""

    at_s: float
    action: Action
    answer: str = "no answer: the agent that was asked is gone"
    is_refused: bool = False

    @property
    def what(self) -> str:
        of = self.action.vm or self.action.name or " ".join(self.action.all_hosts)
        return f"{self.action.do} {of}".strip()


class Actions:
    """`asked`: the wishes of users, in their order. `invariants`: told of what is done."""

    def __init__(self, world: World, invariants: Invariants | None = None) -> None:
        self._world = world
        self._invariants = invariants
        self.asked: list[Asked] = []
        self._of_host: dict[str, Callable[[SimHost], None]] = {
            "power_off": SimHost.power_off,
            "power_on": SimHost.power_on,
            "hang": SimHost.hang,
            "resume": SimHost.resume,
            "agent_kill": SimHost.kill_agent,
            "agent_start": SimHost.start_agent,
            "agent_pause": SimHost.pause_agent,
            "agent_resume": SimHost.resume_agent,
            "guard_kill": lambda host: host.guard.end(),
            "etcd_kill": lambda host: self._member(host, is_killed=True),
            "etcd_start": lambda host: self._member(host, is_killed=False),
            "fence_break": lambda host: world.fences.dead.add(host.name),
        }
        self._of_network: dict[str, Callable[[Action], None]] = {
            "network_cut": lambda a: world.wires.cut(a.all_hosts),
            "network_heal": lambda a: world.wires.heal(a.all_hosts),
            "partition": self._part,
            "heal": lambda a: world.wires.join(),
        }
        self._wishes: dict[str, Callable[[Action, Any], Awaitable[Any]]] = {
            "vm_start": lambda a, ops: ops.start_vm(str(a.vm), StartVm(host=a.to or a.host)),
            "vm_stop": lambda a, ops: ops.stop_vm(str(a.vm), StopVm()),
            "vm_delete": lambda a, ops: ops.delete_vm(str(a.vm)),
            "vm_create": lambda a, ops: ops.create_vm(self._as_before(str(a.vm))),
            "vm_migrate": lambda a, ops: ops.migrate_vm(str(a.vm), MigrateVm(target=a.to or a.host, mode=a.mode)),
            "setting": lambda a, ops: ops.set_setting(a.name, a.value),
            "reconfigure": lambda a, ops: ops.reconfigure_roles(),
            "confirm_dead": lambda a, ops: ops.confirm_dead(a.all_hosts[0]),
            "maintenance_on": lambda a, ops: ops.maintain_host(a.all_hosts[0], Maintenance(is_on=True)),
            "maintenance_off": lambda a, ops: ops.maintain_host(
                a.all_hosts[0], Maintenance(is_on=False, is_return=True)
            ),
        }

    def schedule(self, action: Action, at: float) -> None:
        self._world.loop.world_at(at, self.perform, action)

    def perform(self, action: Action) -> None:
        self._announce(action)
        hosts = [self._world.hosts[name] for name in action.all_hosts]
        if (change := self._of_host.get(action.do)) is not None:
            for host in hosts:
                change(host)
        elif (rewire := self._of_network.get(action.do)) is not None:
            rewire(action)
        elif action.do in FAULTS:
            stores = [action.datastore] if action.datastore else list(self._world.files)
            for host in hosts:
                host.set_storage(FAULTS[action.do], stores)
        elif action.do == "vm_crash":
            for machine in self._world.machines_of(str(action.vm)):
                machine.die("killed by signal 11")
        else:
            self._wish(action)

    def _announce(self, action: Action) -> None:
        if self._invariants is None:
            return
        self._invariants.disturb()
        if action.do == "maintenance_on":
            self._invariants.roles.into_maintenance(action.all_hosts[0])
        elif action.do == "power_on":
            for host in action.all_hosts:
                self._invariants.has_power(host)

    def _part(self, action: Action) -> None:
        if action.is_one_way:
            self._world.wires.block(*action.groups)
        else:
            self._world.wires.part(action.groups)

    def _member(self, host: SimHost, *, is_killed: bool) -> None:
        killed = self._world.registry.killed
        (killed.add if is_killed else killed.discard)(host.name)
        self._world.topology_changed()

    def _as_before(self, vm: str) -> CreateVm:
        """Another vm of the same name and kind."""
        first, datastore = self._world.vms[vm]
        return CreateVm(
            name=vm,
            memory_bytes=first.memory_bytes,
            cpus=first.cpus,
            datastore=datastore,
            networks=tuple(nic.network for nic in first.nics),
            disks=tuple(NewDisk(size_bytes=disk.size_bytes) for disk in first.disks),
            ha=first.ha,
            is_forced=True,
        )

    # wishes ----------------------------------------------------------------------------------------

    def _wish(self, action: Action) -> None:
        asked = Asked(self._world.loop.now, action)
        self.asked.append(asked)
        agent = self._world.door(action.via)
        if agent is None:
            self._answered(asked, "no agent takes it: none runs", is_refused=True)
            return
        if action.do == "reconfigure" and self._invariants is not None:
            self._invariants.roles.reconfigure(agent.domain)
        agent.domain.spawn(self._ask(asked, agent), f"{action.do} of a user")

    async def _ask(self, asked: Asked, agent: SimAgent) -> None:
        """What an agent that ends had under way stays without an answer."""
        action = asked.action
        try:
            told = await self._wishes[action.do](action, agent.services.operations)
        except ZugvogelError as error:
            self._answered(asked, f"{error.code}: {error}", is_refused=True)
        else:
            self._answered(asked, f"task {told.id}" if hasattr(told, "id") else "done")
            if action.do == "confirm_dead" and self._invariants is not None:
                self._invariants.vouched(action.all_hosts[0])
        if action.do == "reconfigure" and self._invariants is not None:
            self._invariants.roles.answered(agent.domain)

    def _answered(self, asked: Asked, told: str, *, is_refused: bool = False) -> None:
        asked.at_s, asked.answer, asked.is_refused = self._world.loop.now, told, is_refused
