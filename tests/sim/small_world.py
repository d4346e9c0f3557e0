"""A small simulated cluster for tests of its parts."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from zugvogel.domain.lease import Holder, Lease, LeaseState
from zugvogel.domain.vm import Disk, VmDefinition
from zugvogel.ports.hypervisor import MachineSpec
from zugvogel.sim.agent import SimAgent
from zugvogel.sim.host import SimHost
from zugvogel.sim.machine import SimMachine
from zugvogel.sim.memory import SimMemory
from zugvogel.sim.storage import SimMount
from zugvogel.sim.world import World

T = TypeVar("T")

MADE: list[World] = []
"""Worlds that a test has made; they are closed after it."""


def definition(name: str, memory_bytes: int = 1 << 28) -> VmDefinition:
    return VmDefinition(
        name=name, uuid=f"uuid-{name}", memory_bytes=memory_bytes, cpus=1, machine="pc-q35-7.2",
        cpu_model="x86-64-v2", disks=(Disk(file="disk0", format="qcow2", size_bytes=1 << 20),),
    )  # fmt: skip


def small_world(hosts: int = 3, vms: int = 2, *, begins: bool = False, is_enabled: bool = True) -> World:
    """Hosts h1.., vms v1.. on datastore ds. Without `begins` the hosts have power and no agent ever starts.
    `is_enabled`: high availability is."""
    world = World(1)
    MADE.append(world)
    world.add_datastore("ds", "GFS2", lock_lease_s=0.0)
    for number in range(1, hosts + 1):
        world.add_host(f"h{number}", 8, 1 << 35)
    for number in range(1, vms + 1):
        world.add_vm(definition(f"v{number}"), "ds")
    if begins:
        world.add_setting("das.enabled", is_enabled)
        world.begin()
    else:
        for host in world.hosts.values():
            host.power_on(boot_s=1e9)
    return world


def mount(world: World, host: str) -> SimMount:
    there = world.hosts[host]
    return SimMount(there.paths["ds"], host, SimMemory(there.paths["ds"], there.pipes))


def does(world: World, work: Coroutine[Any, Any, T]) -> T:
    """Run it in the world, belonging to nobody."""
    return world.loop.run_until_complete(work)


def begin(world: World, work: Coroutine[Any, Any, T]) -> Any:
    """Start it in the world; a task."""
    return world.loop.create_task(work)


def machine(world: World, host: str, vm: str, *, incoming: bool = False) -> SimMachine:
    there: SimHost = world.hosts[host]
    spec = MachineSpec(definition=definition(vm), folder=Path("/srv/ds") / vm, nics=(), incoming=incoming)
    return there.new_machine(there.paths["ds"], spec)


def going(world: World, host: str, vm: str) -> SimMachine:
    found = machine(world, host, vm)
    does(world, found.cont())
    return found


def agent(world: World, host: str) -> SimAgent:
    found = world.hosts[host].agent
    assert found is not None
    return found


def lease(vm: str, epoch: int, host: str, heir: str | None = None) -> Lease:
    return Lease(
        vm=vm, epoch=epoch, state=LeaseState.RUNNING, holder=Holder(host=host, boot_id=f"{host}-boot-1"), heir=heir
    )
