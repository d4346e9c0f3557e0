"""Operations: plan and start a live migration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zugvogel.core import cpu, placement
from zugvogel.core.checks import MigrationFacts, check_migration, check_quick_migration, check_space
from zugvogel.core.convergence import channels_for
from zugvogel.domain.host import HostStatus
from zugvogel.domain.migration import (
    Candidate,
    Finding,
    FindingLevel,
    Forecast,
    MigrationOptions,
    MigrationPlan,
)
from zugvogel.domain.requests import MigrateVm
from zugvogel.domain.task import Task
from zugvogel.domain.vm import VmRecord, VmState, VmView
from zugvogel.errors import Refused
from zugvogel.services.migration.outcome import outcome
from zugvogel.services.migration.source import LiveMigrations
from zugvogel.services.migration.stream import StreamSettings
from zugvogel.services.operations.vms import VmOperations
from zugvogel.services.operations.world import World
from zugvogel.services.tasks import TaskContext

ABOUT_TO = "about to migrate"

Check = Callable[[MigrationFacts], tuple[Finding, ...]]


class MoveOperations:
    def __init__(self, world: World, vms: VmOperations, live: LiveMigrations) -> None:
        self._w = world
        self._vms = vms
        self._live = live
        world.handlers["vm.migrate"] = self._on_migrate

    async def plan_migration(self, name: str, request: MigrateVm) -> MigrationPlan:
        """All findings, for the named target or for the best one."""
        view, record = await self._vms.vm(name), self._w.inventory.vm(name)
        if view.state is VmState.SUSPENDED:
            raise Refused(f"{name} is suspended", f"resume it where you want it: zv vm resume {name} --on HOST")
        if view.host is None or view.state is not VmState.RUNNING:
            raise Refused(
                f"{name} is {view.state}, not running", f"start it where you want it: zv vm start {name}"
            )
        if request.target is not None:
            self._w.inventory.host(request.target)
        statuses = await self._w.statuses()
        check = check_quick_migration if request.mode == "quick" else check_migration
        candidates = self._candidates(record, view, statuses, check)
        target, reason = self._choose_target(candidates, request.target)
        findings: tuple[Finding, ...] = ()
        if target is not None:
            findings = check(self._facts(record, view, statuses, target))
        forecast = None
        if request.mode == "quick":
            asked = {"vm": name, "save": request.save.model_dump()}
            answer = await self._w.on(view.host, "suspend.forecast", asked, timeout_s=90.0)
            forecast = Forecast.model_validate(answer)
            findings = (*findings, check_space(name, record.datastore, forecast))
        return MigrationPlan(
            vm=name,
            mode=request.mode,
            forecast=forecast,
            source=view.host,
            target=target,
            reason=reason,
            findings=findings,
            candidates=candidates,
        )

    def _candidates(
        self, record: VmRecord, view: VmView, statuses: list[HostStatus], check: Check
    ) -> tuple[Candidate, ...]:
        """Hosts weighed by room; those a pre-check refuses are unfit with that cause."""
        networks = [self._w.inventory.network(n.network) for n in record.definition.nics]
        others = [s for s in statuses if s.host.name != view.host]
        weighed = placement.weigh(record.definition, record.datastore, networks, others)
        checked = [self._check_candidate(c, record, view, statuses, check) for c in weighed]
        return tuple(sorted(checked, key=lambda c: (not c.is_fit, -c.score, c.host)))

    def _check_candidate(
        self, candidate: Candidate, record: VmRecord, view: VmView, statuses: list[HostStatus], check: Check
    ) -> Candidate:
        if not candidate.is_fit:
            return candidate
        refused = [
            f
            for f in check(self._facts(record, view, statuses, candidate.host))
            if f.level is FindingLevel.REFUSED
        ]
        if not refused:
            return candidate
        return candidate.model_copy(update={"is_fit": False, "why": refused[0].cause})

    def _choose_target(self, candidates: tuple[Candidate, ...], wanted: str | None) -> tuple[str | None, str]:
        if wanted is not None:
            return wanted, "asked for with --to"
        if candidates and candidates[0].is_fit:
            best = candidates[0]
            return best.host, f"{best.host} is the best of {len(candidates)}: {best.why}"
        if len(candidates) == 1:
            return candidates[0].host, "the only other host"
        return None, placement.explain_none(candidates)

    def _facts(self, record: VmRecord, view: VmView, statuses: list[HostStatus], target: str) -> MigrationFacts:
        by_name = {s.host.name: s for s in statuses}
        source, there = by_name[str(view.host)], by_name[target]
        running = next((v for v in (source.report.vms if source.report else ()) if v.name == view.name), None)
        model = running.cpu_model if running and running.cpu_model else record.definition.cpu_model
        missing: tuple[str, ...] = ()
        if model != "host" and there.report is not None:
            missing = tuple(cpu.missing_flags(model, there.report.facts))
        return MigrationFacts(
            vm=record.definition,
            state=view.state,
            is_migrating=view.is_migrating,
            datastore=self._w.inventory.datastore(record.datastore),
            source=source,
            target=there,
            networks=tuple(self._w.inventory.network(n.network) for n in record.definition.nics),
            missing_flags=missing,
            cpu_model=model,
        )

    async def migrate_vm(self, name: str, request: MigrateVm) -> Task:
        plan = await self.plan_migration(name, request)
        if plan.is_refused:
            causes = [
                f"{f.code}: {f.cause}; {f.next_step}" for f in plan.findings if f.level is FindingLevel.REFUSED
            ]
            told = "\n  ".join(causes) or plan.reason
            how = "live-migrated" if request.mode == "live" else "moved by quick migration"
            raise Refused(f"{name} cannot be {how}:\n  {told}", "")
        if request.mode == "quick":
            order = {
                "vm": name,
                "target": plan.target,
                "reason": plan.reason,
                "save": request.save.model_dump(),
            }
            return Task.model_validate(await self._w.on(str(plan.source), "vm.migrate-quick", order))
        payload = {
            "cores": await self._least_cores(plan.source, plan.target),
            "vm": name,
            "target": plan.target,
            "reason": plan.reason,
            "options": request.options.model_dump(),
        }
        return Task.model_validate(await self._w.on(plan.source, "vm.migrate", payload))

    async def _on_migrate(self, payload: dict[str, Any]) -> dict[str, Any]:
        """On the source: start the task."""
        requested_at = self._w.clock.monotonic()
        guest = await self._w.vms.settled_guest(str(payload["vm"]))
        target = self._w.inventory.host(str(payload["target"]))
        settings = self._settings(MigrationOptions.model_validate(payload["options"]), int(payload["cores"]))
        reason = str(payload["reason"])

        async def work(ctx: TaskContext) -> dict[str, Any]:
            try:
                ctx.progress("prepare", f"to {target.name}: {reason}")
                report = await self._live.run(ctx, guest, target, settings, requested_at)
            finally:
                if guest.busy == ABOUT_TO:
                    guest.busy = ""
            return outcome(ctx, report, reason)

        guest.busy = ABOUT_TO
        try:
            task = self._w.tasks.start("vm.migrate", guest.name, work, is_cancellable=True)
        except Refused:
            guest.busy = ""
            raise
        return task.model_dump(mode="json")

    async def _least_cores(self, *hosts: str | None) -> int:
        reports = [s.report for s in await self._w.statuses() if s.host.name in hosts]
        return min((r.facts.cores for r in reports if r is not None), default=1)

    def _settings(self, options: MigrationOptions, cores: int) -> StreamSettings:
        inventory = self._w.inventory
        encrypted = options.is_encrypted
        return StreamSettings(
            channels=options.channels or inventory.number("migration.channels") or channels_for(cores),
            is_encrypted=bool(inventory.setting("migration.tls")) if encrypted is None else encrypted,
            bandwidth_bps=(options.bandwidth_mib or inventory.number("migration.bandwidthlimit")) << 20,
            max_downtime_ms=options.max_downtime_ms or inventory.number("migration.maxdowntime"),
            timeout_s=options.timeout_s or inventory.number("migration.timeout"),
        )
