"""Operations on vms: change, start, stop, look; making them is in `creation`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from zugvogel.core.monitoring import at_next_start
from zugvogel.domain.host import Verdict, VmReport
from zugvogel.domain.lease import LeaseState
from zugvogel.domain.placing import PlaceWish
from zugvogel.domain.requests import ChangeVm, CreateVm, RegisterVm, StartVm, StopVm
from zugvogel.domain.task import Task
from zugvogel.domain.vm import Nic, VmDefinition, VmRecord, VmState, VmView
from zugvogel.errors import Refused, ZugvogelError
from zugvogel.services.inventory import Observation
from zugvogel.services.operations.creation import MacOwner, VmCreation, new_mac
from zugvogel.services.operations.deletion import Deletion
from zugvogel.services.operations.placing import Placements
from zugvogel.services.operations.starting import VmStarts
from zugvogel.services.operations.world import World
from zugvogel.services.tasks import TaskContext

SPEAKS = {Verdict.LIVE, Verdict.MAINTENANCE, Verdict.STORAGE_LOST}
"""Verdicts under which a host's report of its vms is fresh."""
WANTED_S = 2.0
"""A registry without a majority does not hold up the end of a vm any longer."""
PORTION = 200
"""So many vms are looked at before others get their turn: about 3 ms."""

Seen = tuple[str, Verdict, VmReport]
"""A host, its verdict, and what it reports of a vm."""


class _Look(NamedTuple):
    """What a view was made of."""

    record: VmRecord
    seen: Seen | None
    view: VmView


class VmOperations:
    def __init__(self, world: World, baseline: Callable[[], Awaitable[str]]) -> None:
        self._w = world
        self._deletion = Deletion(world)
        self._placements = Placements(world)
        self._making = VmCreation(world, baseline, self._placements)
        self._starts = VmStarts(world, self._placements, self._deletion)
        self._looks: dict[str, _Look] = {}
        world.handlers.update(
            {
                "vm.stop": self._on_stop,
                "vm.kill": self._on_kill,
                "vm.reset": self._on_reset,
                "vm.log": self._on_log,
            }
        )

    # looking -------------------------------------------------------------------------------------

    async def vms(self) -> list[VmView]:
        """The same objects as at the last look where nothing changed. They are looked at in portions, so that
        thousands of vms do not hold up the heartbeats."""
        reports = await self._reports()
        known, looks = self._looks, dict[str, _Look]()
        for number, record in enumerate(self._w.inventory.vms(), start=1):
            if number % PORTION == 0:
                await asyncio.sleep(0)
            name = record.definition.name
            seen, look = reports.get(name), known.get(name)
            if look is None or look.record is not record or look.seen != seen:
                view = self._view(record, seen)
                look = _Look(record, seen, look.view if look is not None and look.view == view else view)
            looks[name] = look
        self._looks = looks
        return [look.view for look in looks.values()]

    async def vm(self, name: str) -> VmView:
        reports = await self._reports()
        return self._view(self._w.inventory.vm(name), reports.get(name))

    async def _reports(self) -> dict[str, Seen]:
        """vm -> (host, its verdict, report), the one with the highest epoch."""
        found: dict[str, Seen] = {}
        for status in await self._w.statuses():
            for report in status.report.vms if status.report else ():
                known = found.get(report.name)
                if known is None or report.epoch > known[2].epoch:
                    found[report.name] = (status.host.name, status.verdict, report)
        return found

    def _view(self, record: VmRecord, seen: Seen | None) -> VmView:
        definition = record.definition
        if seen is not None and seen[2].uuid not in {"", definition.uuid}:
            seen = None  # told of one that had its name before
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

    # making and changing ---------------------------------------------------------------------------

    async def create_vm(self, request: CreateVm) -> Task:
        return await self._making.create(request)

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
            include={"memory_bytes", "cpus", "cpu_model", "display", "description"}, exclude_none=True
        )
        if request.cpu_model is not None:
            update["cpu_model"] = await self._making.cpu_model(request.cpu_model)
        if request.append is not None:
            if before.boot is None:
                raise Refused(f"{name} boots from its disk; --append is for direct kernel boot", "")
            update["boot"] = before.boot.model_copy(update={"append": request.append})
        if request.ha is not None:
            self._making.refuse_unknown_hosts(request.ha.preferred_hosts or ())
            update["ha"] = before.ha.model_copy(update=request.ha.model_dump(exclude_none=True))
        disks = list(before.disks)
        for disk in request.add_disks:
            disks.append(await self._making.new_disk(record.datastore, name, len(disks), disk))
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
        told, view = f"{name} was changed", await self.vm(name)
        if view.state is not VmState.STOPPED and (
            waits := at_next_start(before.ha.monitoring, after.ha.monitoring)
        ):
            told += f"; {waits}"
        self._w.events.emit("vm.changed", name, told, evidence=request.model_dump(exclude_none=True))
        return view

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
        datastore = self._making.default_datastore(request.datastore)
        store = self._w.mounted(datastore)
        definition = await store.folders.read(request.name)
        lease = await store.leases.read(request.name)
        await self._making.enter(definition, datastore)
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
        return await self._starts.start(self._w.inventory.vm(name), request)

    async def choose(self, name: str, wanted: str | None, what: str) -> tuple[str, str]:
        """(host, why) to `what` ("be resumed") the vm on. Refused when none is fit."""
        wish = PlaceWish(record=self._w.inventory.vm(name), what=what, host=wanted)
        placing = await self._placements.place(wish)
        return placing.host, placing.why

    async def _task_on(self, host: str, command: str, payload: dict[str, Any]) -> Task:
        return Task.model_validate(await self._w.on(host, command, payload))

    async def stop_vm(self, name: str, request: StopVm) -> Task:
        timeout_s = request.timeout_s or self._w.inventory.number("vm.stoptimeout")
        return await self._task_on(await self.holder(name), "vm.stop", {"vm": name, "timeout_s": timeout_s})

    async def _on_stop(self, payload: dict[str, Any]) -> dict[str, Any]:
        name, timeout_s = str(payload["vm"]), float(payload["timeout_s"])
        await self._w.vms.settled_guest(name)

        async def work(ctx: TaskContext) -> dict[str, Any]:
            ctx.progress("stop", f"power button of {name} pressed; waiting up to {timeout_s:.0f} s")
            await self._ended(name, lambda: self._w.vms.stop(name, timeout_s, ctx.cancel_requested))
            return {"vm": name, "host": self._w.me}

        return self._w.tasks.start("vm.stop", name, work, is_cancellable=True).model_dump(mode="json")

    async def kill_vm(self, name: str) -> Task:
        return await self._task_on(await self.holder(name), "vm.kill", {"vm": name})

    async def _on_kill(self, payload: dict[str, Any]) -> dict[str, Any]:
        name = str(payload["vm"])
        await self._w.vms.settled_guest(name)

        async def work(ctx: TaskContext) -> dict[str, Any]:
            ctx.progress("kill", f"cutting the power of {name}")
            await self._ended(name, lambda: self._w.vms.kill(name))
            return {"vm": name, "host": self._w.me}

        return self._w.tasks.start("vm.kill", name, work).model_dump(mode="json")

    async def _ended(self, name: str, end: Callable[[], Awaitable[None]]) -> None:
        """That a user wants it stopped is written first: this host may die before the vm's lease says so, and it
        would be started again. One that runs on after all is wanted again."""
        guest = self._w.vms.free_guest(name)
        await self._w.inventory.want(name, "stopped", WANTED_S)
        try:
            await end()
        except ZugvogelError:
            runs_on = self._w.vms.guests.get(name) is guest and guest.machine.is_alive
            if runs_on and guest.busy not in {"stopping", "killing"}:  # by somebody else, who came first
                self._w.inventory.observe(
                    Observation(
                        vm=name,
                        observed=VmState.RUNNING,
                        host=self._w.me,
                        epoch=guest.epoch,
                        why="it was to be stopped and runs on",
                        wanted="running",
                    )
                )
            raise

    async def reset_vm(self, name: str) -> None:
        await self._w.on(await self.holder(name), "vm.reset", {"vm": name})

    async def _on_reset(self, payload: dict[str, Any]) -> dict[str, Any]:
        name = str(payload["vm"])
        await self._w.vms.looked_at(name)
        await self._w.vms.reset(name)
        self._w.events.emit("vm.reset", name, f"{name} was reset")
        return {}
