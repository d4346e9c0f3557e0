"""Operations: suspend, resume, discard, and the quick form of a migration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

from zugvogel.core import lease_rules
from zugvogel.domain.host import Verdict
from zugvogel.domain.lease import Lease, LeaseState
from zugvogel.domain.memory import QuickReport, SaveOptions
from zugvogel.domain.migration import Phase
from zugvogel.domain.requests import ResumeVm, SuspendVm
from zugvogel.domain.task import Severity, Task
from zugvogel.domain.vm import VmRecord, VmState, VmView
from zugvogel.errors import Refused
from zugvogel.services.inventory import Observation
from zugvogel.services.operations.vms import VmOperations
from zugvogel.services.operations.world import World
from zugvogel.services.suspend.outcome import outcome
from zugvogel.services.suspend.quick import QuickMigrations
from zugvogel.services.suspend.resuming import Resumer
from zugvogel.services.suspend.saving import Saver
from zugvogel.services.tasks import TaskContext

ABOUT_TO = "about to be suspended"


class SuspendOperations:
    def __init__(
        self, world: World, vms: VmOperations, quick: QuickMigrations, saver: Saver, resumer: Resumer
    ) -> None:
        self._w = world
        self._vms = vms
        self._quick = quick
        self._saver = saver
        self._resumer = resumer
        world.handlers.update(
            {
                "suspend.forecast": self._on_forecast,
                "vm.suspend": self._on_suspend,
                "vm.resume": self._on_resume,
                "vm.migrate-quick": self._on_migrate_quick,
            }
        )

    async def _on_forecast(self, payload: dict[str, Any]) -> dict[str, Any]:
        guest = await self._w.vms.known_guest(str(payload["vm"]))
        options = SaveOptions.model_validate(payload["save"])
        return (await self._saver.forecast(guest, options)).model_dump(mode="json")

    # suspend and quick migration -----------------------------------------------------------------------

    async def suspend_vm(self, name: str, request: SuspendVm) -> Task:
        view = await self._vms.vm(name)
        if view.state is VmState.SUSPENDED:
            raise Refused(f"{name} is suspended already", f"go on with it: zv vm resume {name}")
        order = {
            "vm": name,
            "save": SaveOptions(is_streamed=False, is_compressed=request.is_compressed).model_dump(),
        }
        return Task.model_validate(await self._w.on(await self._vms.holder(name), "vm.suspend", order))

    async def _on_suspend(self, payload: dict[str, Any]) -> dict[str, Any]:
        requested_at = self._w.clock.monotonic()
        guest = await self._w.vms.settled_guest(str(payload["vm"]))
        options = SaveOptions.model_validate(payload["save"])

        async def work(ctx: TaskContext) -> dict[str, Any]:
            return (await self._quick.suspend(ctx, guest, options, requested_at)).model_dump(mode="json")

        return self._begin("vm.suspend", guest.name, work)

    async def _on_migrate_quick(self, payload: dict[str, Any]) -> dict[str, Any]:
        requested_at = self._w.clock.monotonic()
        guest = await self._w.vms.settled_guest(str(payload["vm"]))
        target, reason = self._w.inventory.host(str(payload["target"])), str(payload["reason"])
        options = SaveOptions.model_validate(payload["save"])

        async def work(ctx: TaskContext) -> dict[str, Any]:
            ctx.progress("prepare", f"to {target.name}: {reason}")
            report = await self._quick.migrate(ctx, guest, target, options, requested_at)
            return outcome(ctx, report, reason)

        return self._begin("vm.migrate", guest.name, work)

    def _begin(
        self, kind: str, name: str, work: Callable[[TaskContext], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        """The guest is taken from here on; nothing else begins with it."""
        guest = self._w.vms.guest(name)

        async def guarded(ctx: TaskContext) -> dict[str, Any]:
            try:
                return await work(ctx)
            finally:
                if guest.busy == ABOUT_TO:
                    guest.busy = ""

        guest.busy = ABOUT_TO
        try:
            return self._w.tasks.start(kind, name, guarded, is_cancellable=True).model_dump(mode="json")
        except Refused:
            guest.busy = ""
            raise

    # resume --------------------------------------------------------------------------------------------

    async def resume_vm(self, name: str, request: ResumeVm) -> Task:
        record = self._w.inventory.vm(name)
        lease = await self._suspended(record)
        host, why = await self._vms.choose(name, request.host, "be resumed")
        order = {"vm": name, "why": why, "is_takeover": await self._is_left(lease)}
        return Task.model_validate(await self._w.on(host, "vm.resume", order))

    async def _is_left(self, lease: Lease) -> bool:
        """The host that loads it is not there any more. Taking over from one that only seems so is safe."""
        if lease.holder is None:
            return False
        hosts = {s.host.name: s.verdict for s in await self._w.statuses()}
        return hosts.get(lease.holder.host) not in {Verdict.LIVE, Verdict.MAINTENANCE}

    async def _suspended(self, record: VmRecord) -> Lease:
        """The lease on the datastore is asked, not the registry: hosts may have died in between."""
        name = record.definition.name
        lease = await self._w.mounted(record.datastore).leases.read(name)
        if lease is None or lease.state not in {LeaseState.SUSPENDED, LeaseState.RESUMING}:
            view = await self._vms.vm(name)
            raise Refused(f"{name} is {view.state}, not suspended", f"see: zv vm show {name}")
        return lease

    async def _on_resume(self, payload: dict[str, Any]) -> dict[str, Any]:
        requested_at = self._w.clock.monotonic()
        name, why = str(payload["vm"]), str(payload.get("why", ""))
        record = self._w.inventory.vm(name)

        async def work(ctx: TaskContext) -> dict[str, Any]:
            ctx.progress("resume", f"resuming {name} on {self._w.me} ({why})")
            loaded = await self._resumer.resume(
                name, record.datastore, ctx.progress, is_takeover=bool(payload.get("is_takeover"))
            )
            ends = [*loaded.marks, ("", loaded.resume_at)]
            phases = tuple(
                Phase(name=phase, start_s=at - requested_at, duration_s=until - at)
                for (phase, at), (_, until) in pairwise(ends)
            )
            report = QuickReport(
                vm=name,
                source=loaded.manifest.host,
                target=self._w.me,
                result="moved",
                why=why,
                total_s=loaded.resume_at - requested_at,
                transferred_bytes=loaded.manifest.used_bytes,
                memory_bytes=loaded.manifest.definition.memory_bytes,
                format=loaded.manifest.format,
                phases=phases,
            )
            return report.model_dump(mode="json")

        return self._w.tasks.start("vm.resume", name, work).model_dump(mode="json")

    # discard -------------------------------------------------------------------------------------------

    async def discard_vm(self, name: str) -> VmView:
        record = self._w.inventory.vm(name)
        lease = await self._suspended(record)
        store = self._w.mounted(record.datastore)
        claim = lease_rules.discard(
            lease, name, why="its saved memory was thrown away", at=self._w.clock.now_iso()
        )
        linked = await store.leases.claim(claim)
        self._w.inventory.observe(
            Observation(
                vm=name,
                observed=VmState.STOPPED,
                host=self._w.me,
                epoch=linked.epoch,
                why=linked.why,
                wanted="stopped",
            )
        )
        self._w.events.emit(
            "vm.memory-discarded",
            name,
            f"the saved memory of {name} was thrown away; it boots fresh next",
            severity=Severity.WARNING,
        )
        await store.memory.discard(name, lease.memory_id)
        return await self._vms.vm(name)
