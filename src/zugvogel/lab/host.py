"""A lab host from outside: its power button, its hangs, its agent, commands run in it."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time

from zugvogel.errors import ProcedureFailed, Refused
from zugvogel.lab import processes, switch
from zugvogel.lab.layout import SWITCH, LabHost, Layout
from zugvogel.lab.namespaces import add_netns, ip, netns_names


def init_pid(layout: Layout, name: str) -> int | None:
    """Pid (seen from here) of the host's init; None when its power is off."""
    try:
        pid = int(layout.host(name).init_pid.read_text())
    except (FileNotFoundError, ValueError):
        return None
    is_alive = processes.inner_pid(pid) == 1 and processes.state(pid) not in ("Z", "X", "")
    return pid if is_alive and processes.arguments(pid)[-2:] == [str(layout.root), name] else None


def members(layout: Layout, name: str) -> list[int]:
    """Every living process of the host, as seen from here; empty when its power is off."""
    pid = init_pid(layout, name)
    return processes.in_namespace(processes.pid_namespace(pid)) if pid else []


def require_init(layout: Layout, name: str) -> int:
    """Raises Refused when the power is off."""
    pid = init_pid(layout, name)
    if pid is None:
        raise Refused(f"{name} is powered off", f"run `zv lab power {name} on`")
    return pid


def power_on(layout: Layout, host: LabHost) -> None:
    """Returns when the host has booted (its agent may still be starting). A host that is on stays as it is.
    Raises ProcedureFailed with the cause."""
    if init_pid(layout, host.name) is not None:
        return
    paths = layout.host(host.name)
    for folder in (paths.etc, paths.var, paths.log):
        folder.mkdir(parents=True, exist_ok=True)
    _remove_netns(layout, host.name)
    add_netns(layout.netns(host.name))
    switch.plug(layout, host)
    done = subprocess.run(
        [sys.executable, "-m", "zugvogel.lab.init", str(layout.root), host.name],
        env=layout.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        raise ProcedureFailed(f"{host.name} does not start: {lines[-1]}", "run `zv lab down`, then `zv lab up`")


def power_off(layout: Layout, host: LabHost) -> None:
    """The plug is pulled: no farewell on the wire, no flush, nothing. Returns when nothing of it runs any more."""
    pid = init_pid(layout, host.name)
    if pid is not None:
        # Port first: dying processes close their sockets, and a host without power sends no FIN.
        switch.pull(layout, host)
        namespace = processes.pid_namespace(pid)
        processes.send(pid, signal.SIGKILL)
        processes.wait_until(
            lambda: not processes.in_namespace(namespace),
            seconds=30,
            else_say=f"processes of {host.name} do not die: {processes.in_namespace(namespace)}",
        )
    layout.host(host.name).init_pid.unlink(missing_ok=True)
    layout.host(host.name).agent_pid.unlink(missing_ok=True)
    layout.host(host.name).hung.unlink(missing_ok=True)
    _remove_netns(layout, host.name)


def _remove_netns(layout: Layout, name: str) -> None:
    if layout.netns(name) in netns_names(layout.prefix):
        ip("netns", "del", layout.netns(name))
    # The kernel takes the namespace and its cable down a moment later; the port's name must be free again.
    port = f"p-{name}"
    with contextlib.suppress(ProcedureFailed):
        ip("link", "del", port, netns=layout.netns(SWITCH))


def hang(layout: Layout, name: str) -> int:
    """Stops every process of the host, those born meanwhile too. Returns their number.
    Processes that were stopped before (a frozen vm) are not counted and stay stopped at `resume`."""
    require_init(layout, name)
    stopped, settled, deadline = _read_hung(layout, name), 0, time.monotonic() + 10
    while settled < 2:
        going = [pid for pid in members(layout, name) if processes.state(pid) not in ("T", "t", "")]
        for pid in going:
            stopped[pid] = processes.start_ticks(pid)
            processes.send(pid, signal.SIGSTOP)
        # One that waits in the kernel stops when it comes back: as good as stopped.
        settled = settled + 1 if all(processes.state(pid) == "D" for pid in going) else 0
        if time.monotonic() > deadline:
            raise ProcedureFailed(f"processes of {name} do not stop: {going}")
        time.sleep(0.005)
    layout.host(name).hung.write_text(json.dumps(stopped))
    return len(stopped)


def resume(layout: Layout, name: str) -> int:
    """What `hang` stopped goes on. Returns the number of processes."""
    require_init(layout, name)
    stopped = {pid: t for pid, t in _read_hung(layout, name).items() if processes.start_ticks(pid) == t}
    for pid in stopped:
        processes.send(pid, signal.SIGCONT)
    layout.host(name).hung.unlink(missing_ok=True)
    return len(stopped)


def _read_hung(layout: Layout, name: str) -> dict[int, str]:
    try:
        return {int(pid): ticks for pid, ticks in json.loads(layout.host(name).hung.read_text()).items()}
    except FileNotFoundError:
        return {}


def is_hung(layout: Layout, name: str) -> bool:
    pid = init_pid(layout, name)
    return pid is not None and processes.state(pid) in ("T", "t")


def agent_pid(layout: Layout, name: str) -> int | None:
    """Pid (seen from here) of the agent; None when it does not run."""
    try:
        inner = int(layout.host(name).agent_pid.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return next((pid for pid in members(layout, name) if processes.inner_pid(pid) == inner), None)


def kill_agent(layout: Layout, name: str) -> None:
    """SIGKILL of the agent alone; the init starts a new one after a second, unless held.
    Raises Refused when none runs."""
    require_init(layout, name)
    pid = agent_pid(layout, name)
    if pid is None:
        raise Refused(f"no agent runs on {name}", f"run `zv lab agent {name} start`")
    processes.send(pid, signal.SIGKILL)


def hold_agent(layout: Layout, name: str) -> None:
    """Kills the agent and keeps it down until `start_agent`."""
    require_init(layout, name)
    layout.host(name).hold.touch()
    pid = agent_pid(layout, name)
    if pid is not None:
        processes.send(pid, signal.SIGKILL)


def start_agent(layout: Layout, name: str) -> None:
    """Returns when the agent's process exists, not when it is live."""
    require_init(layout, name)
    layout.host(name).hold.unlink(missing_ok=True)
    processes.wait_until(
        lambda: agent_pid(layout, name) is not None,
        seconds=10,
        else_say=f"the agent of {name} does not start; read {layout.host(name).log / 'agent.log'}",
    )


def command(layout: Layout, name: str, arguments: list[str]) -> list[str]:
    """The argument list that runs a command in the host. Raises Refused when its power is off."""
    pid = str(require_init(layout, name))
    return ["nsenter", "--target", pid, "--mount", "--uts", "--net", "--pid", "--wd=/", "--", *arguments]


def execute(layout: Layout, name: str, arguments: list[str], *, input_text: str = "") -> str:
    """Standard output of a command run in the host. Raises ProcedureFailed with its last line of errors."""
    done = subprocess.run(
        command(layout, name, arguments),
        env=layout.environment,
        input=input_text,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit {done.returncode}"]
        raise ProcedureFailed(f"`{' '.join(arguments)}` on {name} failed: {lines[-1]}")
    return done.stdout
