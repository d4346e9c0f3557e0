"""`python -m zugvogel.lab.init ROOT HOST`: makes a host's namespaces and is their PID 1.

The first process enters the host's network namespace, makes the others, forks, waits until its child (PID 1 of
the host) says that the host has booted, and ends: exit 0 booted, 1 not (cause on standard error).
SIGKILL of PID 1 from outside is the power cut: the kernel ends everything in the pid namespace with it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from zugvogel.lab import namespaces as ns
from zugvogel.lab.layout import (
    AGENT_VARIABLE,
    BRIDGE,
    GATEWAYS,
    SHARED_IN_HOST,
    UPLINK,
    HostPaths,
    LabHost,
    Layout,
)

AGENT_RESTART_S = 1.0
HOLD_POLL_S = 0.2
SHUTDOWN_S = 20.0
HOST_FOLDERS = {"etc": "/etc/zugvogel", "var": "/var/lib/zugvogel", "log": "/var/log/zugvogel"}
_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}


def main(arguments: list[str]) -> int:
    layout, name = Layout(Path(arguments[0])), arguments[1]
    host = layout.load().host(name)
    ns.enter_netns(layout.netns_path(name))
    ns.unshare(ns.CLONE_NEWPID | ns.CLONE_NEWNS | ns.CLONE_NEWUTS)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _be_init(layout, host, writer)
    os.close(writer)
    layout.host(name).init_pid.write_text(str(pid))
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    if answer != "booted":
        print(answer or "the host's init died while it booted", file=sys.stderr)
        return 1
    return 0


def _be_init(layout: Layout, host: LabHost, ready: int) -> None:
    paths = layout.host(host.name)
    try:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        _boot(layout, host, paths)
    except Exception as error:
        os.write(ready, f"{host.name} does not boot: {error}".encode())
        os._exit(1)
    _to_console(paths)
    os.write(ready, b"booted")
    os.close(ready)
    Supervisor(paths).run()
    os._exit(0)


def _to_console(paths: HostPaths) -> None:
    console = os.open(paths.base / "console.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (console, 1), (console, 2)):
        os.dup2(source, target)


def _boot(layout: Layout, host: LabHost, paths: HostPaths) -> None:
    socket.sethostname(host.name)
    ns.mount("", Path("/"), flags=ns.MS_REC | ns.MS_PRIVATE)
    for point in ns.mounts_below(Path("/run")):
        ns.unmount(point)
    ns.mount("proc", Path("/proc"), "proc")
    ns.mount("sysfs", Path("/sys"), "sysfs")  # shows the devices of this network namespace
    ns.mount("tmpfs", Path("/run"), "tmpfs", data="mode=755")
    Path("/run/lock").mkdir()
    for folder, target in HOST_FOLDERS.items():
        ns.mount(str(paths.base / folder), Path(target), flags=ns.MS_BIND)
    for name in ("passwd", "group"):
        if (layout.root / name).exists():
            ns.mount(str(layout.root / name), Path("/etc") / name, flags=ns.MS_BIND)
    _hide_watchdogs(paths)
    ns.mount("tmpfs", SHARED_IN_HOST.parent, "tmpfs", data="mode=755")
    SHARED_IN_HOST.mkdir()
    mount_shared(layout.shared)
    _network(host)


def _hide_watchdogs(paths: HostPaths) -> None:
    """A lab host that dies must never reset the real machine."""
    nothing = paths.base / "nothing"
    nothing.touch(mode=0o000)
    for device in Path("/dev").glob("watchdog*"):
        ns.mount(str(nothing), device, flags=ns.MS_BIND)


def mount_shared(shared: Path) -> None:
    """The datastore through this host's own bindfs. Attributes are not cached: other hosts write too.
    Locks stay within the host: forwarded ones outlive a QEMU that is killed (libfuse keeps the locks of open file
    descriptions when they are closed), and nothing of ours relies on locks across hosts.
    Returns when it is mounted. Raises ProcedureFailed."""
    options = "attr_timeout=0,entry_timeout=0,negative_timeout=0,fsname=lab-shared"
    ns.run(
        ["bindfs", "--multithreaded", "-o", options, str(shared), str(SHARED_IN_HOST)],
        what="bindfs",
    )


def _network(host: LabHost) -> None:
    ns.ip("link", "add", BRIDGE, "address", host.mac, "type", "bridge", "stp_state", "0", "forward_delay", "0")
    ns.ip("link", "set", UPLINK, "master", BRIDGE, "up")
    ns.ip("link", "set", BRIDGE, "up")
    ns.ip("addr", "add", f"{host.address}/24", "dev", BRIDGE)
    ns.ip("route", "add", "default", "via", GATEWAYS[0])


class Supervisor:
    """Keeps the agent running, as systemd would, and reaps what it leaves to PID 1."""

    def __init__(self, paths: HostPaths) -> None:
        self._paths = paths
        self._agent = 0
        self._start_at = 0.0

    def run(self) -> None:
        """Until SIGTERM; then ends everything in order."""
        while True:
            self._start_when_due()
            caught = signal.sigtimedwait(_SIGNALS, 3600.0 if self._agent else HOLD_POLL_S)
            if caught and caught.si_signo in (signal.SIGTERM, signal.SIGINT):
                return self._shut_down()
            self._reap()

    def _start_when_due(self) -> None:
        if self._agent or time.monotonic() < self._start_at or self._paths.hold.exists():
            return
        override = os.environ.get(AGENT_VARIABLE)
        command = (
            shlex.split(override) if override else [sys.executable, "-m", "zugvogel.cli.main", "agent", "run"]
        )
        log = str(self._paths.log / "agent.log")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._agent = os.posix_spawnp(
            command[0],
            command,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 1, log, flags, 0o640), (os.POSIX_SPAWN_DUP2, 1, 2)],
            setsigmask=[],
            setsid=True,
        )
        self._paths.agent_pid.write_text(str(self._agent))

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                if pid == self._agent:
                    self._agent = 0
                    self._start_at = time.monotonic() + AGENT_RESTART_S
                    self._paths.agent_pid.unlink(missing_ok=True)

    def _shut_down(self) -> None:
        if self._agent:
            os.kill(self._agent, signal.SIGTERM)
            deadline = time.monotonic() + SHUTDOWN_S
            while self._agent and time.monotonic() < deadline:
                signal.sigtimedwait({signal.SIGCHLD}, 0.5)
                self._reap()
        subprocess.run(["umount", "-l", str(SHARED_IN_HOST)], check=False)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Exception as error:
        sys.exit(str(error))
