"""Spawn QEMU as an unprivileged user, sandboxed, and find it again after a restart of the agent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Protocol

from zugvogel.adapters.clock import SystemClock
from zugvogel.adapters.processes import start_time
from zugvogel.adapters.qemu import vm_log
from zugvogel.adapters.qemu.accel import probe_accelerator
from zugvogel.adapters.qemu.command_line import HostSide, arguments
from zugvogel.adapters.qemu.process import SOCKETS, Spawned, processes_with, reap
from zugvogel.adapters.qemu.qmp_machine import QmpMachine
from zugvogel.adapters.unix_user import UnixUser
from zugvogel.errors import ProcedureFailed, Refused, Unreachable
from zugvogel.ports.hypervisor import PREALLOC_BPS, Machine, MachineSpec, NicSpec

log = logging.getLogger(__name__)

READY_S = 20.0
UNBORN_CHECKS = 100
DEFAULT_MACHINE = "pc-q35-7.2"


class Taps(Protocol):
    async def open(self, vm: str, number: int, nic: NicSpec) -> tuple[int, str]:
        """(fd, name) of a tap that vanishes with its last user."""


class QemuHypervisor:
    """`run_dir` has one directory a running vm; `log_dir` one a vm that ever ran here."""

    def __init__(
        self,
        *,
        run_dir: Path,
        log_dir: Path,
        user: UnixUser,
        network: Taps,
        tls_directory: Path | None,
        binary: str = "qemu-system-x86_64",
    ) -> None:
        self._run_dir = run_dir
        self._log_dir = log_dir
        self._user = user
        self._taps = network
        self._tls = tls_directory
        self._binary = _find(binary)
        self._clock = SystemClock()
        self._version = _version_of(self._binary)
        self._accelerator = probe_accelerator()
        self._machines: dict[str, QmpMachine] = {}
        self._starting: set[str] = set()

    @property
    def version(self) -> str:
        return self._version

    @property
    def accelerator(self) -> str:
        return self._accelerator

    @property
    def default_machine(self) -> str:
        return DEFAULT_MACHINE

    async def spawn(self, spec: MachineSpec) -> Machine:
        vm = spec.definition.name
        if vm in self._starting:
            raise Refused(f"a QEMU of {vm} is being started on this host already", "try again")
        self._starting.add(vm)
        try:
            return await self._spawn(spec)
        finally:
            self._starting.discard(vm)

    async def _spawn(self, spec: MachineSpec) -> Machine:
        vm = spec.definition.name
        directory, logs = self._run_dir / vm, self._log_dir / vm
        await self._until_cleaned_up(vm)
        known = Spawned.load(directory)
        if known is not None and known.is_alive:
            raise Refused(f"a QEMU of {vm} is running on this host already", f"pid {known.pid}")
        self._make_directories(directory, logs)
        fds: list[int] = []
        taps: list[str] = []
        try:
            for number, nic in enumerate(spec.nics):
                fd, name = await self._taps.open(vm, number, nic)
                fds.append(fd)
                taps.append(name)
            process = self._start(spec, directory, logs, tuple(fds))
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        finally:
            for fd in fds:
                os.close(fd)
        return await self._greet(process, spec, directory, logs, taps)

    async def _until_cleaned_up(self, vm: str) -> None:
        """An earlier QEMU of the vm that has just ended still has its directory for a moment."""
        before = self._machines.get(vm)
        if before is not None and not before.is_alive:
            await before.wait_ended(READY_S)
            self._machines.pop(vm, None)

    def _make_directories(self, directory: Path, logs: Path) -> None:
        """QEMU's user may write only where it must: its sockets, and a serial log that exists already, in a
        directory of root's (a link put there by a guest that broke out would lead root astray)."""
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        directory.chmod(0o755)
        sockets = directory / SOCKETS
        sockets.mkdir(mode=0o700)
        os.chown(sockets, self._user.uid, self._user.gid)
        logs.mkdir(parents=True, exist_ok=True)
        os.chown(logs, 0, 0)
        logs.chmod(0o755)
        for name, owner in (("qemu.log", 0), ("serial.log", self._user.uid)):
            vm_log.keep_previous(logs / name)
            os.close(vm_log.open_for_append(logs / name, owner))

    def _start(
        self, spec: MachineSpec, directory: Path, logs: Path, fds: tuple[int, ...]
    ) -> subprocess.Popen[bytes]:
        host = HostSide(
            binary=self._binary,
            accelerator=self._accelerator,
            run_dir=directory / SOCKETS,
            serial_log=logs / "serial.log",
            tap_fds=fds,
            tls_directory=self._tls,
            cores=os.cpu_count() or 1,
        )
        output = vm_log.open_for_append(logs / "qemu.log", 0)
        try:
            return subprocess.Popen(
                arguments(spec, host),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
                pass_fds=fds,
                user=self._user.uid,
                group=self._user.gid,
                extra_groups=_kvm_groups(),
                start_new_session=True,
            )
        finally:
            os.close(output)

    async def _greet(
        self, process: subprocess.Popen[bytes], spec: MachineSpec, directory: Path, logs: Path, taps: list[str]
    ) -> Machine:
        vm = spec.definition.name
        process.returncode = 0  # reaped by our own watch, never by subprocess
        start = start_time(process.pid)
        if start is None:
            reap(process.pid)
            raise self._failed(vm, directory, logs)
        spawned = Spawned(vm, process.pid, start, taps, dict(spec.tags))
        try:
            spawned.save(directory)
        except OSError as error:
            os.kill(process.pid, signal.SIGKILL)
            reap(process.pid)
            shutil.rmtree(directory, ignore_errors=True)
            raise ProcedureFailed(
                f"{vm} was not started: {directory} cannot be written: {error.strerror}", "make room there"
            ) from error
        machine = self._machines[vm] = QmpMachine(directory, spawned, self._clock)
        patience_s = spec.definition.memory_bytes / PREALLOC_BPS if spec.is_preallocated else 0.0
        try:
            await machine.connect(READY_S + patience_s)
        except Unreachable as error:
            await machine.kill()
            raise self._failed(vm, directory, logs) from error
        except BaseException:
            await machine.kill()
            raise
        return machine

    def _failed(self, vm: str, directory: Path, logs: Path) -> ProcedureFailed:
        lines = [line for line in vm_log.tail(logs / "qemu.log", 5).splitlines() if line]
        shutil.rmtree(directory, ignore_errors=True)
        told = "; ".join(line.split(": ", 1)[-1] for line in lines[-3:]) or "it wrote nothing"
        return ProcedureFailed(f"QEMU did not start {vm}: {told}", f"see: zv vm log {vm}")

    async def adopt(self) -> list[Machine]:
        found = await asyncio.gather(*map(self._adopt_one, self._unknown()))
        return [machine for machine in found if machine is not None]

    def _unknown(self) -> list[Path]:
        """Run directories that nobody here has in hand."""
        directories = sorted(self._run_dir.iterdir()) if self._run_dir.is_dir() else []
        return [d for d in directories if d.name not in self._machines and d.name not in self._starting]

    async def _adopt_one(self, directory: Path) -> Machine | None:
        spawned = Spawned.load(directory)
        if spawned is None or not spawned.is_alive:
            await _end_unborn(directory)
            shutil.rmtree(directory, ignore_errors=True)
            return None
        machine = QmpMachine(directory, spawned, self._clock)
        if machine.is_frozen:  # it answers once it is let go on
            self._machines[spawned.vm] = machine
            return machine
        try:
            await machine.connect(READY_S)
        except Unreachable as error:
            log.error("%s: its QEMU (pid %d) does not answer: %s", spawned.vm, spawned.pid, error)
            machine.let_go()
            return None
        self._machines[spawned.vm] = machine
        return machine

    def left(self) -> tuple[str, ...]:
        unknown = map(Spawned.load, self._unknown())
        return tuple(s.vm for s in unknown if s is not None and s.is_alive)

    def bound_logs(self) -> None:
        for logs in self._log_dir.iterdir() if self._log_dir.is_dir() else ():
            vm_log.bound(logs / "serial.log")
            vm_log.bound(logs / "qemu.log")

    def log(self, vm: str, lines: int = 200) -> dict[str, str]:
        return {name: vm_log.tail(self._log_dir / vm / f"{name}.log", lines) for name in ("qemu", "serial")}


async def _end_unborn(directory: Path) -> None:
    """A QEMU whose agent died before it wrote down that it exists. It never ran: that comes after."""
    for pid in processes_with(f"path={directory / SOCKETS}/"):
        log.warning("%s: QEMU (pid %d) of an agent that died while it started it: ended", directory.name, pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        for _ in range(UNBORN_CHECKS):
            if start_time(pid) is None:
                break
            await asyncio.sleep(0.05)


def _find(binary: str) -> str:
    found = shutil.which(binary, path=os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin")
    if found is None:
        raise Refused(f"{binary} is not installed", "install the package qemu-system-x86")
    return found


def _version_of(binary: str) -> str:
    out = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"version (\d+\.\d+(?:\.\d+)?)", out)
    return match[1] if match else "0.0"


def _kvm_groups() -> list[int]:
    """The group that may open /dev/kvm; never root's."""
    with contextlib.suppress(OSError):
        group = Path("/dev/kvm").stat().st_gid
        return [group] if group else []
    return []
