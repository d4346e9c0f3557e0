"""The lab the bench runs in: its own root and its own CLI configuration, gone when the bench ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zugvogel.errors import ProcedureFailed
from zugvogel.lab import api_calls, processes, switch
from zugvogel.lab import host as lab_host
from zugvogel.lab.layout import ROOT_VARIABLE, Layout

ZV = [sys.executable, "-m", "zugvogel.cli.main"]
DEFAULT_ROOT = "/var/tmp/zugvogel-bench"
HOSTS = 3
MOVE_S = 150.0


@contextmanager
def lab(hosts: int = HOSTS) -> Iterator[Layout]:
    """A lab of that many live hosts, unshaped; below $ZUGVOGEL_LAB_ROOT where it is set."""
    os.environ.setdefault(ROOT_VARIABLE, DEFAULT_ROOT)
    with tempfile.TemporaryDirectory(prefix="zugvogel-bench.") as configuration:
        for name in ("ZUGVOGEL_CONFIG", "XDG_CONFIG_HOME"):
            os.environ[name] = configuration
        try:
            subprocess.run([*ZV, "lab", "down"], check=False, timeout=120)  # of a bench that was cut short
            subprocess.run([*ZV, "lab", "up", "--hosts", str(hosts)], check=True, timeout=300)
            yield Layout.from_environment()
        except subprocess.SubprocessError as error:
            raise ProcedureFailed(f"the bench's lab does not come up: {error}") from error
        finally:
            subprocess.run([*ZV, "lab", "down"], check=False, timeout=120)


def zv(*arguments: str, timeout_s: float = 120.0) -> Any:
    """The JSON a command of ours answers. Raises ProcedureFailed."""
    try:
        done = subprocess.run(
            [*ZV, *arguments, "--json"], capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ProcedureFailed(f"zv {' '.join(arguments)} took longer than {timeout_s:.0f} s") from error
    if done.returncode != 0:
        raise ProcedureFailed(f"zv {' '.join(arguments)}: {done.stderr.strip()}")
    return json.loads(done.stdout or "null")


def address_of(layout: Layout, vm: str, patience_s: float = 90.0) -> str:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        addresses = api_calls.call(layout, "GET", f"/vms/{vm}")["addresses"]
        if addresses:
            return str(addresses[0])
        time.sleep(0.5)
    raise ProcedureFailed(f"{vm} has no address after {patience_s:.0f} s")


def shape(layout: Layout, link_mbit: int) -> None:
    """Every host's link, both ways; 0: as fast as it goes."""
    for host in layout.load().hosts:
        host.link_mbit = link_mbit
        switch.shape(layout, host)


def qemu_pid(layout: Layout, host: str, vm: str) -> int | None:
    """Pid, seen from here, of the QEMU of `vm` among the processes of a lab host."""
    for pid in lab_host.members(layout, host):
        if any(argument.startswith(f"guest={vm},") for argument in processes.arguments(pid)):
            return pid
    return None
