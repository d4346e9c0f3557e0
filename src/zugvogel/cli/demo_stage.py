"""What the acts of the demo have in common: commands that are shown and run, and looks at a guest from outside."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console

from zugvogel.errors import ProcedureFailed

ZV = [sys.executable, "-m", "zugvogel.cli.main"]
LOOK_S = 0.3
console = Console(highlight=False)


def say(arguments: tuple[str, ...]) -> None:
    console.print(f"\n[bold cyan]$[/] [bold]zv {' '.join(arguments)}[/]")


def zv(*arguments: str) -> None:
    say(arguments)
    if subprocess.run([*ZV, *arguments], check=False).returncode != 0:
        raise ProcedureFailed(f"the demo stopped at: zv {' '.join(arguments)}", "its message is above")


def as_json(*arguments: str) -> Any:
    done = subprocess.run([*ZV, *arguments, "--json"], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ProcedureFailed(f"the demo stopped at: zv {' '.join(arguments)}", done.stderr.strip())
    return json.loads(done.stdout)


def address_of(vm: str, patience_s: float = 90.0) -> str:
    """The guest's address once it answers a ping."""
    deadline = time.monotonic() + patience_s
    with console.status(f"waiting for {vm} to boot and answer"):
        while time.monotonic() < deadline:
            addresses = as_json("vm", "show", vm)["addresses"]
            if addresses and as_json("lab", "ping", vm, "--seconds", "0.3", "--interval-ms", "100")["lost"] == 0:
                return str(addresses[0])
            time.sleep(0.5)
    raise ProcedureFailed(f"{vm} does not answer", f"look at its console: zv vm log {vm}")


def guest_state(address: str) -> dict[str, Any]:
    """The guest's own word, asked by the client: `boot_id`, `counter` ... Empty when it does not answer."""
    asked = [sys.executable, "-m", "zugvogel.lab.continuity", address, "--once"]
    done = subprocess.run([*ZV, "lab", "client", "--", *asked], check=False, capture_output=True, text=True)
    try:
        found: dict[str, Any] = json.loads(done.stdout or "{}")
    except ValueError:
        return {}
    return found


def wait(what: str, is_so: Callable[[], bool], patience_s: float) -> float:
    """Seconds it took. Raises ProcedureFailed."""
    began = time.monotonic()
    with console.status(f"waiting for {what}"):
        while not is_so():
            if time.monotonic() - began > patience_s:
                raise ProcedureFailed(f"not within {patience_s:.0f} s: {what}", "see: zv event list")
            time.sleep(LOOK_S)
    return time.monotonic() - began
