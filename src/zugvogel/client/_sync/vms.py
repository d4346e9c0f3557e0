"""Virtual machines."""

from __future__ import annotations

from zugvogel.client._sync.calls import Calls
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


class VmCalls(Calls):
    """What answers a Task has only begun: see `wait_task`."""

    def vms(self) -> list[VmView]:
        """All registered vms."""
        return self._get(list[VmView], "/vms")

    def vm(self, name: str) -> VmView:
        """One vm."""
        return self._get(VmView, "/vms/{name}", name)

    def create_vm(self, request: CreateVm) -> Task:
        """Make a vm's folder and disks. It is not started."""
        return self._post(Task, "/vms", body=request)

    def change_vm(self, name: str, request: ChangeVm) -> VmView:
        """Change its definition. Memory, CPUs, CPU model and display of a running vm change at its next start."""
        return self._patch(VmView, "/vms/{name}", name, body=request)

    def delete_vm(self, name: str) -> Task:
        """Remove a stopped vm with its folder and disks."""
        return self._delete(Task, "/vms/{name}", name)

    def register_vm(self, name: str, datastore: str | None = None) -> VmView:
        """Take over a vm folder found on a datastore; None: the only one there is."""
        return self._post(VmView, "/vms/{name}/register", name, body=WhereVm(datastore=datastore))

    def unregister_vm(self, name: str) -> Done:
        """Forget a stopped vm; its folder stays."""
        return self._post(Done, "/vms/{name}/unregister", name)

    def start_vm(self, name: str, request: StartVm | None = None) -> Task:
        """Start it on the named host, or on the best one."""
        return self._post(Task, "/vms/{name}/start", name, body=request)

    def stop_vm(self, name: str, request: StopVm | None = None) -> Task:
        """Press its power button and wait for it to power off."""
        return self._post(Task, "/vms/{name}/stop", name, body=request)

    def kill_vm(self, name: str) -> Task:
        """Cut its power."""
        return self._post(Task, "/vms/{name}/kill", name)

    def reset_vm(self, name: str) -> Done:
        """Press its reset button."""
        return self._post(Done, "/vms/{name}/reset", name)

    def suspend_vm(self, name: str, request: SuspendVm | None = None) -> Task:
        """Save its memory on its datastore and end its process. It can be resumed on any host."""
        return self._post(Task, "/vms/{name}/suspend", name, body=request)

    def resume_vm(self, name: str, request: ResumeVm | None = None) -> Task:
        """Go on with a suspended vm, on the named host or on the best one."""
        return self._post(Task, "/vms/{name}/resume", name, body=request)

    def discard_vm(self, name: str) -> VmView:
        """Throw the saved memory of a suspended vm away. What it had not written to its disks is lost."""
        return self._post(VmView, "/vms/{name}/discard", name)

    def vm_log(self, name: str, lines: int = 200) -> VmLog:
        """Last lines of QEMU's own log and of the serial console."""
        return self._get(VmLog, "/vms/{name}/log", name, params={"lines": lines})

    def plan_migration(self, name: str, request: MigrateVm | None = None) -> MigrationPlan:
        """All pre-checks and the chosen target; nothing is touched."""
        return self._post(MigrationPlan, "/vms/{name}/migration-plan", name, body=request)

    def migrate_vm(self, name: str, request: MigrateVm | None = None) -> Task:
        """Move it to another host: live, while it runs; quick, suspended to shared storage and resumed."""
        return self._post(Task, "/vms/{name}/migrate", name, body=request)
