"""The shortest script that moves a guest over raw QMP: no agent, no checks, no lease, no way back.

Two QEMUs in the network namespaces of the lab's hosts, with the argument list Zugvogel would use and the
downtime limit it starts with; one stream (a second row: the streams Zugvogel uses), without TLS. The target
starts its vCPUs by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qemu.qmp import EventListener, QMPClient, QMPError

from bench import guests
from bench.contender import other
from bench.sample import Sample
from bench.scenarios import HOSTS, MEMORY_MIB, RAW_MANY, SOURCE
from zugvogel.adapters.network.taps import IFF_NO_PI, IFF_TAP, IFF_VNET_HDR, TUNSETIFF, tap_mac
from zugvogel.adapters.qemu import saved_memory
from zugvogel.adapters.qemu.command_line import HostSide, arguments
from zugvogel.core.convergence import LADDER_MS
from zugvogel.errors import ProcedureFailed
from zugvogel.lab.layout import BRIDGE, Layout
from zugvogel.lab.namespaces import in_netns, ip
from zugvogel.ports.hypervisor import MachineSpec, NicSpec

NAME, MAC, ADDRESS = "bench-raw", "52:54:00:be:0c:01", "198.51.100.201"
TAP, PORT, CHANNELS = "zvbenchraw", 7998, 4
CAPABILITIES = ("events", "return-path")
"""Without `return-path` QEMU's target and source do not agree on the end, and the downtime is wrong."""
QMP_S, LONGEST_S = 20.0, 60.0


class RawSide:
    def __init__(self, layout: Layout, cpu_model: str, memory_mib: int = MEMORY_MIB) -> None:
        self._layout = layout
        self._definition = guests.definition(NAME, MAC, ADDRESS, cpu_model, memory_mib)
        self._accelerator = guests.accelerator()
        self._folder = Path(tempfile.mkdtemp(prefix="zugvogel-bench-raw."))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._host = SOURCE
        self._spawn(SOURCE, incoming=False)

    @property
    def address(self) -> str:
        return ADDRESS

    def qemu_pid(self) -> int | None:
        return self._processes[self._host].pid

    def move(self, row: str, sample: Sample) -> None:
        target = other(self._host)
        began = time.monotonic()
        try:
            asyncio.run(asyncio.wait_for(self._move(target, row == RAW_MANY, sample), LONGEST_S))
        except (TimeoutError, QMPError, OSError, ProcedureFailed) as error:
            asyncio.run(self._call_off())
            self._end(target)
            cause = str(error).removeprefix("raw QMP: ") or f"it did not end within {LONGEST_S:.0f} s"
            raise ProcedureFailed(f"raw QMP: {cause}") from error
        self._end(self._host)
        sample.wall_s = time.monotonic() - began
        self._host = target

    async def _move(self, target: str, has_many: bool, sample: Sample) -> None:
        began = time.time()
        source_qmp = await self._connect(self._host)
        try:
            self._spawn(target, incoming=True)
            target_qmp = await self._connect(target)
            try:
                await self._set(source_qmp, target_qmp, has_many)
                await self._stream(source_qmp, target_qmp, target, began, sample)
            finally:
                await _hang_up(target_qmp)
        finally:
            await _hang_up(source_qmp)

    async def _set(self, source: QMPClient, target: QMPClient, has_many: bool) -> None:
        capabilities = {**dict.fromkeys(CAPABILITIES, True), "multifd": has_many}
        streams = {"multifd-channels": CHANNELS} if has_many else {}
        limits = {"max-bandwidth": 1 << 40, "downtime-limit": LADDER_MS[0]}
        for qmp, parameters in ((target, streams), (source, streams | limits)):
            wanted = [{"capability": name, "state": is_on} for name, is_on in capabilities.items()]
            await qmp.execute("migrate-set-capabilities", {"capabilities": wanted})
            await qmp.execute("migrate-set-parameters", parameters)

    async def _stream(self, source: QMPClient, target: QMPClient, host: str, began: float, sample: Sample) -> None:
        uri = f"tcp:{self._layout.load().host(host).address}:{PORT}"
        stopped, resumed = EventListener(["STOP", "MIGRATION"]), EventListener(["RESUME"])
        with source.listen(stopped), target.listen(resumed):
            await target.execute("migrate-incoming", {"uri": uri})
            ordered = time.time()
            await source.execute("migrate", {"uri": uri})
            stop_at = await _until_completed(stopped)
            resume_at = _at(await resumed.get())
        figures: Any = await source.execute("query-migrate")
        sample.total_s, sample.stream_s = resume_at - began, resume_at - ordered
        sample.downtime_ms = (resume_at - stop_at) * 1000
        sample.sent_bytes = figures["ram"]["transferred"]
        sample.rounds = figures["ram"]["dirty-sync-count"]

    def save_and_load(self, file: Path) -> float:
        """Seconds from STOP on one host to RESUME on the other by way of `file`: mapped-ram, several channels,
        direct I/O, the target's QEMU started before. Nothing is made durable or checked."""
        target = other(self._host)
        took = asyncio.run(asyncio.wait_for(self._save_and_load(target, file), LONGEST_S))
        self._end(self._host)
        self._host = target
        return took

    async def _save_and_load(self, target: str, file: Path) -> float:
        source_qmp = await self._connect(self._host)
        self._spawn(target, incoming=True)
        target_qmp = await self._connect(target)
        try:
            for qmp in (source_qmp, target_qmp):
                on = [{"capability": c, "state": True} for c in ("mapped-ram", "multifd", "events")]
                await qmp.execute("migrate-set-capabilities", {"capabilities": on})
                parameters = {
                    "direct-io": True,
                    "multifd-channels": saved_memory.CHANNELS,
                    "max-bandwidth": 1 << 40,
                }
                await qmp.execute("migrate-set-parameters", parameters)
            began = time.monotonic()
            await source_qmp.execute("stop")
            written, loaded = EventListener(["MIGRATION"]), EventListener(["MIGRATION"])
            with source_qmp.listen(written), target_qmp.listen(loaded):
                await source_qmp.execute("migrate", {"uri": f"file:{file}"})
                await _until_completed(written)
                await target_qmp.execute("migrate-incoming", {"uri": f"file:{file}"})
                await _until_completed(loaded)
            await target_qmp.execute("cont")  # a vm that was saved stopped is loaded stopped
            return time.monotonic() - began
        finally:
            await _hang_up(target_qmp)
            await _hang_up(source_qmp)

    async def _call_off(self) -> None:
        with contextlib.suppress(QMPError, OSError, ProcedureFailed):
            qmp = await self._connect(self._host)
            await qmp.execute("migrate_cancel")
            await _hang_up(qmp)

    async def _connect(self, host: str) -> QMPClient:
        path, deadline = self._folder / host / "qmp.sock", time.monotonic() + QMP_S
        while True:
            if self._processes[host].poll() is not None:
                raise ProcedureFailed(f"raw QMP: QEMU on {host} ended: {self._log_end(host)}")
            client = QMPClient(NAME)
            try:
                await client.connect(str(path))
                return client
            except (QMPError, OSError):
                await _hang_up(client)
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.01)

    def _log_end(self, host: str) -> str:
        lines = (self._folder / f"{host}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it wrote nothing"

    def _spawn(self, host: str, *, incoming: bool) -> None:
        directory = self._folder / host
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        spec = MachineSpec(
            definition=self._definition,
            folder=guests.image_folder(self._layout),
            nics=(NicSpec(mac=MAC, bridge=BRIDGE),),
            incoming=incoming,
        )

        def start() -> subprocess.Popen[bytes]:
            fd = _open_tap()
            try:
                ip("link", "set", TAP, "master", BRIDGE, "up", netns=self._layout.netns(host))
                side = HostSide(
                    binary="qemu-system-x86_64",
                    accelerator=self._accelerator,
                    run_dir=directory,
                    serial_log=directory / "serial.log",
                    tap_fds=(fd,),
                    tls_directory=None,
                )
                command = [argument for argument in arguments(spec, side) if argument != "-S"]
                with open(self._folder / f"{host}.log", "wb") as log:
                    return subprocess.Popen(
                        command, env=self._layout.environment, pass_fds=(fd,), stdin=subprocess.DEVNULL,
                        stdout=log, stderr=log,
                    )  # fmt: skip
            finally:
                os.close(fd)

        self._processes[host] = in_netns(self._layout.netns_path(host), start)

    def _end(self, host: str) -> None:
        process = self._processes.pop(host, None)
        if process is not None:
            process.kill()
            process.wait(10.0)

    def close(self) -> None:
        for host in HOSTS:
            self._end(host)
        shutil.rmtree(self._folder, ignore_errors=True)


def _open_tap() -> int:
    """In the network namespace of the calling thread."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", TAP.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
        fcntl.ioctl(fd, 0x8924, struct.pack("16sH6s16x", b"", 1, tap_mac(MAC)))  # SIOCSIFHWADDR
    except OSError:
        os.close(fd)
        raise
    return fd


async def _until_completed(events: EventListener) -> float:
    """When the source stopped (seconds of the machine's clock), once its stream is complete."""
    stop_at = 0.0
    async for event in events:
        if event["event"] == "STOP":
            stop_at = _at(event)
        status = _data(event).get("status")
        if status == "completed":
            return stop_at
        if status in {"failed", "cancelled"}:
            raise ProcedureFailed(f"raw QMP: the stream ended as {status}")
    raise ProcedureFailed("raw QMP: the source's QEMU hung up")


def _data(event: Mapping[str, Any]) -> dict[str, Any]:
    return dict(event.get("data", {}))


def _at(event: Mapping[str, Any]) -> float:
    """Both QEMUs stamp their events with the clock of the same machine."""
    stamp = event["timestamp"]
    return float(stamp["seconds"]) + float(stamp["microseconds"]) / 1e6


async def _hang_up(client: QMPClient) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(1.0):
            await client.disconnect()
