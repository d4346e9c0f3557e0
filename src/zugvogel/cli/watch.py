"""Following a task to its end: live on a terminal (standard error), silent elsewhere.

Ctrl-C leaves the task alone and says how to come back to it.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import typer

from zugvogel import errors
from zugvogel.cli import output, session
from zugvogel.cli.options import INTERRUPTED

if TYPE_CHECKING:
    from rich.console import RenderableType

POLL_S = 1.0
AWAY_S = 60.0
"""How long a watcher puts up with no host answering before it gives up (the task goes on regardless)."""
UNKNOWN_S = 10.0
"""The same for a task that the host asked does not know: its copy in the registry is on its way."""
QUICK_PHASES = ("suspend", "durable", "hand-over", "load", "resume here")


def finish(task: dict[str, Any], *, as_json: bool = False) -> dict[str, Any]:
    """The task in its final state `done`. Raises its error, as its class, when it failed or was cancelled."""
    task = follow(task, as_json=as_json)
    if task["state"] != "done":
        raise error_of(task)
    return task


def error_of(task: dict[str, Any]) -> errors.ZugvogelError:
    error = task.get("error") or {
        "code": "failed",
        "cause": f"{task['kind']} of {task['subject']} {task['state']}",
    }
    return errors.from_code(error["code"], error["cause"], error.get("next_step", ""))


def is_final(task: dict[str, Any]) -> bool:
    return task["state"] in ("done", "failed", "cancelled")


def follow(task: dict[str, Any], *, as_json: bool = False) -> dict[str, Any]:
    """The task in whatever final state it came to. Ctrl-C ends the command, not the task."""
    try:
        if as_json or not sys.stderr.isatty():
            while not is_final(task):
                task = _next(task)
            return task
        return _follow_live(task)
    except KeyboardInterrupt:
        step = f"watch: zv task watch {task['id']}"
        if task["is_cancellable"]:
            step += f" · cancel: zv task cancel {task['id']}"
        output.note(f"\n{task['kind']} of {task['subject']} goes on; {step}")
        raise typer.Exit(INTERRUPTED) from None


def _follow_live(task: dict[str, Any]) -> dict[str, Any]:
    from rich.live import Live

    with Live(view(task), console=output.notes(), transient=True, refresh_per_second=8) as live:
        while not is_final(task):
            task = _next(task)
            live.update(view(task))
    return task


def _next(task: dict[str, Any]) -> dict[str, Any]:
    """The task after its next change; a host that goes away meanwhile is waited for."""
    begun = time.monotonic()
    while True:
        try:
            found = session.api().get(f"/tasks/{task['id']}", since=task["version"], wait_s=POLL_S)
            if found["version"] == task["version"] and not is_final(found):
                time.sleep(0.05)
            return dict(found)
        except (errors.Unreachable, errors.NotFound) as error:
            limit_s = AWAY_S if isinstance(error, errors.Unreachable) else UNKNOWN_S
            if time.monotonic() - begun > limit_s:
                raise
            time.sleep(0.5)


def view(task: dict[str, Any]) -> RenderableType:
    """What is shown of a task that runs."""
    if task["kind"] in ("vm.suspend", "vm.resume") or task["progress"]["phase"] in QUICK_PHASES:
        from zugvogel.cli import quick_view

        return quick_view.live_view(task)
    if task["kind"] == "vm.migrate" and task["progress"].get("detail"):
        from zugvogel.cli.migration_view import live_view

        return live_view(task)
    from rich.text import Text

    progress = task["progress"]
    shown = Text()
    shown.append("● ", style="green")
    shown.append(f"{task['kind']} {task['subject']}", style="bold")
    shown.append(f"  {progress['message'] or progress['phase'] or task['state']}")
    if progress["fraction"] is not None:
        shown.append(f"  {bar(progress['fraction'], 24)} {progress['fraction']:.0%}", style="cyan")
    return shown


def bar(fraction: float, width: int) -> str:
    """Filled to `fraction` (0 to 1), to an eighth of a cell."""
    eighths = round(min(1.0, max(0.0, fraction)) * width * 8)
    full, part = divmod(eighths, 8)
    return ("█" * full + (" ▏▎▍▌▋▊▉"[part] if part else "")).ljust(width, "·")
