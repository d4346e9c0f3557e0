"""`zv vm migrate`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from zugvogel.cli import output, session, watch
from zugvogel.cli.options import Compress, Detach, Json, Vm, complete_host
from zugvogel.errors import InvalidInput


class Mode(StrEnum):
    LIVE = "live"
    QUICK = "quick"


def migrate(
    name: Vm,
    to: Annotated[
        str | None, typer.Option("--to", autocompletion=complete_host, help="Target; default: the best host.")
    ] = None,
    mode: Annotated[Mode, typer.Option(help="live: while it runs; quick: through shared storage.")] = Mode.LIVE,
    streamed: Annotated[
        bool | None,
        typer.Option(
            "--streamed/--stop-first",
            help="Quick: write its memory while it runs, or stop it first. Default: streamed where it serves.",
        ),
    ] = None,
    compress: Compress = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check and tell; touch nothing.")] = False,
    max_downtime: Annotated[
        int, typer.Option(min=0, max=10_000, help="Longest switchover in ms; 0: migration.maxdowntime.")
    ] = 0,
    bandwidth: Annotated[int, typer.Option(min=0, help="MiB/s; 0: migration.bandwidthlimit.")] = 0,
    channels: Annotated[int, typer.Option(min=0, max=16, help="Streams; 0: the setting migration.channels.")] = 0,
    timeout: Annotated[int, typer.Option(min=0, help="Seconds; 0: migration.timeout.")] = 0,
    tls: Annotated[bool | None, typer.Option("--tls/--no-tls", help="Encrypt; default: migration.tls.")] = None,
    as_json: Json = False,
    detach: Detach = False,
) -> None:
    """Move a vm to another host."""
    options = {
        "max_downtime_ms": max_downtime,
        "bandwidth_mib": bandwidth,
        "channels": channels,
        "timeout_s": timeout,
        "is_encrypted": tls,
    }
    if mode is not Mode.QUICK and (streamed is not None or compress):
        raise InvalidInput(
            "--streamed, --stop-first and --compress are for --mode quick", "add it, or leave them out"
        )
    save = {"is_streamed": streamed, "is_compressed": compress}
    body = {"mode": mode.value, "target": to, "save": save, "options": options}
    if dry_run:
        _plan(name, body, as_json=as_json)
        return
    task = session.api().post(f"/vms/{name}/migrate", body)
    if detach:
        tell_detached(task, as_json=as_json)
        return
    tell_end(watch.follow(task, as_json=as_json), as_json=as_json)


def _plan(name: str, body: dict[str, Any], *, as_json: bool) -> None:
    """Exit code 1 when the move would be refused."""
    plan = session.api().post(f"/vms/{name}/migration-plan", body)
    if as_json:
        output.print_json(plan)
    else:
        from zugvogel.cli.migration_view import plan_view

        output.console().print(plan_view(plan))
    if plan["target"] is None or any(f["level"] == "refused" for f in plan["findings"]):
        raise typer.Exit(1)


def tell_detached(task: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(task)
    output.say(f"task {task['id']}; watch it: zv task watch {task['id']}", as_json=as_json)


def tell_end(task: dict[str, Any], *, as_json: bool) -> None:
    """The report, where there is one, also of a move that failed; then the task's error."""
    report = task["report"]
    if isinstance(report, dict) and report:
        if as_json:
            output.print_json(report)
        elif "result" in report:
            from zugvogel.cli import migration_view, quick_view

            view = quick_view if report.get("mode") == "quick" else migration_view
            output.console().print(view.report_view(report))
    if task["state"] != "done":
        raise watch.error_of(task)
