"""Virtual machines: life, migration, logs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from zugvogel.api.auth import OPERATOR, VIEWER, TheAccess, TheBackend
from zugvogel.api.routes_storage import NamePath
from zugvogel.domain.answers import Done, VmLog
from zugvogel.domain.cluster import Access
from zugvogel.domain.migration import MigrationPlan
from zugvogel.domain.requests import (
    ChangeVm,
    CreateVm,
    MigrateVm,
    RegisterVm,
    ResumeVm,
    StartVm,
    StopVm,
    SuspendVm,
    WhereVm,
)
from zugvogel.domain.task import Task
from zugvogel.domain.vm import VmView
from zugvogel.errors import Forbidden

router = APIRouter(tags=["vms"])


def _guard_host_files(request: CreateVm, access: Access) -> None:
    """A path makes the agent, which is root, read a file of the host: only admins may ask for that."""
    paths = [p for p in (request.image, request.kernel, request.initrd, request.cloud_init) if "/" in p]
    if paths and not access.allows(Access.ADMIN):
        raise Forbidden(
            f"reading {paths[0]} on a host needs the role admin, yours is {access.value}",
            "use an image of the datastore by its name, or ask an admin",
        )


@router.get("/vms", dependencies=[VIEWER])
async def vms(backend: TheBackend) -> list[VmView]:
    """All registered vms."""
    return await backend.vms()


@router.post("/vms", status_code=202, dependencies=[OPERATOR])
async def create_vm(request: CreateVm, access: TheAccess, backend: TheBackend) -> Task:
    """Make a vm's folder and disks. It is not started."""
    _guard_host_files(request, access)
    return await backend.create_vm(request)


@router.get("/vms/{name}", dependencies=[VIEWER])
async def vm(name: NamePath, backend: TheBackend) -> VmView:
    """One vm."""
    return await backend.vm(name)


@router.patch("/vms/{name}", dependencies=[OPERATOR])
async def change_vm(name: NamePath, request: ChangeVm, backend: TheBackend) -> VmView:
    """Change its definition. Memory, CPUs, CPU model and display of a running vm change at its next start."""
    return await backend.change_vm(name, request)


@router.delete("/vms/{name}", status_code=202, dependencies=[OPERATOR])
async def delete_vm(name: NamePath, backend: TheBackend) -> Task:
    """Remove a stopped vm with its folder and disks."""
    return await backend.delete_vm(name)


@router.post("/vms/{name}/register", status_code=201, dependencies=[OPERATOR])
async def register_vm(name: NamePath, request: WhereVm, backend: TheBackend) -> VmView:
    """Take over a vm folder found on a datastore."""
    return await backend.register_vm(RegisterVm(name=name, datastore=request.datastore))


@router.post("/vms/{name}/unregister", dependencies=[OPERATOR])
async def unregister_vm(name: NamePath, backend: TheBackend) -> Done:
    """Forget a stopped vm; its folder stays."""
    await backend.unregister_vm(name)
    return Done()


@router.post("/vms/{name}/start", status_code=202, dependencies=[OPERATOR])
async def start_vm(name: NamePath, backend: TheBackend, request: StartVm | None = None) -> Task:
    """Start it on the named host, or on the best one."""
    return await backend.start_vm(name, request or StartVm())


@router.post("/vms/{name}/stop", status_code=202, dependencies=[OPERATOR])
async def stop_vm(name: NamePath, backend: TheBackend, request: StopVm | None = None) -> Task:
    """Press its power button and wait for it to power off."""
    return await backend.stop_vm(name, request or StopVm())


@router.post("/vms/{name}/kill", status_code=202, dependencies=[OPERATOR])
async def kill_vm(name: NamePath, backend: TheBackend) -> Task:
    """Cut its power."""
    return await backend.kill_vm(name)


@router.post("/vms/{name}/reset", dependencies=[OPERATOR])
async def reset_vm(name: NamePath, backend: TheBackend) -> Done:
    """Press its reset button."""
    await backend.reset_vm(name)
    return Done()


@router.post("/vms/{name}/suspend", status_code=202, dependencies=[OPERATOR])
async def suspend_vm(name: NamePath, backend: TheBackend, request: SuspendVm | None = None) -> Task:
    """Save its memory on its datastore and end its process. It can be resumed on any host."""
    return await backend.suspend_vm(name, request or SuspendVm())


@router.post("/vms/{name}/resume", status_code=202, dependencies=[OPERATOR])
async def resume_vm(name: NamePath, backend: TheBackend, request: ResumeVm | None = None) -> Task:
    """Go on with a suspended vm, on the named host or on the best one."""
    return await backend.resume_vm(name, request or ResumeVm())


@router.post("/vms/{name}/discard", dependencies=[OPERATOR])
async def discard_vm(name: NamePath, backend: TheBackend) -> VmView:
    """Throw the saved memory of a suspended vm away. What it had not written to its disks is lost."""
    return await backend.discard_vm(name)


@router.get("/vms/{name}/log", dependencies=[VIEWER])
async def vm_log(
    name: NamePath, backend: TheBackend, lines: Annotated[int, Query(ge=1, le=10_000)] = 200
) -> VmLog:
    """Last lines of QEMU's own log and of the serial console."""
    found = await backend.vm_log(name, lines)
    return VmLog(qemu=found.get("qemu", ""), serial=found.get("serial", ""))


@router.post("/vms/{name}/migration-plan", dependencies=[OPERATOR])
async def plan_migration(name: NamePath, backend: TheBackend, request: MigrateVm | None = None) -> MigrationPlan:
    """All pre-checks and the chosen target; nothing is touched."""
    return await backend.plan_migration(name, request or MigrateVm())


@router.post("/vms/{name}/migrate", status_code=202, dependencies=[OPERATOR])
async def migrate_vm(name: NamePath, backend: TheBackend, request: MigrateVm | None = None) -> Task:
    """Move it to another host: live, while it runs; quick, suspended to shared storage and resumed."""
    return await backend.migrate_vm(name, request or MigrateVm())
