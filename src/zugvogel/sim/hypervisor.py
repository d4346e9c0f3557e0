"""The hypervisor of a simulated host, as its agent sees it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from zugvogel.errors import ProcedureFailed, Refused
from zugvogel.ports.hypervisor import Machine, MachineSpec
from zugvogel.sim.machine import SimMachine
from zugvogel.sim.storage import Fault

if TYPE_CHECKING:
    from zugvogel.sim.host import SimHost

READY_S = 20.0
VERSION = "10.0.2"


class SimHypervisor:
    """`zugvogel.ports.hypervisor.Hypervisor` of one agent: what it spawned or adopted."""

    version = VERSION
    accelerator = "kvm"
    default_machine = "pc-q35-7.2"

    def __init__(self, host: SimHost) -> None:
        self._host = host
        self._known: set[int] = set()
        self._starting: set[str] = set()

    async def spawn(self, spec: MachineSpec) -> Machine:
        vm = spec.definition.name
        if vm in self._starting:
            raise Refused(f"a QEMU of {vm} is being started on this host already", "try again")
        self._starting.add(vm)
        try:
            return await self._spawn(spec)
        finally:
            self._starting.discard(vm)

    async def _spawn(self, spec: MachineSpec) -> Machine:
        host, vm = self._host, spec.definition.name
        if any(m.vm == vm and m.is_alive for m in host.machines.values()):
            raise Refused(f"a QEMU of {vm} is running on this host already", "")
        path = host.paths[spec.folder.parent.name]
        await asyncio.sleep(host.world.spawn.next())
        if path.fault is Fault.HANG:
            await self._host.clock.sleep(READY_S)
            raise ProcedureFailed(f"QEMU did not start {vm}: it does not answer", f"see: zv vm log {vm}")
        if path.fault is Fault.CUT:
            raise ProcedureFailed(f"QEMU did not start {vm}: Could not open its disk: Input/output error", "")
        if not spec.incoming and path.files.has_locks and path.files.locks.get(vm) is not None:
            raise ProcedureFailed(f'QEMU did not start {vm}: Failed to get "write" lock', f"see: zv vm log {vm}")
        machine = host.new_machine(path, spec)
        if not spec.incoming:
            path.files.locks[vm] = machine
        self._known.add(machine.pid)
        return machine

    async def adopt(self) -> list[Machine]:
        found = await asyncio.gather(*(self._adopt(m) for m in self._unknown()))
        return [machine for machine in found if machine is not None]

    def _unknown(self) -> list[SimMachine]:
        return [m for m in self._host.machines.values() if m.is_alive and m.pid not in self._known]

    async def _adopt(self, machine: SimMachine) -> Machine | None:
        await self._host.world.loop.sleep(self._host.world.qmp.next())
        if not machine.is_alive:
            return None
        self._known.add(machine.pid)
        return machine

    def left(self) -> tuple[str, ...]:
        return tuple(m.vm for m in self._unknown())

    def bound_logs(self) -> None:
        """There are none."""

    def log(self, vm: str, lines: int = 200) -> dict[str, str]:
        return {"qemu": "", "serial": ""}
