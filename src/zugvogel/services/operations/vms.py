"""Operations on vms: make, change, start, stop, look."""

from __future__ import annotations

import asyncio
import logging
import secrets
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from zugvogel.core import cpu, placement
from zugvogel.domain.base import Model
from zugvogel.domain.host import Verdict, VmReport
from zugvogel.domain.lease import LeaseState
from zugvogel.domain.requests import ChangeVm, CreateVm, NewDisk, RegisterVm, StartVm, StopVm
from zugvogel.domain.task import Task
from zugvogel.domain.vm import Boot, Disk, Nic, VmDefinition, VmRecord, VmState, VmView
from zugvogel.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    NotFound,
    ProcedureFailed,
    Refused,
    Unreachable,
    ZugvogelError,
)
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.inventory import Observation
from zugvogel.services.operations.deletion import Deletion
from zugvogel.services.operations.world import World
from zugvogel.services.tasks import TaskContext

log = logging.getLogger(__name__)


SPEAKS = {Verdict.LIVE, Verdict.STORAGE_LOST}
"""Verdicts under which a host's report of its vms is fresh."""


class MacOwner(Model):
    """Value of ``macs/<mac>``: makes MACs unique in the cluster."""

    vm: str


def new_mac() -> str:
    return "52:54:00:" + ":".join(f"{b:02x}" for b in secrets.token_bytes(3))


class VmOperations:
    def __init__(self, world: World, baseline: Callable[[], Awaitable[str]]) -> None:
        self._w = world
        self._baseline = baseline
        self._deletion = Deletion(world)
        world.handlers.update(
            {
                "vm.start": self._on_start,
                "vm.stop": self._on_stop,
                "vm.kill": self._on_kill,
                "vm.reset": self._on_reset,
                "vm.log": self._on_log,
            }
        )

    # looking -------------------------------------------------------------------------------------

    async def vms(self) -> list[VmView]:
        reports = await self._reports()
        return [self._view(r, reports.get(r.definition.name)) for r in self._w.inventory.vms()]

    async def vm(self, name: str) -> VmView:
        reports = await self._reports()
        return self._view(self._w.inventory.vm(name), reports.get(name))

    async def _reports(self) -> dict[str, tuple[str, Verdict, VmReport]]:
        """vm -> (host, its verdict, report), the one with the highest epoch."""
        found: dict[str, tuple[str, Verdict, VmReport]] = {}
        for status in await self._w.statuses():
            for report in status.report.vms if status.report else ():
                known = found.get(report.name)
                if known is None or report.epoch > known[2].epoch:
                    found[report.name] = (status.host.name, status.verdict, report)
        return found

    def _view(self, record: VmRecord, seen: tuple[str, Verdict, VmReport] | None) -> VmView:
        definition = record.definition
        host, state, epoch = record.host, record.observed, record.epoch
        addresses: tuple[str, ...] = ()
        if seen is not None and state is VmState.RUNNING:  # they go with its MAC, also just after a move
            addresses = seen[2].addresses
        is_migrating, why = False, record.why
        if seen is not None and seen[2].epoch >= record.epoch:
            host, verdict, report = seen
            epoch, addresses, is_migrating = report.epoch, report.addresses, report.is_migrating
            state = report.state if verdict in SPEAKS else VmState.UNKNOWN
            why = report.why or why
        macs = tuple(n.mac for n in definition.nics)
        return VmView(
            name=definition.name,
            host=host if state in {VmState.RUNNING, VmState.UNKNOWN, VmState.FROZEN} else None,
            state=state,
            addresses=addresses,
            mac=macs[0] if macs else "",
            macs=macs,
            memory_bytes=definition.memory_bytes,
            cpus=definition.cpus,
            datastore=record.datastore,
            networks=tuple(n.network for n in definition.nics),
            wanted=record.wanted,
            epoch=epoch,
            why=why,
            is_migrating=is_migrating,
            definition=definition,
        )

    async def holder(self, name: str) -> str:
        """Host that runs `name`; Refused when none does."""
        view = await self.vm(name)
        if view.host is None or view.state not in {VmState.RUNNING, VmState.FROZEN}:
            raise Refused(f"{name} is {view.state}, not running", f"start it: zv vm start {name}")
        return view.host

    async def vm_log(self, name: str, lines: int) -> dict[str, str]:
        record = self._w.inventory.vm(name)
        host = (await self.vm(name)).host or record.host or self._w.me
        answer = await self._w.on(host, "vm.log", {"vm": name, "lines": lines})
        return {str(k): str(v) for k, v in answer.items()}

    async def _on_log(self, payload: dict[str, Any]) -> dict[str, Any]:
        self._w.inventory.vm(str(payload["vm"]))
        return dict(self._w.vms.hypervisor.log(str(payload["vm"]), int(payload["lines"])))

    # making --------------------------------------------------------------------------------------

    async def create_vm(self, request: CreateVm) -> Task:
        if any(v.definition.name == request.name for v in self._w.inventory.vms()):
            raise AlreadyExists(f"there is a vm {request.name} already", "choose another name")
        datastore = self._default_datastore(request.datastore)
        networks = self._default_networks(request.networks)
        if request.image and (request.kernel or request.initrd):
            raise InvalidInput("--image and --kernel exclude each other", "give one of them")
        if request.initrd and not request.kernel:
            raise InvalidInput("--initrd needs --kernel", "name the kernel too")
        if request.mac and not networks:
            raise InvalidInput("--mac needs a network", "name it with --network")

        async def work(ctx: TaskContext) -> dict[str, Any]:
            return await self._create(ctx, request, datastore, networks)

        return self._w.tasks.start("vm.create", request.name, work)

    def _default_datastore(self, name: str | None) -> str:
        if name is not None:
            return self._w.inventory.datastore(name).name
        known = [d.name for d in self._w.inventory.datastores()]
        if len(known) == 1:
            return known[0]
        if not known:
            raise Refused("the cluster has no datastore", "add one: zv datastore add NAME PATH")
        raise InvalidInput(f"the cluster has several datastores: {', '.join(known)}", "choose with --datastore")

    def _default_networks(self, names: tuple[str, ...] | None) -> tuple[str, ...]:
        if names is not None:
            return tuple(self._w.inventory.network(n).name for n in names)
        known = [n.name for n in self._w.inventory.networks()]
        if len(known) > 1:
            raise InvalidInput(f"the cluster has several networks: {', '.join(known)}", "choose with --network")
        return tuple(known)

    async def _create(
        self, ctx: TaskContext, request: CreateVm, datastore: str, networks: tuple[str, ...]
    ) -> dict[str, Any]:
        store = self._w.mounted(datastore)
        ctx.progress("definition", f"making the folder of {request.name} on {datastore}")
        model = await self._cpu_model(request.cpu_model)
        nics = tuple(Nic(network=n, mac=new_mac()) for n in networks)
        if request.mac and nics:
            nics = (Nic(network=nics[0].network, mac=request.mac.lower()), *nics[1:])
        definition = VmDefinition(
            name=request.name,
            uuid=str(uuid.uuid4()),
            memory_bytes=request.memory_bytes,
            cpus=request.cpus,
            machine=self._w.vms.hypervisor.default_machine,
            cpu_model=model,
            nics=nics,
            description=request.description,
        )
        images = await self._find_images(datastore, request)
        await self._require_registry(request.name)
        await store.folders.create(definition)
        try:
            definition = await self._fill(ctx, definition, request, images, datastore)
            await store.folders.write(definition)
            await self._enter(definition, datastore)
        except Unreachable as error:
            raise ProcedureFailed(
                f"the folder of {request.name} is on {datastore}, but whether the cluster knows it is not known: "
                f"{error.cause}",
                f"look with: zv vm show {request.name}; if it is unknown: zv vm register {request.name}",
            ) from error
        except BaseException:
            await self._take_back(store, request.name)
            raise
        self._w.events.emit("vm.created", request.name, f"{request.name} was created on {datastore}", task=ctx.id)
        return {"name": request.name, "datastore": datastore}

    async def _require_registry(self, name: str) -> None:
        """Asked before anything is made: without its majority the vm could not be entered."""
        try:
            await self._w.registry.get(f"vms/{name}")
        except Unreachable as error:
            raise Unreachable(
                f"{name} was not made: {error.cause}", "see which primaries are down: zv host list; then try again"
            ) from error

    @staticmethod
    async def _take_back(store: MountedDatastore, name: str) -> None:
        """After a failed create; what cannot be removed is left, since the first error is the one to tell."""
        try:
            await store.folders.delete(name)
        except ZugvogelError as error:
            log.warning("%s: its unfinished folder stays: %s", name, error)

    async def _cpu_model(self, wanted: str) -> str:
        """A model's name; empty or "baseline": the cluster's baseline now."""
        if wanted in {"", "baseline"}:
            return await self._baseline()
        if wanted != "host" and wanted not in cpu.MODELS:
            raise InvalidInput(
                f"there is no cpu model {wanted}", f"models are: baseline, host, {', '.join(cpu.MODELS)}"
            )
        return wanted

    async def _enter(self, definition: VmDefinition, datastore: str) -> None:
        values: dict[str, Model] = {f"macs/{n.mac}": MacOwner(vm=definition.name) for n in definition.nics}
        values[f"vms/{definition.name}"] = VmRecord(definition=definition, datastore=datastore)
        try:
            await self._w.inventory.create(values)
        except Conflict as error:
            raise AlreadyExists(
                f"the name {definition.name} or one of its MAC addresses is taken in the cluster",
                "choose another name or MAC",
            ) from error

    async def _find_images(self, datastore: str, request: CreateVm) -> dict[str, Path]:
        """kernel, initrd, disk, append as files; looked up before anything is made."""
        found: dict[str, Path] = {}
        if request.image:
            found = await self._w.datastores.find_image(self._w.inventory.datastore(datastore), request.image)
        for key, text in (
            ("kernel", request.kernel),
            ("initrd", request.initrd),
            ("cloud_init", request.cloud_init),
        ):
            if text:
                path = Path(text)
                if not path.is_absolute() or not await asyncio.to_thread(path.is_file):
                    raise NotFound(f"{self._w.me} has no file {text}", "give an absolute path on that host")
                found[key] = path
        return found

    async def _fill(
        self,
        ctx: TaskContext,
        definition: VmDefinition,
        request: CreateVm,
        images: dict[str, Path],
        datastore: str,
    ) -> VmDefinition:
        """Copy images in, make disks; the definition with them."""
        folders = self._w.mounted(datastore).folders
        name, disks, wanted = definition.name, [], list(request.disks)
        boot: Boot | None = None
        if "kernel" in images:
            ctx.progress("boot files", "copying kernel and initrd")
            await folders.copy_in(name, "kernel", images["kernel"])
            if "initrd" in images:
                await folders.copy_in(name, "initrd", images["initrd"])
            append = await self._append(request, images)
            boot = Boot(kernel="kernel", initrd="initrd" if "initrd" in images else "", append=append)
        if "disk" in images:
            ctx.progress("image", f"copying {images['disk'].name}")
            size = wanted.pop(0).size_bytes if wanted else 0
            disks.append(await self._import(datastore, name, images["disk"], size))
        for disk in wanted:
            ctx.progress("disks", f"making disk {len(disks)}")
            disks.append(await self._new_disk(datastore, name, len(disks), disk))
        cloud_init = ""
        if "cloud_init" in images:
            cloud_init = await folders.make_seed(name, images["cloud_init"])
        return definition.model_copy(update={"disks": tuple(disks), "boot": boot, "cloud_init": cloud_init})

    async def _append(self, request: CreateVm, images: dict[str, Path]) -> str:
        base = ""
        if "append" in images:
            base = (await asyncio.to_thread(images["append"].read_text)).strip()
        return " ".join(part for part in (base, request.append) if part)

    async def _import(self, datastore: str, name: str, image: Path, size: int) -> Disk:
        folders = self._w.mounted(datastore).folders
        form, grown = await folders.import_image(name, "disk0", image, size)
        return Disk.model_validate({"file": "disk0", "format": form, "size_bytes": grown})

    async def _new_disk(self, datastore: str, name: str, number: int, disk: NewDisk) -> Disk:
        file = f"disk{number}"
        await self._w.mounted(datastore).folders.create_disk(name, file, disk.format, disk.size_bytes)
        return Disk(file=file, format=disk.format, size_bytes=disk.size_bytes)

    # changing ------------------------------------------------------------------------------------

    async def change_vm(self, name: str, request: ChangeVm) -> VmView:
        record = self._w.inventory.vm(name)
        folders = self._w.mounted(record.datastore).folders
        if (request.add_disks or request.add_networks) and record.observed in {
            VmState.RUNNING,
            VmState.SUSPENDED,
        }:
            raise Refused(
                f"{name} is {record.observed}; disks and networks are added to stopped vms", f"zv vm stop {name}"
            )
        before = await folders.read(name)
        update = request.model_dump(
            include={"memory_bytes", "cpus", "cpu_model", "description"}, exclude_none=True
        )
        if request.cpu_model is not None:
            update["cpu_model"] = await self._cpu_model(request.cpu_model)
        if request.append is not None:
            if before.boot is None:
                raise Refused(f"{name} boots from its disk; --append is for direct kernel boot", "")
            update["boot"] = before.boot.model_copy(update={"append": request.append})
        disks = list(before.disks)
        for disk in request.add_disks:
            disks.append(await self._new_disk(record.datastore, name, len(disks), disk))
        nics = (
            *before.nics,
            *(Nic(network=self._w.inventory.network(n).name, mac=new_mac()) for n in request.add_networks),
        )
        after = VmDefinition.model_validate(
            before.model_copy(update={**update, "disks": tuple(disks), "nics": nics}).model_dump()
        )
        for nic in after.nics[len(before.nics) :]:
            await self._w.inventory.create({f"macs/{nic.mac}": MacOwner(vm=name)})
        await folders.write(after)
        await self._w.inventory.change_vm(name, lambda r: r.model_copy(update={"definition": after}))
        self._w.events.emit(
            "vm.changed", name, f"{name} was changed", evidence=request.model_dump(exclude_none=True)
        )
        return await self.vm(name)

    async def _refuse_if_held(self, record: VmRecord, *, is_left_here_allowed: bool = False) -> None:
        """`is_left_here_allowed`: a lease of this host without a QEMU is no obstacle (a delete was cut off)."""
        name = record.definition.name
        lease = await self._w.mounted(record.datastore).leases.read(name)
        if lease is not None and lease.state is not LeaseState.RELEASED:
            host = lease.holder.host if lease.holder else "a host"
            is_left_here = host == self._w.me and not lease.heir and not self._w.vms.is_in_care(name)
            if is_left_here and is_left_here_allowed:
                return
            if lease.state is LeaseState.SUSPENDED:
                raise Refused(
                    f"{name} is suspended with its memory saved",
                    f"go on with it: zv vm resume {name}; or throw its memory away: zv vm discard {name}",
                )
            raise Refused(f"{name} is {lease.state} on {host}", f"stop it first: zv vm stop {name}")

    async def delete_vm(self, name: str) -> Task:
        record = self._w.inventory.vm(name)
        await self._refuse_if_held(record, is_left_here_allowed=True)

        async def work(ctx: TaskContext) -> dict[str, Any]:
            ctx.progress("delete", f"removing the folder of {name}")
            await self._deletion.delete(self._w.mounted(record.datastore), name)
            await self._forget(record)
            self._w.events.emit("vm.deleted", name, f"{name} and its disks were deleted", task=ctx.id)
            return {"name": name}

        return self._w.tasks.start("vm.delete", name, work)

    async def _forget(self, record: VmRecord) -> None:
        keys = [f"macs/{n.mac}" for n in record.definition.nics]
        await self._w.inventory.delete(f"vms/{record.definition.name}", *keys)

    async def register_vm(self, request: RegisterVm) -> VmView:
        datastore = self._default_datastore(request.datastore)
        store = self._w.mounted(datastore)
        definition = await store.folders.read(request.name)
        lease = await store.leases.read(request.name)
        await self._enter(definition, datastore)
        if lease is not None and lease.state is LeaseState.SUSPENDED:
            self._w.inventory.observe(
                Observation(
                    vm=request.name, observed=VmState.SUSPENDED, host=None, epoch=lease.epoch, why=lease.why
                )
            )
        self._w.events.emit("vm.registered", request.name, f"{request.name} was registered from {datastore}")
        return await self.vm(request.name)

    async def unregister_vm(self, name: str) -> None:
        record = self._w.inventory.vm(name)
        await self._refuse_if_held(record)
        await self._forget(record)
        self._w.events.emit(
            "vm.unregistered", name, f"{name} was unregistered; its folder stays on {record.datastore}"
        )

    # starting and ending ---------------------------------------------------------------------------

    async def start_vm(self, name: str, request: StartVm) -> Task:
        view = await self.vm(name)
        if view.state in {VmState.RUNNING, VmState.UNKNOWN, VmState.FROZEN}:
            raise Refused(f"{name} is {view.state} on {view.host}", f"see: zv vm show {name}")
        host, why = await self._choose(name, request.host)
        return await self._task_on(host, "vm.start", {"vm": name, "why": why})

    async def _choose(self, name: str, wanted: str | None) -> tuple[str, str]:
        record = self._w.inventory.vm(name)
        networks = [self._w.inventory.network(n.network) for n in record.definition.nics]
        candidates = placement.weigh(record.definition, record.datastore, networks, await self._w.statuses())
        if wanted is not None:
            self._w.inventory.host(wanted)
            chosen = next(c for c in candidates if c.host == wanted)
            if not chosen.is_fit:
                raise Refused(f"{wanted} cannot run {name}: it {chosen.why}", "choose another host")
            return wanted, "asked for"
        if not candidates or not candidates[0].is_fit:
            raise Refused(
                f"{name} cannot start: {placement.explain_none(candidates)}", "free resources or add a host"
            )
        return candidates[0].host, candidates[0].why

    async def _task_on(self, host: str, command: str, payload: dict[str, Any]) -> Task:
        return Task.model_validate(await self._w.on(host, command, payload))

    async def _on_start(self, payload: dict[str, Any]) -> dict[str, Any]:
        name, why = str(payload["vm"]), str(payload.get("why", ""))

        async def work(ctx: TaskContext) -> dict[str, Any]:
            ctx.progress("start", f"starting {name} on {self._w.me} ({why})")
            await self._w.vms.looked_at(name)
            self._deletion.refuse_start(name)  # no await between this and `start` marking it as in care
            guest = await self._w.vms.start(name)
            return {"vm": name, "host": self._w.me, "epoch": guest.epoch, "why": why}

        return self._w.tasks.start("vm.start", name, work).model_dump(mode="json")

    async def stop_vm(self, name: str, request: StopVm) -> Task:
        timeout_s = request.timeout_s or self._w.inventory.number("vm.stoptimeout")
        return await self._task_on(await self.holder(name), "vm.stop", {"vm": name, "timeout_s": timeout_s})

    async def _on_stop(self, payload: dict[str, Any]) -> dict[str, Any]:
        name, timeout_s = str(payload["vm"]), float(payload["timeout_s"])
        await self._w.vms.settled_guest(name)

        async def work(ctx: TaskContext) -> dict[str, Any]:
            ctx.progress("stop", f"power button of {name} pressed; waiting up to {timeout_s:.0f} s")
            await self._w.vms.stop(name, timeout_s, ctx.cancel_requested)
            return {"vm": name, "host": self._w.me}

        return self._w.tasks.start("vm.stop", name, work, is_cancellable=True).model_dump(mode="json")

    async def kill_vm(self, name: str) -> Task:
        return await self._task_on(await self.holder(name), "vm.kill", {"vm": name})

    async def _on_kill(self, payload: dict[str, Any]) -> dict[str, Any]:
        name = str(payload["vm"])
        await self._w.vms.settled_guest(name)

        async def work(ctx: TaskContext) -> dict[str, Any]:
            ctx.progress("kill", f"cutting the power of {name}")
            await self._w.vms.kill(name)
            return {"vm": name, "host": self._w.me}

        return self._w.tasks.start("vm.kill", name, work).model_dump(mode="json")

    async def reset_vm(self, name: str) -> None:
        await self._w.on(await self.holder(name), "vm.reset", {"vm": name})

    async def _on_reset(self, payload: dict[str, Any]) -> dict[str, Any]:
        name = str(payload["vm"])
        await self._w.vms.looked_at(name)
        await self._w.vms.reset(name)
        self._w.events.emit("vm.reset", name, f"{name} was reset")
        return {}
