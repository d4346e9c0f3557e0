"""`zv ha`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from zugvogel.cli import output, session
from zugvogel.cli.capacity_view import capacity_bar
from zugvogel.cli.columns import Kind
from zugvogel.cli.options import Json, Yes, complete_hosts, complete_subject, confirm, names_of
from zugvogel.errors import InvalidInput

app = typer.Typer(no_args_is_help=True, help="High availability: vms of failed hosts are restarted elsewhere.")


@app.command(epilog="Example: zv ha enable")
def enable(as_json: Json = False) -> None:
    """Restart vms of failed hosts from now on, and run isolation responses. Tells what protection is missing."""
    status = session.api().post("/ha/enable")
    if as_json:
        output.print_json(status)
        return
    output.say("high availability is enabled")
    missing = [p for p in status["protections"] if not p["is_present"]]
    if missing:
        output.say("not there:")
        for (name, _, why), subjects in _by_cause(missing).items():
            output.say(f"  {name} of {', '.join(subjects)}: {why}")
    output.say("see: zv ha status, and what a failure would do: zv ha plan --fail HOST")


@app.command(epilog="Example: zv ha disable --yes")
def disable(yes: Yes = False, as_json: Json = False) -> None:
    """Restart nothing, freeze nothing, run no isolation response; hosts are still judged."""
    confirm("Disable high availability? Vms of a host that fails meanwhile stay down.", yes=yes)
    status = session.api().post("/ha/disable")
    if as_json:
        output.print_json(status)
    output.say("high availability is disabled; turn it on again: zv ha enable", as_json=as_json)


@app.command(epilog="Example: zv ha status")
def status(as_json: Json = False) -> None:
    """Who judges, what room is kept free, what keeps vms from running twice, what is being restarted."""
    found = session.api().get("/ha")
    if as_json:
        output.print_json(found)
        return
    output.facts(_facts(found))
    output.say("")
    screen = output.console()
    screen.print(capacity_bar(found["admission"], screen.width))
    if found["admission"]["why"]:
        screen.print(
            found["admission"]["why"], style=None if found["admission"]["is_met"] else "yellow", markup=False
        )
    output.say("")
    rows = [
        (name, subjects, is_present, why)
        for (name, is_present, why), subjects in _by_cause(found["protections"]).items()
    ]
    output.table(
        ("PROTECTION", "OF", "THERE", "WHY"),
        rows,
        empty="no host tells of its protections",
        kinds=(Kind.FIGURE, Kind.SENTENCE, Kind.FIGURE, Kind.SENTENCE),
    )
    if found["restarting"]:
        output.say("\nto be restarted:")
        for sentence in found["restarting"]:
            output.say(f"  {sentence}")


def _facts(found: dict[str, Any]) -> list[tuple[str, Any]]:
    judges = found["active_primaries"]
    level = found["failover_level"] if found["enabled"] else 0
    return [
        ("high availability", "enabled" if found["enabled"] else "disabled; enable it: zv ha enable"),
        ("active primary", [f"{host or 'none'} (of {datastore})" for datastore, host in judges.items()] or "none"),
        ("a host has failed after", f"{found['detection_time_ms'] / 1000:g} s without a sign of life"),
        ("room is kept for", f"the failure of {level} host{'s' * (level != 1)}" if level else "no failure"),
        ("largest vm to start", output.size(largest) if (largest := found["admission"]["largest"]) else "none"),
    ]


def _by_cause(protections: list[dict[str, Any]]) -> dict[tuple[str, bool, str], list[str]]:
    """(protection, is it there, why) -> hosts or datastores of which that is so; the same protections together."""
    found: dict[tuple[str, bool, str], list[str]] = {}
    order = list(dict.fromkeys(p["name"] for p in protections))
    for p in sorted(protections, key=lambda p: order.index(p["name"])):
        found.setdefault((p["name"], p["is_present"], p["why"]), []).append(p["subject"])
    return found


@app.command(epilog="Examples: zv ha plan --fail host3 · zv ha plan --fail host3,host4 --json")
def plan(
    fail: Annotated[
        list[str],
        typer.Option(
            "--fail", metavar="HOST[,HOST]", autocompletion=complete_hosts, help="Hosts that fail at once."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Who would restart where if these hosts failed now. Exit code 1 when a vm would not be restarted by itself:
    it does not fit, high availability is disabled, or the datastore needs a fence device or a person's word.
    Touches nothing."""
    names = names_of(fail)
    if not names:
        raise InvalidInput("--fail names no host", "e.g. zv ha plan --fail host3; see: zv host list")
    found = session.api().get("/ha/plan", fail=names)
    if as_json:
        output.print_json(found)
    else:
        _tell_plan(found)
    if not found["is_complete"]:
        raise typer.Exit(1)


def _tell_plan(found: dict[str, Any]) -> None:
    hosts, placed = ", ".join(found["hosts"]), found["placed"]
    moved = sum(p["host"] is not None and not p["waits_for"] for p in placed)
    verb = "fails" if len(found["hosts"]) == 1 else "fail"
    if not placed:
        output.say(f"if {hosts} {verb}: no vm runs there")
        return
    of = f"{moved} of {len(placed)} vm{'s' * (len(placed) != 1)}"
    output.say(f"if {hosts} {verb}: {of} would be restarted" + " by itself" * any(p["waits_for"] for p in placed))
    output.table(
        ("VM", "PRIORITY", "MEMORY", "FROM", "TO", "WHY"),
        [
            (p["vm"], p["priority"], output.size(p["memory_bytes"]), p["source"], p["host"], p["why"])
            for p in placed
        ],
        empty="",
    )
    if any(p["host"] is None and p["priority"] != "disabled" for p in placed):
        output.say("not every vm fits: add a host, free memory, or lower priorities: zv vm set NAME")
    for sentence in dict.fromkeys(p["waits_for"] for p in placed if p["waits_for"]):
        output.say(f"not by itself: {sentence}")


@app.command(epilog="Examples: zv ha explain host3 · zv ha explain web1")
def explain(
    subject: Annotated[
        str,
        typer.Argument(metavar="HOST|VM", autocompletion=complete_subject, help="A host comes before a vm."),
    ],
    vm: Annotated[bool, typer.Option("--vm", help="The vm of that name, where a host has the same.")] = False,
    as_json: Json = False,
) -> None:
    """Why a host is judged as it is, or why a vm runs, waits or stays down: the evidence, and what follows."""
    found = session.api().get(f"/ha/explain/{subject}", kind="vm" if vm else None)
    if as_json:
        output.print_json(found)
        return
    output.say(f"{found['kind']} {found['subject']}: {found['judgement']}")
    for line in found["evidence"]:
        output.say(f"  - {line}")
    if found["follows"]:
        output.say(f"what follows: {found['follows']}")
    output.say(f"(judged by {found['judge']})")
