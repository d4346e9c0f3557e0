"""`zv vm console` and `zv vm log`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from zugvogel.cli import output, session
from zugvogel.cli.options import Json, Vm


def console(name: Vm) -> None:
    """The vm's serial console. It follows the vm when it moves; Ctrl-] leaves."""
    from zugvogel.cli.console import SerialConsole

    SerialConsole(session.api(), name).run()


def log(
    name: Vm,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=10_000, help="How many of each.")] = 100,
    as_json: Json = False,
) -> None:
    """Last lines of QEMU's log and of the serial console."""
    found = session.api().get(f"/vms/{name}/log", lines=lines)
    if as_json:
        output.print_json(found)
        return
    for title, key in (("QEMU", "qemu"), ("serial console", "serial")):
        output.note(f"--- {title} of {name}")
        sys.stdout.write(found[key] if found[key].endswith("\n") or not found[key] else found[key] + "\n")
        sys.stdout.flush()
