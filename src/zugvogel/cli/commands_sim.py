"""`zv sim`: the cluster on virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zugvogel.cli import commands_sim_serve, output
from zugvogel.cli.options import Json
from zugvogel.errors import InvalidInput
from zugvogel.sim import scenario as scenarios
from zugvogel.sim.run import Result, run
from zugvogel.sim.soak import SeedResult, Size, SoakResult, seeds_of, soak

app = typer.Typer(no_args_is_help=True, help="The cluster on virtual time: the same services, simulated hosts.")

app.command("serve", epilog=commands_sim_serve.EPILOG)(commands_sim_serve.serve)

HOUR_S = 3600.0


@app.command("run", epilog="Example: zv sim run a-host-loses-its-power")
def run_scenario(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A scenario (TOML or JSON), or the name of one of `zv sim list`.")
    ],
    as_json: Json = False,
) -> None:
    """Run a scenario; exit code 1 when an invariant is broken or it does not end as it expects."""
    known = scenarios.shipped()
    result = run(scenarios.load(known.get(file, Path(file))))
    if as_json:
        output.print_json(result.model_dump(mode="json"))
    else:
        _show(result)
    if result.violations:
        raise typer.Exit(1)


@app.command("list", epilog="Example: zv sim list --json")
def list_scenarios(as_json: Json = False) -> None:
    """The scenarios that come with Zugvogel."""
    found = [(name, scenarios.load(path).title) for name, path in scenarios.shipped().items()]
    if as_json:
        output.print_json([{"name": name, "title": title} for name, title in found])
    else:
        output.table(("NAME", "WHAT HAPPENS"), found, empty="no scenarios")


@app.command(epilog="Example: zv sim schema > scenario.schema.json")
def schema() -> None:
    """The JSON schema of scenario files."""
    output.print_json(scenarios.json_schema())


@app.command("soak", epilog="Example: zv sim soak --seeds 1-100 --hours 0.2 --jobs 2")
def run_soak(
    seeds: Annotated[str, typer.Option(help="Which seeds: 7, or 1-500.")] = "1-100",
    hosts: Annotated[int, typer.Option(min=2, max=500, help="Hosts of each cluster.")] = 8,
    vms: Annotated[int, typer.Option(min=1, max=10_000, help="Vms of each cluster.")] = 40,
    hours: Annotated[float, typer.Option(min=0.05, max=168, help="Simulated time of each seed.")] = 1.0,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Processes.")] = 2,
    state: Annotated[
        Path | None, typer.Option(help="File with the seeds that this code has done; they are not run again.")
    ] = None,
    failures: Annotated[Path, typer.Option(help="Where scenarios of seeds that fail are written.")] = Path(
        "soak-failures"
    ),
    as_json: Json = False,
) -> None:
    """Random scenarios with random faults; exit code 1 when one breaks an invariant."""
    size = Size(hosts, vms, hours * HOUR_S)
    wanted = seeds_of(seeds)
    if state is not None and state.is_dir():
        raise InvalidInput(f"{state} is a directory", "name a file")
    result = soak(wanted, size, jobs=jobs, state=state, failures=failures, told=_tell)
    if as_json:
        output.print_json(_figures(result))
    else:
        _show_soak(result)
    if result.failed:
        raise typer.Exit(1)


def _tell(found: SeedResult) -> None:
    for violation in found.violations:
        output.note(f"seed {found.seed}: {violation}")


def _figures(result: SoakResult) -> dict[str, object]:
    return {
        "seeds": result.seeds,
        "simulated_s": result.simulated_s,
        "cpu_s": round(result.took_s, 1),
        "simulated_s_per_cpu_s": round(result.simulated_s / max(1e-9, result.took_s)),
        "recoveries": result.recoveries,
        "failed": {str(seed): result.failed[seed] for seed in sorted(result.failed)},
        "files": result.files,
    }


def _show_soak(result: SoakResult) -> None:
    speed = result.simulated_s / max(1e-9, result.took_s)
    output.say(
        f"{result.seeds} seeds, {result.simulated_s / HOUR_S:.1f} simulated hours at {speed:.0f} seconds a second "
        f"of one core, {result.recoveries} recoveries, {len(result.failed)} seeds failed"
    )
    for file in result.files:
        output.say(f"  zv sim run {file}")


def _show(result: Result) -> None:
    output.say(result.title)
    output.table(
        ("AT", "HOST", "EVENT", "WHAT HAPPENED"),
        [(f"{d.at_s:.1f} s", d.host, d.event, d.message) for d in result.decisions if d.at_s >= 0],
        empty="nothing was told",
    )
    if result.answers:
        output.table(
            ("AT", "ASKED", "ANSWER"), [(f"{a.at_s:.1f} s", a.asked, a.answer) for a in result.answers], empty=""
        )
    output.table(
        ("VM", "FAILED AT", "RUNS AT", "FROM", "TO", "MEMORY"),
        [
            (r.vm, f"{r.failed_at_s:.1f} s", f"{r.running_at_s:.1f} s", r.source, r.target,
             "lost" if r.is_restart else "kept")
            for r in result.recoveries
        ],
        empty="no vm had to recover",
    )  # fmt: skip
    for violation in result.violations:
        output.say(f"violated: {violation.rule} at {violation.at_s:g} s: {violation.what}")
    if not result.violations:
        output.say("no invariant was violated, and it ended as expected")
