"""How a task of kind ``vm.migrate`` ends, from the report of its move."""

from __future__ import annotations

from typing import Any

from zugvogel.domain.migration import MigrationReport
from zugvogel.errors import ProcedureFailed
from zugvogel.services.tasks import TaskCancelled, TaskContext


def outcome(ctx: TaskContext, report: MigrationReport, reason: str) -> dict[str, Any]:
    """The report as the task keeps it, with the `reason` for this target. Raises ProcedureFailed or
    TaskCancelled when the vm was not moved; the report is kept all the same."""
    told = {**report.model_dump(mode="json"), "reason": reason}
    ctx.report(told)
    if report.result == "stayed" and ctx.cancel_requested.is_set():
        raise TaskCancelled(f"{report.vm} runs on {report.source}, untouched")
    if report.result == "stayed":
        raise ProcedureFailed(f"{report.vm} was not moved and runs on {report.source}: {report.why}")
    if report.result == "died":
        raise ProcedureFailed(
            f"{report.vm} ended during the move: {report.why}", f"start it: zv vm start {report.vm}"
        )
    return told
