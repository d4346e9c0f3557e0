"""A lab cluster as tests see it: API calls, faults, and what is really there (processes, taps, files)."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from zugvogel.adapters.datastore.sealed import unseal
from zugvogel.cli import context as contexts
from zugvogel.lab import api_calls, client
from zugvogel.lab.continuity import guest_get
from zugvogel.lab.layout import CLIENT, Layout
from zugvogel.lab.namespaces import in_netns

ZV = [sys.executable, "-m", "zugvogel.cli.main"]
FAILPOINTS = "/run/zugvogel/failpoints"
PATIENCE_S = 60.0
RPC_PORT = 7441


class Cluster:
    """`hosts` are the names; every wait is bounded by PATIENCE_S and says what it waited for."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    @property
    def hosts(self) -> list[str]:
        return [h.name for h in self.layout.load().hosts]

    # asking --------------------------------------------------------------------------------------

    def api(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return api_calls.call(self.layout, method, path, body, timeout_s=20.0)

    def zv(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([*ZV, *arguments], capture_output=True, text=True, timeout=300, check=False)
        assert not check or done.returncode == 0, f"zv {' '.join(arguments)}: {done.stdout}\n{done.stderr}"
        return done

    def zv_json(self, *arguments: str) -> Any:
        return json.loads(self.zv(*arguments, "--json").stdout)

    def vm(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api("GET", f"/vms/{name}")
        return found

    def host(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api("GET", f"/hosts/{name}")
        return found

    def wait(self, what: str, is_so: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
        deadline, last = time.monotonic() + patience_s, ""
        while time.monotonic() < deadline:
            try:
                if found := is_so():
                    return found
            except Exception as error:  # an agent that is being cut answers with anything
                line = traceback.extract_tb(error.__traceback__)[-1].line or ""
                last = f"\n  last: {line.strip()}: {error}"
            time.sleep(0.1)
        raise AssertionError(f"not within {patience_s:.0f} s: {what}{last}")

    def task_end(self, task_id: str, patience_s: float = PATIENCE_S) -> dict[str, Any]:
        def ended() -> Any:
            task = self.api("GET", f"/tasks/{task_id}")
            return task if task["state"] in {"done", "failed", "cancelled"} else None

        found: dict[str, Any] = self.wait(f"end of task {task_id}", ended, patience_s)
        return found

    def do(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Start a task and wait for its good end."""
        task = self.task_end(self.api(method, path, body or {})["id"])
        assert task["state"] == "done", task["error"]
        return task

    def create(self, name: str, memory_mib: int = 128, **more: Any) -> None:
        body = {"name": name, "memory_bytes": memory_mib << 20, "cpus": 1, "image": "lab-guest", **more}
        self.do("POST", "/vms", body)

    def start(self, name: str, host: str, *, until_answers: bool = False) -> None:
        self.do("POST", f"/vms/{name}/start", {"host": host})
        if until_answers:
            self.wait(f"{name} to have an address", lambda: self.vm(name)["addresses"])

    def migrate(self, name: str, target: str, **options: Any) -> str:
        """Start a live migration; the task's id."""
        body = {"target": target, "options": options}
        return str(self.api("POST", f"/vms/{name}/migrate", body)["id"])

    def quick(self, name: str, target: str, is_streamed: bool | None = None) -> str:
        """Start a quick migration; the task's id."""
        body = {"mode": "quick", "target": target, "save": {"is_streamed": is_streamed}}
        return str(self.api("POST", f"/vms/{name}/migrate", body)["id"])

    # as a user sees it -------------------------------------------------------------------------------

    def refused(self, *arguments: str, code: int = 1) -> str:
        """`zv` must fail with this exit code and a plain error alone; what it said."""
        done = self.zv(*arguments, check=False)
        assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, done.stderr
        assert "defect" not in done.stderr, done.stderr
        assert done.stdout == "", done.stdout
        assert done.stderr.strip()
        return done.stderr

    def client(self, *command: str) -> list[str]:
        """The argument list that runs a command at the client's place on the network."""
        return client.command(self.layout, list(command))

    def guest(self, vm: str, path: str = "/state") -> dict[str, Any]:
        """The guest's own answer over HTTP, asked by the client. Raises OSError."""
        addresses = self.wait(f"{vm} to have an address", lambda: self.vm(vm)["addresses"], 10.0)
        return in_netns(self.layout.netns_path(CLIENT), lambda: guest_get(addresses[0], path, 30.0))

    def context_of(self, host: str) -> str:
        """The name of a CLI context that asks this host alone."""
        lab = contexts.named("lab")
        address = next(h.address for h in self.layout.load().hosts if h.name == host)
        url = f"https://{address}:{api_calls.API_PORT}"
        own = contexts.Context(f"at-{host}", (url,), lab.token, lab.ca_file, lab.netns)
        contexts.add(own, make_current=False)
        return own.name

    def vm_as_told_by(self, host: str, vm: str) -> dict[str, Any]:
        """The vm's view, asked of this host alone."""
        address = next(h.address for h in self.layout.load().hosts if h.name == host)
        only = [f"https://{address}:{api_calls.API_PORT}"]
        found: dict[str, Any] = api_calls.call(self.layout, "GET", f"/vms/{vm}", only=only)
        return found

    def runs(self, host: str, program: str) -> bool:
        return bool(self.pids(host, program))

    def pids(self, host: str, program: str) -> list[int]:
        lines = {pid: _command_line(pid) for pid in self.processes(host)}
        return [pid for pid, line in lines.items() if line and Path(line[0]).name == program]

    def boot(self, name: str, host: str) -> dict[str, Any]:
        """Start it by the CLI, unless it runs there; the guest's state once it answers."""
        view = self.vm(name)
        if (view["state"], view["host"]) != ("running", host):
            self.end(name)
            self.zv("vm", "start", name, "--on", host)
        found: dict[str, Any] = self.wait(f"the guest of {name} to answer", lambda: self.guest(name))
        return found

    def end(self, name: str) -> None:
        """Its power is cut if it runs."""
        if self.vm(name)["state"] == "running":
            self.zv("vm", "kill", name)

    def remove(self, name: str) -> None:
        """Off and deleted, if there is such a vm."""
        if name in [v["name"] for v in self.api("GET", "/vms")]:
            self.end(name)
            self.zv("vm", "delete", name, "--yes")

    # what is really there --------------------------------------------------------------------------

    def init_pid(self, host: str) -> int:
        return int(self.layout.host(host).init_pid.read_text().split()[0])

    def processes(self, host: str) -> list[int]:
        """Pids (as seen here) of everything in the host's pid namespace."""
        try:
            namespace = Path(f"/proc/{self.init_pid(host)}/ns/pid").readlink()
        except (OSError, ValueError):
            return []
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if (entry / "ns/pid").readlink() == namespace:
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def qemus(self, vm: str) -> dict[str, int]:
        """host -> pid of a QEMU process of `vm` there (zombies do not count)."""
        found = {}
        for host in self.hosts:
            for pid in self.processes(host):
                arguments = _command_line(pid)
                if arguments and "qemu-system" in arguments[0] and f"/{vm}/" in " ".join(arguments):
                    found[host] = pid
        return found

    def running(self, vm: str) -> list[str]:
        """Hosts where a QEMU of `vm` is there and not frozen (stopped by SIGSTOP)."""
        return [host for host, pid in self.qemus(vm).items() if _state(pid) not in {"T", "t", "Z", "X", ""}]

    def power_on_all(self) -> None:
        """Returns when every host is live."""
        for host in self.hosts:
            self.zv("lab", "power", host, "on")
        self.zv("lab", "heal")
        self.all_live()

    def agent_pid(self, host: str) -> int:
        for pid in self.processes(host):
            if "agent run" in " ".join(_command_line(pid)):
                return pid
        raise AssertionError(f"no agent on {host}")

    def taps(self, host: str) -> list[str]:
        out = subprocess.run(
            ["nsenter", "-t", str(self.init_pid(host)), "-n", "ip", "-json", "link", "show", "type", "tun"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return [link["ifname"] for link in json.loads(out or "[]")]

    def notes(self, vm: str) -> list[str]:
        folder = self.layout.shared / vm
        return sorted(p.name for p in folder.iterdir() if p.name.startswith(("migration.", "word.", "suspend.")))

    def saved(self, vm: str) -> list[str]:
        """Files of saved memory."""
        return sorted(p.name for p in (self.layout.shared / vm).glob("memory.*"))

    def orders(self) -> list[str]:
        return sorted(str(p) for p in (self.layout.shared / ".zugvogel/orders").glob("*/*"))

    def lease(self, vm: str) -> dict[str, Any]:
        folder = self.layout.shared / vm
        epochs = [int(m[1]) for p in folder.iterdir() if (m := re.fullmatch(r"lease\.(\d+)", p.name))]
        body = unseal((folder / f"lease.{max(epochs)}").read_bytes())
        assert body is not None, f"lease.{max(epochs)} is torn"
        found: dict[str, Any] = json.loads(body)
        return found

    def agent_log(self, host: str, lines: int = 40) -> str:
        log = self.layout.host(host).log / "agent.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""

    # failpoints and faults ---------------------------------------------------------------------------

    def _failpoints(self, host: str) -> Path:
        directory = Path(f"/proc/{self.init_pid(host)}/root{FAILPOINTS}")
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def hold(self, host: str, step: str) -> None:
        self.release(host, step)
        (self._failpoints(host) / step).touch()

    def reached(self, host: str, step: str) -> bool:
        return (self._failpoints(host) / f"{step}.reached").exists()

    def hold_at(self, step: str, move: tuple[str, str], start: Callable[[], str]) -> tuple[str, str]:
        """Start the move (source, target) and wait until it stands at `step`; (task, host that holds it)."""
        source, target = move
        held = source if step.startswith("source") else target
        self.hold(held, step)
        task = start()
        self.wait(f"{step} on {held}", lambda: self.reached(held, step))
        return task, held

    def release(self, host: str, step: str) -> None:
        for name in (step, f"{step}.reached"):
            (self._failpoints(host) / name).unlink(missing_ok=True)

    def kill_qemu(self, vm: str, host: str) -> bool:
        pid = self.qemus(vm).get(host)
        if pid is None:
            return False
        os.kill(pid, signal.SIGKILL)
        return True

    def kill_agent(self, host: str) -> None:
        """SIGKILL; the lab's init starts it again after a second, as systemd would."""
        pid = self.agent_pid(host)
        os.kill(pid, signal.SIGKILL)
        self.wait(f"the agent of {host} to be gone", lambda: not _command_line(pid))

    @contextmanager
    def etcd_killed(self, *hosts: str) -> Iterator[None]:
        """SIGKILL; what their agents start in its place stands still until the end."""
        killed = {pid for host in hosts for pid in self.pids(host, "etcd")}
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        stopped: list[int] = []

        def stop_next(host: str) -> bool:
            started = [pid for pid in self.pids(host, "etcd") if pid not in killed]
            for pid in started:
                os.kill(pid, signal.SIGSTOP)
            stopped.extend(started)
            return bool(started)

        try:
            for host in hosts:
                self.wait(f"the agent of {host} to start etcd again", partial(stop_next, host))
            yield
        finally:
            for pid in stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def release_all(self) -> None:
        for host in self.hosts:
            for file in self._failpoints(host).iterdir():
                file.unlink(missing_ok=True)

    def all_live(self) -> None:
        """Every host is live and reaches every datastore, whichever of them is asked: the next request may be
        answered by one whose agent has just started."""

        def live() -> bool:
            return all(self._listens(host) for host in self.hosts) and all(
                h["verdict"] == "live" and h["datastores"] and all(d["is_usable"] for d in h["datastores"])
                for url in api_calls.urls(self.layout)
                for h in api_calls.call(self.layout, "GET", "/hosts", timeout_s=20.0, only=[url])
            )

        self.wait("all hosts live", live)

    def _listens(self, host: str) -> bool:
        """Its agent serves RPC: an agent that was killed a moment ago still counts as live."""
        table = Path(f"/proc/{self.agent_pid(host)}/net/tcp").read_text()
        return any(f":{RPC_PORT:04X} " in line and " 0A " in line for line in table.splitlines())

    # the one law -----------------------------------------------------------------------------------

    def assert_runs_once(self, vm: str) -> str:
        """Exactly one QEMU, on the host that holds the lease and that the API names; nothing is left over.
        Returns the host."""

        def settled() -> str:
            view, qemus, lease = self.vm(vm), self.qemus(vm), self.lease(vm)
            assert view["state"] == "running", view
            assert list(qemus) == [view["host"]], (qemus, view["host"])
            assert lease["state"] == "running", lease
            assert lease["holder"]["host"] == view["host"], lease
            assert not lease["heir"], lease
            assert not view["is_migrating"], view
            self._assert_nothing_left(vm)
            assert self.saved(vm) == []
            return str(view["host"])

        return str(self.wait(f"{vm} to run exactly once", settled, 40.0))

    def assert_suspended(self, vm: str) -> None:
        """Nobody runs it, its memory is whole, and nothing else is left over."""

        def settled() -> bool:
            view, lease = self.vm(vm), self.lease(vm)
            assert view["state"] == "suspended", view
            assert self.qemus(vm) == {}
            assert lease["state"] == "suspended", lease
            whole = [f"memory.{lease['memory_id']}.{kind}" for kind in ("json", "len", "ram")]
            assert self.saved(vm) in (whole, [whole[0], whole[2]])  # a stream keeps its length beside it
            self._assert_nothing_left(vm)
            return True

        self.wait(f"{vm} to be suspended", settled, 40.0)

    def assert_dead_once(self, vm: str) -> None:
        def settled() -> bool:
            view = self.vm(vm)
            assert view["state"] == "failed", view
            assert self.qemus(vm) == {}
            assert self.lease(vm)["state"] == "released"
            self._assert_nothing_left(vm)
            return True

        self.wait(f"{vm} to be reported dead", settled, 40.0)
        epoch = self.lease(vm)["epoch"]
        events = self.api("GET", f"/events?subject={vm}&limit=50")
        told = [e for e in events if e["kind"] == "vm.failed" and e["evidence"].get("epoch") == epoch]
        assert len(told) == 1, told

    def _assert_nothing_left(self, vm: str) -> None:
        assert self.notes(vm) == []
        assert self.orders() == []
        for host in self.hosts:
            running = [v for v in self.api("GET", "/vms") if v["host"] == host and v["state"] == "running"]
            assert len(self.taps(host)) == sum(len(v["macs"]) for v in running), (host, self.taps(host), running)
            reserved = self.host(host)["reserved_bytes"]
            assert reserved == 0, (host, reserved)


def _state(pid: int) -> str:
    """As in /proc; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def _command_line(pid: int) -> list[str]:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [] if _state(pid) in {"Z", ""} else [part.decode(errors="replace") for part in raw.split(b"\0")]
