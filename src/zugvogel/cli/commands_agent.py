"""`zv agent`: the service on each host."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from zugvogel.cli import output
from zugvogel.cli.paths import ConfigDir, RunDir, StateDir
from zugvogel.errors import ProcedureFailed, Refused

app = typer.Typer(no_args_is_help=True, help="The service on each host.")

UNIT = Path("/etc/systemd/system/zugvogel.service")


@app.command(epilog="Example: zv agent run   (normally systemd does it: zv agent install)")
def run(
    config_dir: ConfigDir = Path("/etc/zugvogel"),
    state_dir: StateDir = Path("/var/lib/zugvogel"),
    run_dir: RunDir = Path("/run/zugvogel"),
) -> None:
    """Run the agent in the foreground."""
    from zugvogel.agent.main import run_agent

    raise typer.Exit(run_agent(config_dir, state_dir, run_dir))


@app.command(epilog="Examples: zv agent install · zv agent install --print")
def install(
    only_print: Annotated[bool, typer.Option("--print", help="Print the unit; change nothing.")] = False,
    uid: Annotated[int, typer.Option(min=0, help="Number of the user zugvogel, the same on all hosts.")] = 0,
    start: Annotated[bool, typer.Option("--start/--no-start", help="Enable and start it.")] = True,
) -> None:
    """Install the agent as a systemd service, and make the user that QEMU runs as. VMs outlive its restarts."""
    from zugvogel.agent.systemd import unit_text, user_command

    text = unit_text(executable())
    if only_print:
        sys.stdout.write(text)
        return
    _ensure_user(user_command(uid), uid)
    try:
        UNIT.write_text(text)
    except OSError as error:
        raise Refused(
            f"{UNIT} cannot be written: {error.strerror}", "run as root, on a host with systemd"
        ) from None
    _systemctl("daemon-reload")
    if start:
        _systemctl("enable", "--now", UNIT.name)
    output.say(f"{UNIT.name} is {'running' if start else 'installed'}; its log: journalctl -u {UNIT.stem}")


def _ensure_user(command: list[str], uid: int) -> None:
    from zugvogel.adapters.unix_user import DEFAULT_USER, qemu_user

    try:
        known = qemu_user(DEFAULT_USER)
    except Refused:
        known = None
    if known is None:
        _run(command, "make the user by hand, then run this again")
    elif uid not in (0, known.uid):
        raise Refused(
            f"the user {known.name} is there already, with uid {known.uid}, not {uid}",
            f"leave out --uid, or change it: usermod -u {uid} {known.name}",
        )


def executable() -> list[str]:
    """How the agent is started: the installed command by its path, else this Python."""
    beside = Path(sys.executable).with_name("zv")
    found = str(beside) if beside.exists() else shutil.which("zv")
    return [found] if found else [sys.executable, "-m", "zugvogel.cli.main"]


def _systemctl(*arguments: str) -> None:
    if shutil.which("systemctl") is None:
        raise Refused("this machine has no systemd", "run `zv agent run` under your own supervisor")
    _run(["systemctl", *arguments], "see journalctl -xe")


def _run(command: list[str], next_step: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise Refused(f"this machine has no {command[0]}", next_step) from None
    except subprocess.CalledProcessError as error:
        why = error.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise ProcedureFailed(f"{' '.join(command)} failed: {why[0]}", next_step) from None
