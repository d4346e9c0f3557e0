"""Where an agent keeps its things, and what this machine is called, for the commands that set one up."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from zugvogel.errors import InvalidInput, Unreachable

ConfigDir = Annotated[Path, typer.Option(help="Folder of agent.toml.", file_okay=False)]
StateDir = Annotated[Path, typer.Option(help="Folder of keys, etcd data and last known hosts.", file_okay=False)]
RunDir = Annotated[Path, typer.Option(help="Folder of sockets of running vms.", file_okay=False)]


def guess_name() -> str:
    """The short host name. Raises InvalidInput when it cannot name a host."""
    name = socket.gethostname().split(".")[0].lower()
    if not re.match(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", name) or name == "localhost":
        raise InvalidInput(f"the host name {name!r} cannot name this host", "give one with --name")
    return name


def guess_address(url: str) -> str:
    """The address this machine uses towards the host in `url`. Sends nothing."""
    target = urlsplit(url).hostname
    if not target:
        raise InvalidInput(f"{url} is no address of an agent", "write https://HOST:7440")
    return _source_address(target)


def default_address() -> str:
    """The address of the default route. Sends nothing."""
    return _source_address("198.51.100.1")


def _source_address(target: str) -> str:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            return str(probe.getsockname()[0])
    except OSError as error:
        raise Unreachable(
            f"this machine's address towards {target} cannot be found: {error}", "give it with --address"
        ) from None
