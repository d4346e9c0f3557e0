"""`zv` and `zugvogel`: the command line. Exit codes: 0 done, 1 refused or failed, 2 usage, 130 Ctrl-C."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from zugvogel.cli import (
    commands_agent,
    commands_cluster,
    commands_context,
    commands_ha,
    commands_host,
    commands_settings,
    commands_storage,
    commands_task,
    commands_token,
    commands_user,
    commands_vm,
    session,
)
from zugvogel.cli.context import CONTEXT_VARIABLE
from zugvogel.errors import ZugvogelError

GROUPS = (
    ("vm", commands_vm.app),
    ("host", commands_host.app),
    ("cluster", commands_cluster.app),
    ("ha", commands_ha.app),
    ("datastore", commands_storage.datastore_app),
    ("network", commands_storage.network_app),
    ("task", commands_task.task_app),
    ("event", commands_task.event_app),
    ("settings", commands_settings.app),
    ("user", commands_user.app),
    ("token", commands_token.app),
    ("context", commands_context.app),
    ("agent", commands_agent.app),
)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version

        print(f"zugvogel {version('zugvogel')}")
        raise typer.Exit


def _root(
    context: Annotated[
        str,
        typer.Option("--context", envvar=CONTEXT_VARIABLE, help="Cluster to talk to; see `zv context list`."),
    ] = "",
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Live migration and high availability for plain QEMU/KVM hosts."""
    session.choose(context)


def build(words: Sequence[str] = ()) -> typer.Typer:
    """The command tree. The lab is loaded only when `words` (arguments, or the line to complete) name it."""
    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        epilog="Exit codes: 0 done, 1 refused or failed, 2 usage. Example: zv vm migrate web1 --to host2",
    )
    app.callback()(_root)
    for name, group in GROUPS:
        app.add_typer(group, name=name)
    _add_lab(app, words)
    _add_sim(app, words)
    return app


def _add_lab(app: typer.Typer, words: Sequence[str]) -> None:
    """Importing the lab costs time that every other command would pay."""
    if "lab" in words:
        from zugvogel.lab.commands import app as lab_app

        app.add_typer(lab_app, name="lab")
    else:
        app.add_typer(typer.Typer(help="A cluster on this one machine, to try everything."), name="lab")
    if "demo" in words:
        from zugvogel.cli.commands_demo import demo as real_demo

        app.command("demo", epilog="Example: zv demo --hosts 3 --moves 4 --keep")(real_demo)
    else:

        @app.command("demo")
        def demo() -> None:
            """Build a lab, move a vm under load, tell what happened."""


def _add_sim(app: typer.Typer, words: Sequence[str]) -> None:
    """As for the lab: it brings all of the product's services with it."""
    if "sim" in words:
        from zugvogel.cli.commands_sim import app as sim_app

        app.add_typer(sim_app, name="sim")
    else:
        app.add_typer(typer.Typer(help="The cluster on virtual time: scenarios and random faults."), name="sim")


def main() -> None:
    words = [*sys.argv[1:], *os.environ.get("COMP_WORDS", "").split()]
    try:
        build(words)(prog_name="zv")
    except ZugvogelError as error:
        print(f"zv: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)


if __name__ == "__main__":
    main()
