"""Options and arguments that many commands share, and completion of names by the API."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

import typer

from zugvogel.errors import Refused

COMPLETION_S = 0.8


def _names(path: str, start: str) -> list[str]:
    """Quick, and silent when anything is amiss: completion must never disturb."""
    try:
        from zugvogel.cli import context
        from zugvogel.cli.client import Api

        api = Api(context.chosen(), answer_s=COMPLETION_S, connect_s=COMPLETION_S)
        return [item["name"] for item in api.get(path) if item["name"].startswith(start)]
    except Exception:
        return []


def complete_vm(incomplete: str) -> list[str]:
    return _names("/vms", incomplete)


def complete_host(incomplete: str) -> list[str]:
    return _names("/hosts", incomplete)


def complete_hosts(incomplete: str) -> list[str]:
    """The last of several with commas between."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in complete_host(last) if name not in before.split(",")]


def complete_subject(incomplete: str) -> list[str]:
    """A host or a vm."""
    return list(dict.fromkeys([*complete_host(incomplete), *complete_vm(incomplete)]))


def names_of(options: list[str]) -> list[str]:
    """Of an option that may be repeated, or hold several with commas between, or be empty."""
    return [name.strip() for option in options for name in option.split(",") if name.strip()]


def complete_datastore(incomplete: str) -> list[str]:
    return _names("/datastores", incomplete)


def complete_user(incomplete: str) -> list[str]:
    return _names("/users", incomplete)


def complete_network(incomplete: str) -> list[str]:
    return _names("/networks", incomplete)


def complete_setting(incomplete: str) -> list[str]:
    return _names("/settings", incomplete)


class Display(StrEnum):
    NONE = "none"
    VGA = "vga"


_DISPLAY = typer.Option(
    "--display", help="vga: a screen, seen with zv vm display; none: the serial console alone."
)
NewDisplayOption = Annotated[Display, _DISPLAY]
DisplayOption = Annotated[Display | None, _DISPLAY]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output and nothing else there.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Do not wait for the end; print the task.")]
Compress = Annotated[
    bool, typer.Option("--compress", help="Pack the memory with zstd; worth it where the datastore is slow.")
]
Vm = Annotated[str, typer.Argument(metavar="NAME", help="Name of the vm.", autocompletion=complete_vm)]
HostArg = Annotated[str, typer.Argument(metavar="HOST", help="Name of the host.", autocompletion=complete_host)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


INTERRUPTED = 130


def confirm(question: str, *, yes: bool, first: Callable[[], object] = lambda: None) -> None:
    """Ask on standard error. Anything but yes raises Refused. `first`: raises what the question would be asked in
    vain for."""
    if yes:
        return
    first()
    try:
        is_agreed = typer.confirm(question, err=True)
    except typer.Abort as end:
        typer.echo(err=True)
        if isinstance(end.__context__, KeyboardInterrupt):
            raise typer.Exit(INTERRUPTED) from None
        raise Refused(
            "nobody answered the question, so nothing was done", "answer y, or say so beforehand: --yes"
        ) from None
    if not is_agreed:
        raise Refused("the answer was no, so nothing was done", "to do it: answer y, or say so beforehand: --yes")
