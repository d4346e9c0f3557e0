"""Virtual machines."""

from __future__ import annotations

from zugvogel.client._async.calls import AsyncCalls
from zugvogel.domain.answers import Done, VmLog
from zugvogel.domain.migration import MigrationPlan
from zugvogel.domain.requests import (
    ChangeVm,
    CreateVm,
    MigrateVm,
    ResumeVm,
    StartVm,
    StopVm,
    SuspendVm,
    WhereVm,
)
from zugvogel.domain.task import Task
from zugvogel.domain.vm import VmView


class AsyncVmCalls(AsyncCalls):
    """What answers a Task has only begun: see `wait_task`."""

    async def vms(self) -> list[VmView]:
        """All registered vms."""
        return await self._get(list[VmView], "/vms")

    async def vm(self, name: str) -> VmView:
        """One vm."""
        return await self._get(VmView, "/vms/{name}", name)

    async def create_vm(self, request: CreateVm) -> Task:
        """Make a vm's folder and disks. It is not started."""
        return await self._post(Task, "/vms", body=request)

    async def change_vm(self, name: str, request: ChangeVm) -> VmView:
        """Change its definition. Memory, CPUs, CPU model and display of a running vm change at its next start."""
        return await self._patch(VmView, "/vms/{name}", name, body=request)

    async def delete_vm(self, name: str) -> Task:
        """Remove a stopped vm with its folder and disks."""
        return await self._delete(Task, "/vms/{name}", name)

    async def register_vm(self, name: str, datastore: str | None = None) -> VmView:
        """Take over a vm folder found on a datastore; None: the only one there is."""
        return await self._post(VmView, "/vms/{name}/register", name, body=WhereVm(datastore=datastore))

    async def unregister_vm(self, name: str) -> Done:
        """Forget a stopped vm; its folder stays."""
        return await self._post(Done, "/vms/{name}/unregister", name)

    async def start_vm(self, name: str, request: StartVm | None = None) -> Task:
        """Start it on the named host, or on the best one."""
        return await self._post(Task, "/vms/{name}/start", name, body=request)

    async def stop_vm(self, name: str, request: StopVm | None = None) -> Task:
        """Press its power button and wait for it to power off."""
        return await self._post(Task, "/vms/{name}/stop", name, body=request)

    async def kill_vm(self, name: str) -> Task:
        """Cut its power."""
        return await self._post(Task, "/vms/{name}/kill", name)

    async def reset_vm(self, name: str) -> Done:
        """Press its reset button."""
        return await self._post(Done, "/vms/{name}/reset", name)

    async def suspend_vm(self, name: str, request: SuspendVm | None = None) -> Task:
        """Save its memory on its datastore and end its process. It can be resumed on any host."""
        return await self._post(Task, "/vms/{name}/suspend", name, body=request)

    async def resume_vm(self, name: str, request: ResumeVm | None = None) -> Task:
        """Go on with a suspended vm, on the named host or on the best one."""
        return await self._post(Task, "/vms/{name}/resume", name, body=request)

    async def discard_vm(self, name: str) -> VmView:
        """Throw the saved memory of a suspended vm away. What it had not written to its disks is lost."""
        return await self._post(VmView, "/vms/{name}/discard", name)

    async def vm_log(self, name: str, lines: int = 200) -> VmLog:
        """Last lines of QEMU's own log and of the serial console."""
        return await self._get(VmLog, "/vms/{name}/log", name, params={"lines": lines})

    async def plan_migration(self, name: str, request: MigrateVm | None = None) -> MigrationPlan:
        """All pre-checks and the chosen target; nothing is touched."""
        return await self._post(MigrationPlan, "/vms/{name}/migration-plan", name, body=request)

    async def migrate_vm(self, name: str, request: MigrateVm | None = None) -> Task:
        """Move it to another host: live, while it runs; quick, suspended to shared storage and resumed."""
        return await self._post(Task, "/vms/{name}/migrate", name, body=request)
