"""`zv vm suspend`, `resume`, `discard`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from zugvogel.cli import output, session, watch
from zugvogel.cli.commands_vm_migrate import tell_detached, tell_end
from zugvogel.cli.options import Compress, Detach, Json, Vm, Yes, complete_host, confirm


def _follow(task: dict[str, Any], *, as_json: bool, detach: bool) -> None:
    if detach:
        tell_detached(task, as_json=as_json)
    else:
        tell_end(watch.follow(task, as_json=as_json), as_json=as_json)


def suspend(name: Vm, compress: Compress = False, as_json: Json = False, detach: Detach = False) -> None:
    """Save a vm's memory on its datastore and end its process; any host can resume it, also after a power loss."""
    task = session.api().post(f"/vms/{name}/suspend", {"is_compressed": compress})
    _follow(task, as_json=as_json, detach=detach)


def resume(
    name: Vm,
    on: Annotated[
        str | None, typer.Option("--on", autocompletion=complete_host, help="Host; default: the best one.")
    ] = None,
    as_json: Json = False,
    detach: Detach = False,
) -> None:
    """Go on with a suspended vm, with its memory as it was."""
    _follow(session.api().post(f"/vms/{name}/resume", {"host": on}), as_json=as_json, detach=detach)


def discard(name: Vm, yes: Yes = False, as_json: Json = False) -> None:
    """Throw the saved memory of a suspended vm away, so that it boots fresh from its disks."""
    confirm(
        f"Throw away the saved memory of {name}? What its programs had not written to its disks is lost, as by a "
        f"power cut.",
        yes=yes,
        first=lambda: session.api().get(f"/vms/{name}"),
    )
    vm = session.api().post(f"/vms/{name}/discard")
    if as_json:
        output.print_json(vm)
    output.say(f"the saved memory of {name} is gone; boot it fresh: zv vm start {name}", as_json=as_json)
