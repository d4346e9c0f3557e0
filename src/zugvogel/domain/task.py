"""Tasks: long work that can be watched and cancelled. Events: what was seen and done, with evidence."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from zugvogel.domain.base import HostName, Model


class TaskState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in {TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED}


class TaskError(Model):
    code: str
    cause: str
    next_step: str = ""


class Progress(Model):
    """`fraction` 0 to 1, None where unknown. `detail` is what the kind of task shows (for a live
    migration: a `zugvogel.domain.migration.MigrationProgress` as a dict)."""

    phase: str = ""
    message: str = ""
    fraction: float | None = None
    detail: dict[str, Any] = {}


class Task(Model):
    """`owner` is the host whose agent does the work; `version` counts changes (for long polls).
    `kind` is ``<noun>.<verb>`` ("vm.migrate"), `subject` the noun's name ("web1").
    `report` is kept for ever with the task; its shape belongs to the kind."""

    id: str
    kind: str
    subject: str
    owner: HostName
    state: TaskState = TaskState.PENDING
    version: int = 0
    created_at: str = ""
    started_at: str = ""
    ended_at: str = ""
    is_cancellable: bool = False
    progress: Progress = Progress()
    report: dict[str, Any] | None = None
    error: TaskError | None = None


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Event(Model):
    """`kind` is a past participle with its noun ("vm.migrated"). `evidence` holds the figures and facts
    that led to it. `id` sorts by time of writing. `by`: who asked for it ("user ada", "token 3f9a"); empty: nobody
    did, or it is not told."""

    id: str
    at: str
    kind: str
    severity: Severity = Severity.INFO
    host: HostName
    subject: str
    message: str
    evidence: dict[str, Any] = {}
    task: str = ""
    by: str = ""

    def its_vm(self) -> str:
        """The vm it tells of; empty: it tells of something else."""
        return self.subject if self.kind.startswith("vm.") else ""

    def is_wanted(self, *, subject: str = "", vm: str = "", host: str = "", kind: str = "") -> bool:
        """Empty: any. `host`: it saw or did it, or is what it tells of. `kind`: as a whole, or its noun alone."""
        is_host = host in ("", self.host) or (self.kind.startswith("host.") and self.subject == host)
        is_kind = kind in ("", self.kind) or self.kind.startswith(f"{kind}.")
        return subject in ("", self.subject) and vm in ("", self.its_vm()) and is_host and is_kind
