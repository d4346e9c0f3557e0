"""Make a vm: its folder, its disks, its records in the cluster."""

from __future__ import annotations

import asyncio
import logging
import secrets
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from zugvogel.core import cpu
from zugvogel.domain.base import Model
from zugvogel.domain.requests import CreateVm, NewDisk
from zugvogel.domain.task import Task
from zugvogel.domain.vm import Boot, Disk, Nic, VmDefinition, VmRecord
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
from zugvogel.services.operations.placing import Placements
from zugvogel.services.operations.world import World
from zugvogel.services.tasks import TaskContext

log = logging.getLogger(__name__)


class MacOwner(Model):
    """Value of ``macs/<mac>``: makes MACs unique in the cluster."""

    vm: str


def new_mac() -> str:
    return "52:54:00:" + ":".join(f"{b:02x}" for b in secrets.token_bytes(3))


class VmCreation:
    def __init__(self, world: World, baseline: Callable[[], Awaitable[str]], placements: Placements) -> None:
        self._w = world
        self._baseline = baseline
        self._placements = placements

    async def create(self, request: CreateVm) -> Task:
        if any(v.definition.name == request.name for v in self._w.inventory.vms()):
            raise AlreadyExists(f"there is a vm {request.name} already", "choose another name")
        datastore = self.default_datastore(request.datastore)
        networks = self.default_networks(request.networks)
        if request.image and (request.kernel or request.initrd):
            raise InvalidInput("--image and --kernel exclude each other", "give one of them")
        if request.initrd and not request.kernel:
            raise InvalidInput("--initrd needs --kernel", "name the kernel too")
        if request.mac and not networks:
            raise InvalidInput("--mac needs a network", "name it with --network")
        self.refuse_unknown_hosts(request.ha.preferred_hosts)
        overridden = await self._overridden(request, datastore)

        async def work(ctx: TaskContext) -> dict[str, Any]:
            made = await self._create(ctx, request, datastore, networks)
            if overridden:
                self._placements.tell_overridden(request.name, "created", overridden, ctx.id)
            return made

        return self._w.tasks.start("vm.create", request.name, work)

    async def _overridden(self, request: CreateVm, datastore: str) -> str:
        """Why it would have been refused, had it not been forced; empty: it would not."""
        wanted = VmDefinition(
            name=request.name,
            uuid="",
            memory_bytes=request.memory_bytes,
            cpus=request.cpus,
            machine=self._w.vms.hypervisor.default_machine,
            cpu_model="baseline",
            ha=request.ha,
        )
        otherwise = f"make it all the same: zv vm create {request.name} --force"
        try:
            await self._placements.refuse_new(wanted, datastore, otherwise=otherwise)
        except (Refused, Unreachable) as error:
            if not request.is_forced:
                raise
            return error.cause
        return ""

    def refuse_unknown_hosts(self, names: tuple[str, ...]) -> None:
        for name in names:
            self._w.inventory.host(name)

    def default_datastore(self, name: str | None) -> str:
        if name is not None:
            return self._w.inventory.datastore(name).name
        known = [d.name for d in self._w.inventory.datastores()]
        if len(known) == 1:
            return known[0]
        if not known:
            raise Refused("the cluster has no datastore", "add one: zv datastore add NAME PATH")
        raise InvalidInput(f"the cluster has several datastores: {', '.join(known)}", "choose with --datastore")

    def default_networks(self, names: tuple[str, ...] | None) -> tuple[str, ...]:
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
        model = await self.cpu_model(request.cpu_model)
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
            display=request.display,
            description=request.description,
            ha=request.ha,
        )
        images = await self._find_images(datastore, request)
        await self._require_registry(request.name)
        await store.folders.create(definition)
        try:
            definition = await self._fill(ctx, definition, request, images, datastore)
            await store.folders.write(definition)
            await self.enter(definition, datastore)
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

    async def cpu_model(self, wanted: str) -> str:
        """A model's name; empty or "baseline": the cluster's baseline now."""
        if wanted in {"", "baseline"}:
            return await self._baseline()
        if wanted != "host" and wanted not in cpu.MODELS:
            raise InvalidInput(
                f"there is no cpu model {wanted}", f"models are: baseline, host, {', '.join(cpu.MODELS)}"
            )
        return wanted

    async def enter(self, definition: VmDefinition, datastore: str) -> None:
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
            disks.append(await self.new_disk(datastore, name, len(disks), disk))
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

    async def new_disk(self, datastore: str, name: str, number: int, disk: NewDisk) -> Disk:
        file = f"disk{number}"
        await self._w.mounted(datastore).folders.create_disk(name, file, disk.format, disk.size_bytes)
        return Disk(file=file, format=disk.format, size_bytes=disk.size_bytes)
