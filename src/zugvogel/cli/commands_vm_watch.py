"""`zv vm console`, `zv vm display` and `zv vm log`."""

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


def display(
    name: Vm,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of 127.0.0.1; 0: any that is free.")] = 0,
    launch: Annotated[
        bool, typer.Option("--launch", help="Start a viewer that is installed here, and end with it.")
    ] = False,
) -> None:
    """The vm's graphical console, for any VNC viewer on this machine, until Ctrl-C. There is no password: other
    users of this machine can connect, too. When the vm moves, a viewer is disconnected; it connects again."""
    from zugvogel.cli.display import DisplayPort, installed_viewer

    viewer = installed_viewer() if launch else ""
    place = DisplayPort(port)
    try:
        host = place.open(session.api(), name)
        output.say(place.address)
        sys.stdout.flush()
        output.note(f"the display of {name} on {host}; connect a VNC viewer to {place.address}; Ctrl-C ends")
        process = place.launch(viewer) if viewer else None
        place.serve(session.api(), name, lambda: process is not None and process.poll() is not None)
    except KeyboardInterrupt:
        output.note("ended")
    finally:
        place.close()


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
