"""How the task of a quick migration ends, from its report."""

from __future__ import annotations

from typing import Any

from zugvogel.domain.memory import QuickReport
from zugvogel.errors import ProcedureFailed
from zugvogel.services.tasks import TaskContext


def outcome(ctx: TaskContext, report: QuickReport, reason: str) -> dict[str, Any]:
    """The report as the task keeps it, with the `reason` for this target. Raises ProcedureFailed when the vm was
    not moved; the report is kept all the same."""
    told = {**report.model_dump(mode="json"), "reason": reason}
    ctx.report(told)
    if report.result == "stayed":
        raise ProcedureFailed(f"{report.vm} was not moved and runs on {report.source}: {report.why}")
    if report.result == "suspended":
        raise ProcedureFailed(
            f"{report.vm} stays suspended with its memory saved: {report.why}", f"go on: zv vm resume {report.vm}"
        )
    return told
