"""`zv task` and `zv event`."""

from __future__ import annotations

import json
import time
from collections import deque
from typing import Annotated, Any

import typer

from zugvogel.cli import commands_vm_migrate, output, session, watch
from zugvogel.cli.options import INTERRUPTED, Json, complete_host, complete_vm
from zugvogel.errors import NotFound, Unreachable

task_app = typer.Typer(no_args_is_help=True, help="Long work: look, watch, cancel.")
event_app = typer.Typer(no_args_is_help=True, help="What was seen and done.")

FOLLOW_S = 1.0
OVERLAP = 30
"""Polls whose events are asked for again while following: hosts that were cut off write theirs late."""
KNOWN = 200
"""Events that are at least read before following begins, so that those that were there before are known."""


def complete_task(incomplete: str) -> list[str]:
    try:
        return [t["id"] for t in session.api().get("/tasks") if t["id"].startswith(incomplete)]
    except Exception:
        return []


TaskArg = Annotated[str, typer.Argument(metavar="ID", autocompletion=complete_task)]


@task_app.command("list", epilog="Example: zv task list --running")
def list_tasks(
    running: Annotated[bool, typer.Option("--running", help="Only those that have not ended.")] = False,
    subject: Annotated[str, typer.Option(help="Only those of this vm, host, datastore ...")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="The newest so many.")] = 50,
    as_json: Json = False,
) -> None:
    """Tasks, oldest first."""
    known = [t for t in session.api().get("/tasks") if subject in ("", t["subject"])]
    found = [t for t in known if not (running and watch.is_final(t))][-limit:]
    if as_json:
        output.print_json(found)
        return
    output.table(
        ("ID", "KIND", "SUBJECT", "STATE", "HOST", "BEGUN", "WHAT"),
        [
            (
                t["id"],
                t["kind"],
                t["subject"],
                t["state"],
                t["owner"],
                output.clock(t["started_at"]),
                _last_word(t),
            )
            for t in found
        ],
        empty="no tasks",
    )


def _last_word(task: dict[str, Any]) -> str:
    if task["error"]:
        return str(task["error"]["cause"])
    return "" if watch.is_final(task) else str(task["progress"]["message"] or task["progress"]["phase"])


@task_app.command(epilog="Example: zv task show 01kg7tw3x4ab")
def show(task_id: TaskArg, as_json: Json = False) -> None:
    """One task with its report."""
    task = session.api().get(f"/tasks/{task_id}")
    if as_json:
        output.print_json(task)
        return
    output.facts(
        [
            ("task", f"{task['id']} {task['kind']} {task['subject']}"),
            ("state", task["state"]),
            ("host", task["owner"]),
            ("begun", output.clock(task["started_at"])),
            ("ended", output.clock(task["ended_at"])),
            (
                "error",
                task["error"] and "; ".join(filter(None, (task["error"]["cause"], task["error"]["next_step"]))),
            ),
        ]
    )
    report = task["report"]
    if task["kind"] == "vm.migrate" and report and "result" in report:
        from zugvogel.cli.migration_view import report_view

        output.say("")
        output.console().print(report_view(report))
    elif report:
        output.print_json(report)


@task_app.command("watch", epilog="Example: zv task watch 01kg7tw3x4ab   (Ctrl-C leaves it running)")
def watch_task(task_id: TaskArg, as_json: Json = False) -> None:
    """Follow a task to its end; exit code 1 when it fails."""
    task = watch.follow(session.api().get(f"/tasks/{task_id}"), as_json=as_json)
    if task["kind"] == "vm.migrate" and not as_json:
        commands_vm_migrate.tell_end(task, as_json=False)
        return
    if as_json:
        output.print_json(task)
    if task["state"] != "done":
        raise watch.error_of(task)
    output.say(f"{task['kind']} of {task['subject']} is done", as_json=as_json)


@task_app.command(epilog="Example: zv task cancel 01kg7tw3x4ab")
def cancel(task_id: TaskArg, as_json: Json = False) -> None:
    """Ask a task to stop and put everything back; waits for the outcome."""
    task = watch.follow(session.api().post(f"/tasks/{task_id}/cancel"), as_json=as_json)
    if as_json:
        output.print_json(task)
    output.say(f"{task['kind']} of {task['subject']} is {task['state']}", as_json=as_json)
    if task["state"] != "cancelled":
        raise typer.Exit(1)


@event_app.command(
    "list", epilog="Examples: zv event list --vm web1 --follow · zv event list --kind vm.restarted · --kind host"
)
def list_events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones until Ctrl-C.")] = False,
    subject: Annotated[str, typer.Option(help="Only of this vm, host, datastore or network.")] = "",
    vm: Annotated[str, typer.Option(autocompletion=complete_vm, help="Only of this vm.")] = "",
    host: Annotated[
        str, typer.Option(autocompletion=complete_host, help="Only what this host saw or did, or was said of it.")
    ] = "",
    kind: Annotated[str, typer.Option(help="Only of this kind (vm.restarted), or all of a noun (vm).")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=5000, help="The newest so many.")] = 50,
    as_json: Json = False,
) -> None:
    """Events, oldest first. With --json --follow: one JSON object a line."""
    asked = max(limit, KNOWN) if follow else limit
    wanted = {"subject": subject, "vm": vm, "host": host, "kind": kind}
    found = session.api().get("/events", limit=asked, **wanted)
    if not follow and not found:
        _refuse_unknown(vm, host)
        output.say("no events", as_json=as_json)
    if as_json and not follow:
        output.print_json(found)
        return
    for event in found[-limit:]:
        _show(event, as_json=as_json)
    if follow:
        try:
            _follow(found, wanted, as_json=as_json)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


def _refuse_unknown(vm: str, host: str) -> None:
    """Of what is gone events are kept for a while, so only where there are none a name is looked up. Raises
    NotFound."""
    for noun, name in (("vm", vm), ("host", host)):
        if name and all(known["name"] != name for known in session.api().get(f"/{noun}s")):
            raise NotFound(f"there is no {noun} {name}, and no event of it", f"see: zv {noun} list")


def _follow(known: list[dict[str, Any]], wanted: dict[str, str], *, as_json: bool) -> None:
    """Show what is not among `known` nor older than all of them, each once, whichever host answers."""
    seen = {event["id"] for event in known}
    newest = deque([min(seen, default="")], maxlen=OVERLAP)
    newest.append(max(seen, default=""))
    told = ""
    while True:
        time.sleep(FOLLOW_S)
        try:
            found = session.api().get("/events", after=newest[0] or None, limit=5000, **wanted)
        except Unreachable as error:
            if not told:
                output.note(f"zv: {error}; trying again")
            told = str(error)
            continue
        if told:
            output.note("zv: events are read again")
            told = ""
        for event in found:
            if event["id"] not in seen:
                _show(event, as_json=as_json)
        newest.append(max([newest[-1], *(e["id"] for e in found)]))
        seen = {i for i in (*seen, *(e["id"] for e in found)) if i > newest[0]}


def _show(event: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(event, ensure_ascii=False), flush=True)
        return
    from rich.text import Text

    style = output.STATE_STYLES.get(event["severity"], "")
    line = Text(f"{output.clock(event['at'])} ", style="dim")
    line.append(f"{event['kind']:<18} ", style=style or "cyan")
    line.append(f"{event['host']}: {event['message']}", style=style)
    output.console().print(line, soft_wrap=True)
