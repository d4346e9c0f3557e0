"""Quick migration, driven by the source: suspend the vm to shared storage, have it resumed on the target.

The two hosts speak through the datastore: an order with its answer, the saved memory, and the lease. An RPC only
makes the target look at once. Nothing depends on it, so a move works between hosts that do not reach each other.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from itertools import pairwise

from pydantic import ValidationError

from zugvogel.domain.host import Host
from zugvogel.domain.lease import Lease, LeaseState
from zugvogel.domain.memory import QuickReport, ResumeAnswer, ResumeOrder, SaveOptions, SuspendRecord
from zugvogel.domain.migration import Forecast, NetworkCheck, Phase
from zugvogel.domain.task import Severity
from zugvogel.errors import ProcedureFailed, ZugvogelError
from zugvogel.ports.hypervisor import PREALLOC_BPS
from zugvogel.ports.peers import Peers
from zugvogel.services.local_vms import Guest, LocalVms
from zugvogel.services.migration.network import NetworkWatch
from zugvogel.services.suspend.records import SuspendRecords
from zugvogel.services.suspend.resuming import Resumer
from zugvogel.services.suspend.saving import Saver
from zugvogel.services.suspend.writing import Saving
from zugvogel.services.tasks import TaskCancelled, TaskContext

log = logging.getLogger(__name__)

POLL_S = 0.02
ANSWER_S = 15.0
"""How long the target may take to be ready; it looks at its orders every second, or at once when told by RPC."""
CLAIM_S = 10.0
"""A target that does not begin to load within this time is not waited for: the source resumes the vm."""
LOAD_FACTOR, LOAD_LEAST_S = 5.0, 90.0
"""A target that loads is given this many times the forecast. Taking over from one that is only slow is safe."""


class QuickMigrations:
    def __init__(
        self, vms: LocalVms, peers: Peers, saver: Saver, resumer: Resumer, records: SuspendRecords
    ) -> None:
        self._vms = vms
        self._clock = vms.clock
        self._peers = peers
        self._saver = saver
        self._resumer = resumer
        self._records = records

    async def suspend(
        self, ctx: TaskContext, guest: Guest, options: SaveOptions, requested_at: float
    ) -> QuickReport:
        """Save the vm's memory; nobody runs it afterwards."""
        record = SuspendRecord(id=ctx.id, task=ctx.id, vm=guest.name, host=self._vms.host)
        saving = Saving(guest, record, ctx, self._clock, options)
        async with self._saver.turn(saving):
            ctx.progress("prepare", "measuring the datastore")
            saving.mark("prepare")
            await self._saver.save(saving)
        saving.mark("")
        await self._records.forget(guest.datastore, guest.name, record.id)
        report = self._report(saving, requested_at, "suspended")
        told = f"{guest.name} was suspended on {self._vms.host}; its memory is saved"
        evidence = report.model_dump(mode="json", exclude={"rounds", "network"})
        self._vms.events.emit("vm.suspended", guest.name, told, evidence=evidence)
        return report

    async def migrate(
        self, ctx: TaskContext, guest: Guest, target: Host, options: SaveOptions, requested_at: float
    ) -> QuickReport:
        record = SuspendRecord(id=ctx.id, task=ctx.id, vm=guest.name, host=self._vms.host, target=target.name)
        saving = Saving(guest, record, ctx, self._clock, options)
        network = NetworkWatch(self._vms, guest)
        try:
            async with self._saver.turn(saving):
                await self._save_for(saving, target, network)
            return await self._hand_over(saving, network, requested_at)
        finally:
            network.close()
            if not saving.is_given_up and guest.busy:
                guest.busy = ""

    async def _save_for(self, saving: Saving, target: Host, network: NetworkWatch) -> None:
        """The target is made ready, then the memory is saved. Raises after the order was taken back."""
        guest, record = saving.guest, saving.record
        saving.mark("prepare")
        try:
            await self._records.write(guest.datastore, record)  # before the order, which outlives this agent
            saving.ctx.progress("prepare", f"measuring the datastore and {guest.name}")
            saving.forecast = await self._saver.forecast(guest, saving.options)
            if saving.forecast.is_streamed:
                saving.ask = partial(self._answer, guest.datastore, record)
            await self._prepare(saving, target, saving.forecast)
            await network.begin()
            await self._saver.save(saving)
        except (ZugvogelError, TaskCancelled):
            await self.take_back(guest.datastore, record)
            if not saving.is_begun:
                await self._records.forget(guest.datastore, guest.name, record.id)
            raise

    # the order -----------------------------------------------------------------------------------

    async def _prepare(self, saving: Saving, target: Host, forecast: Forecast) -> None:
        """Order the target to be ready. Raises with its refusal, or when it does not answer in time."""
        guest, record = saving.guest, saving.record
        saving.ctx.progress("prepare", f"{target.name} makes itself ready for {guest.name}")
        orders = self._vms.mounted(guest.datastore).orders
        order = ResumeOrder(
            id=record.id, vm=guest.name, source=self._vms.host, definition=guest.definition,
            addresses={n.mac: self._vms.network.learned_addresses(n.mac) for n in guest.definition.nics},
            is_streamed=forecast.is_streamed, used_bytes=forecast.size_bytes,
        )  # fmt: skip
        await orders.take_back(target.name, guest.name)
        await orders.give(target.name, guest.name, order.model_dump_json().encode())
        nudge = asyncio.create_task(self._nudge(target))
        try:
            patience_s = ANSWER_S + guest.definition.memory_bytes / PREALLOC_BPS
            deadline = self._clock.monotonic() + patience_s
            while (answer := await self._answer(guest.datastore, record)) is None:
                saving.heed_cancel()
                if self._clock.monotonic() > deadline:
                    raise ProcedureFailed(
                        f"{target.name} did not take the order within {patience_s:.0f} s",
                        f"see: zv host show {target.name}",
                    )
                await self._clock.sleep(POLL_S)
        finally:
            nudge.cancel()
        if answer.why:
            raise ProcedureFailed(f"{target.name} could not prepare: {answer.why}", "choose another host")

    async def _nudge(self, target: Host) -> None:
        try:
            await self._peers.call(target, "resume.look", {}, timeout_s=3.0)
        except ZugvogelError as error:
            log.info("%s will find the order by itself: %s", target.name, error)

    async def _answer(self, datastore: str, record: SuspendRecord) -> ResumeAnswer | None:
        raw = await self._vms.mounted(datastore).orders.answer_of(record.target, record.vm)
        try:
            answer = ResumeAnswer.model_validate_json(raw) if raw else None
        except ValidationError:
            return None
        return answer if answer is not None and answer.id == record.id else None

    async def take_back(self, datastore: str, record: SuspendRecord) -> None:
        try:
            await self._vms.mounted(datastore).orders.take_back(record.target, record.vm)
        except ZugvogelError as error:
            log.warning("%s: order to %s not taken back: %s", record.vm, record.target, error)

    # the hand-over -------------------------------------------------------------------------------

    async def _hand_over(self, saving: Saving, network: NetworkWatch, requested_at: float) -> QuickReport:
        guest, record = saving.guest, saving.record
        forecast_s = saving.forecast.outage_s if saving.forecast else 0.0
        result, why = await self._until_runs(saving.ctx, record, guest.datastore, forecast_s, saving.marks)
        resumed_at = self._clock.monotonic()
        checks: tuple[NetworkCheck, ...] = ()
        if result == "moved":
            saving.mark("verify network")
            saving.ctx.progress("verify network", "looking for the announcement and probing the vm's addresses")
            checks = await network.verify(requested_at)
        saving.mark("")
        await self.take_back(guest.datastore, record)
        await self._records.forget(guest.datastore, guest.name, record.id)
        report = self._report(saving, requested_at, result, why=why, resumed_at=resumed_at, network=checks)
        self._tell_move(report)
        return report

    async def go_on(self, ctx: TaskContext, record: SuspendRecord, datastore: str) -> QuickReport:
        """After a restart of this agent: the vm was given up, and `record` says to whom. Times are not known."""
        result, why = await self._until_runs(ctx, record, datastore, 0.0, [])
        await self.take_back(datastore, record)
        await self._records.forget(datastore, record.vm, record.id)
        why = why or "the source's agent was restarted during the move"
        report = QuickReport(vm=record.vm, source=record.host, target=record.target, result=result, why=why)
        self._tell_move(report)
        return report

    async def _until_runs(
        self,
        ctx: TaskContext,
        record: SuspendRecord,
        datastore: str,
        forecast_s: float,
        marks: list[tuple[str, float]],
    ) -> tuple[str, str]:
        """(result, why) once the vm runs somewhere, or stays suspended. The target first; when it gives the vm
        back, does not begin, or does not come to an end, it is resumed here."""
        began, loading_since = self._clock.monotonic(), None
        given_up_epoch = 0
        while True:
            lease = await self._lease(datastore, record.vm)
            now = self._clock.monotonic()
            if lease is not None and record.id not in {lease.memory_id, lease.migration_id}:
                return "moved", "it was resumed and has gone on since"
            if lease is not None and lease.state is LeaseState.RUNNING:
                if loading_since is None:  # loaded before, while it was written: too quick to be seen
                    marks.append(("load", now))
                is_here = lease.holder is not None and lease.holder.host == self._vms.host
                return ("stayed", lease.why) if is_here else ("moved", "")
            if lease is not None and lease.state is LeaseState.RESUMING:
                if loading_since is None:
                    loading_since = now
                    marks.append(("load", now))
                    ctx.progress("load", f"{record.target} loads the memory")
                if now - loading_since > max(LOAD_LEAST_S, LOAD_FACTOR * forecast_s):
                    return await self._resume_here(
                        ctx, record, datastore, f"{record.target} did not finish loading"
                    )
            if lease is not None and lease.state is LeaseState.SUSPENDED:
                given_up_epoch = given_up_epoch or lease.epoch
                if lease.epoch > given_up_epoch or loading_since is not None:
                    return await self._resume_here(ctx, record, datastore, lease.why)
                why = await self._refusal(datastore, record)
                if not why and now - began > CLAIM_S:
                    why = f"{record.target} did not begin to load within {CLAIM_S:.0f} s"
                if why:
                    return await self._resume_here(ctx, record, datastore, why)
            await self._clock.sleep(POLL_S)

    async def _refusal(self, datastore: str, record: SuspendRecord) -> str:
        """Why the target will not load it, once it says so."""
        try:
            answer = await self._answer(datastore, record)
        except ZugvogelError as error:
            log.info("%s: answer not read: %s", record.vm, error)
            return ""
        return f"{record.target} gave up: {answer.why}" if answer is not None and answer.why else ""

    async def _lease(self, datastore: str, vm: str) -> Lease | None:
        try:
            return await self._vms.mounted(datastore).leases.read(vm)
        except ZugvogelError as error:
            log.warning("%s: lease not read: %s", vm, error)
            await self._clock.sleep(0.5)
            return None

    async def _resume_here(
        self, ctx: TaskContext, record: SuspendRecord, datastore: str, why: str
    ) -> tuple[str, str]:
        await self.take_back(datastore, record)
        ctx.progress("resume here", why)
        try:
            await self._resumer.resume(record.vm, datastore, ctx.progress, is_takeover=True, why=f"back: {why}")
        except ZugvogelError as error:
            lease = await self._lease(datastore, record.vm)
            if lease is not None and lease.state is LeaseState.RUNNING:
                return "moved", ""  # the target was quicker
            return "suspended", f"{why}; and it could not be resumed on {self._vms.host}: {error}"
        return "stayed", why

    # telling -------------------------------------------------------------------------------------

    def _report(
        self,
        saving: Saving,
        requested_at: float,
        result: str,
        *,
        why: str = "",
        resumed_at: float = 0.0,
        network: tuple[NetworkCheck, ...] = (),
    ) -> QuickReport:
        outage_ms = max(0.0, resumed_at - saving.stop_at) * 1000 if resumed_at and result != "suspended" else 0.0
        end = resumed_at or self._clock.monotonic()
        manifest = saving.manifest
        return QuickReport.model_validate(
            {
                "vm": saving.guest.name,
                "source": saving.record.host,
                "target": saving.record.target,
                "result": result,
                "why": why or saving.why_long,
                "total_s": end - requested_at,
                "downtime_ms": outage_ms,
                "outage_ms": outage_ms,
                "transferred_bytes": manifest.used_bytes if manifest else 0,
                "memory_bytes": saving.guest.definition.memory_bytes,
                "format": manifest.format if manifest else "",
                "is_streamed": bool(saving.forecast and saving.forecast.is_streamed),
                "is_compressed": saving.options.is_compressed,
                "rounds": saving.rounds,
                "forecast": saving.forecast,
                "phases": tuple(
                    Phase(name=name, start_s=at - requested_at, duration_s=following - at)
                    for (name, at), (_, following) in pairwise(saving.marks)
                ),
                "network": network,
            }
        )

    def _tell_move(self, report: QuickReport) -> None:
        moved = f"{report.vm} moved from {report.source} to {report.target} by quick migration"
        figures = f"in {report.total_s:.2f} s, outage {report.outage_ms / 1000:.2f} s" if report.total_s else ""
        told = {
            "moved": " ".join(filter(None, (moved, figures, f"({report.why})" if report.why else ""))),
            "stayed": f"{report.vm} stayed on {report.source}: {report.why}",
            "suspended": f"{report.vm} stays suspended: {report.why}",
        }[report.result]
        kind = "vm.migrated" if report.result == "moved" else "vm.migration-ended"
        level = Severity.INFO if report.result == "moved" else Severity.WARNING
        evidence = report.model_dump(mode="json", exclude={"rounds", "network"})
        self._vms.events.emit(kind, report.vm, told, severity=level, evidence=evidence)
