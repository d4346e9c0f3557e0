"""One QEMU process as `zugvogel.ports.hypervisor.Machine`: QMP in, events out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from qemu.qmp import ExecuteError, QMPClient, QMPError, Runstate

from zugvogel.adapters import processes
from zugvogel.adapters.datastore.deadline import Deadlines
from zugvogel.adapters.qemu import activity, guest_agent, images, migration, saved_memory
from zugvogel.adapters.qemu.process import SOCKETS, ProcessWatch, Spawned
from zugvogel.domain.migration import MigrationSample
from zugvogel.errors import DeadlineExceeded, ProcedureFailed, Refused, Unreachable
from zugvogel.ports.clock import Clock
from zugvogel.ports.hypervisor import MachineEvent, MachineStatus

logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)
log = logging.getLogger(__name__)

COMMAND_S = 20.0
QUIT_S = 5.0
AGAIN_S = 1.0
DIRTY_RATE_S = 1
AGENT_S = 10.0
THAW_S = 10.0
CLOSED = "images_closed"
FLUSHES = 2
"""That may hang at a time; after as many nothing is opened anew until one comes back."""
"""Tag: its images are being opened anew, or an attempt to was cut off."""


class QmpMachine:
    """Made by `QemuHypervisor`; `connect` before use, or `thaw` one that is frozen. A QMP connection that breaks
    off while the process lives is made again."""

    def __init__(self, directory: Path, spawned: Spawned, clock: Clock) -> None:
        self._directory = directory
        self._spawned = spawned
        self._clock = clock
        self._client = QMPClient(spawned.vm)
        self._readers: set[asyncio.Queue[MachineEvent | None]] = set()
        self._end: MachineEvent | None = None
        self._serving: asyncio.Task[None] | None = None
        self._finishing: asyncio.Task[None] | None = None
        self._watch = ProcessWatch(spawned.pid, self._exited)
        self._flushes = Deadlines(f"an image of {spawned.vm}", threads=FLUSHES)

    # identity ------------------------------------------------------------------------------------

    @property
    def vm(self) -> str:
        return self._spawned.vm

    @property
    def pid(self) -> int:
        return self._spawned.pid

    @property
    def start_ticks(self) -> int:
        return self._spawned.start

    @property
    def tags(self) -> dict[str, Any]:
        return dict(self._spawned.tags)

    @property
    def is_alive(self) -> bool:
        return self._watch.is_alive

    @property
    def is_frozen(self) -> bool:
        return self.is_alive and processes.is_stopped(self.pid)

    @property
    def serial_socket(self) -> Path:
        return self._directory / SOCKETS / "serial.sock"

    @property
    def display_socket(self) -> Path | None:
        """Looked up, since an earlier version's agent may have started it."""
        socket = self._directory / SOCKETS / "vnc.sock"
        return socket if socket.is_socket() else None

    @property
    def tap_names(self) -> tuple[str, ...]:
        return tuple(self._spawned.taps)

    async def set_tags(self, **tags: Any) -> None:
        self._spawned.tags = {**self._spawned.tags, **tags}
        if self.is_alive:
            self._spawned.save(self._directory)

    def freeze(self) -> None:
        self._watch.signal(signal.SIGSTOP)

    async def thaw(self) -> None:
        self._watch.signal(signal.SIGCONT)
        if self._serving is None:  # adopted while it was frozen
            self._serving = asyncio.create_task(self._serve_anew())
        deadline = self._clock.monotonic() + THAW_S
        while self.is_alive and self._client.runstate is not Runstate.RUNNING:
            if self._clock.monotonic() > deadline:
                raise DeadlineExceeded(f"QEMU of {self.vm} goes on but does not answer on QMP yet")
            await asyncio.sleep(0.005)

    # connection ----------------------------------------------------------------------------------

    async def connect(self, timeout_s: float) -> None:
        """Until QMP answers. Raises Unreachable when the process ends or the time is over."""
        deadline = self._clock.monotonic() + timeout_s
        while True:
            if not self.is_alive:
                raise Unreachable(f"QEMU of {self.vm} ended while it started")
            left = deadline - self._clock.monotonic()
            try:
                async with asyncio.timeout(max(0.0, left)):
                    await self._client.connect(str(self._directory / SOCKETS / "qmp.sock"))
                break
            except (QMPError, OSError, TimeoutError) as error:
                if left <= 0:
                    raise DeadlineExceeded(f"QEMU of {self.vm} does not answer on QMP") from error
                await self._hang_up()
                await asyncio.sleep(0.005)
        self._serving = asyncio.create_task(self._serve())

    async def _hang_up(self) -> None:
        """Close the connection, whatever state it is in, and be ready for a new one."""
        with contextlib.suppress(QMPError, OSError, EOFError, TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(1.0):
                await self._client.disconnect()

    async def _serve(self) -> None:
        """Pass events on; connect again when the connection breaks off though the process lives."""
        while self.is_alive:
            pump = asyncio.create_task(self._pump_events(self._client))
            try:
                while self._client.runstate is Runstate.RUNNING:
                    await self._client.runstate_changed()
            finally:
                pump.cancel()
            await self._hang_up()
            await asyncio.sleep(0.1)  # mostly it is the process that ended
            if self.is_alive:
                log.warning("%s: QMP broke off; connecting again", self.vm)
                await self._connect_again()

    async def _serve_anew(self) -> None:
        await self._connect_again()
        await self._serve()

    async def _connect_again(self) -> None:
        while self.is_alive:
            self._client = QMPClient(self._spawned.vm)
            try:
                async with asyncio.timeout(AGAIN_S):
                    await self._client.connect(str(self._directory / SOCKETS / "qmp.sock"))
            except (QMPError, OSError, TimeoutError):
                await self._hang_up()
                await asyncio.sleep(AGAIN_S)
                continue
            await self._tell_missed()
            return

    async def _tell_missed(self) -> None:
        """STOP or RESUME, as the state is now: what was said meanwhile was not heard."""
        with contextlib.suppress(Unreachable, ProcedureFailed):
            name = "RESUME" if await self.status() is MachineStatus.RUNNING else "STOP"
            self._publish(MachineEvent(name, {}, self._clock.monotonic()))

    async def _pump_events(self, client: QMPClient) -> None:
        async for message in client.events:
            self._publish(MachineEvent(str(message["event"]), _data(message), self._clock.monotonic()))

    def _publish(self, event: MachineEvent) -> None:
        for queue in self._readers:
            queue.put_nowait(event)

    def _exited(self, returncode: int | None, how: str) -> None:
        self._finishing = asyncio.get_running_loop().create_task(self._finish(returncode, how))

    async def _finish(self, returncode: int | None, how: str) -> None:
        """Events that QEMU wrote before it ended come first, EXITED is the last one. Its run directory is gone
        before anybody hears of the end: the vm may be started again at once."""
        await asyncio.sleep(0.02)
        remove_run_directory(self._directory, self._spawned)
        self._end = MachineEvent("EXITED", {"returncode": returncode, "why": how}, self._clock.monotonic())
        self._publish(self._end)
        for queue in self._readers:
            queue.put_nowait(None)
        self._watch.settle()
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.wait({self._serving})
        await self._hang_up()

    def let_go(self) -> None:
        """Stop looking at the process; it lives on."""
        self._watch.close()

    async def wait_ended(self, timeout_s: float) -> bool:
        """Until the process has ended and its run directory is gone."""
        return await self._watch.wait(timeout_s)

    def events(self) -> AsyncIterator[MachineEvent]:
        queue: asyncio.Queue[MachineEvent | None] = asyncio.Queue()
        if self._end is not None:
            queue.put_nowait(self._end)
            queue.put_nowait(None)
        else:
            self._readers.add(queue)
        return self._iterate(queue)

    async def _iterate(self, queue: asyncio.Queue[MachineEvent | None]) -> AsyncIterator[MachineEvent]:
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._readers.discard(queue)

    # commands ------------------------------------------------------------------------------------

    async def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        if not self.is_alive:
            raise Unreachable(f"QEMU of {self.vm} has ended")
        if self.is_frozen:
            raise Unreachable(f"QEMU of {self.vm} is frozen", "it goes on when this host's beats work again")
        try:
            return await asyncio.wait_for(self._client.execute(command, arguments), COMMAND_S)
        except ExecuteError as error:
            raise ProcedureFailed(f"QEMU of {self.vm} refused {command}: {error}") from error
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"QEMU of {self.vm} did not answer {command} within {COMMAND_S:.0f} s"
            ) from error
        except (QMPError, OSError, EOFError) as error:
            raise Unreachable(f"QEMU of {self.vm} did not answer {command}: {error}") from error

    async def status(self) -> MachineStatus:
        text = (await self.execute("query-status"))["status"]
        try:
            return MachineStatus(text)
        except ValueError:
            return MachineStatus.OTHER

    async def cont(self) -> None:
        if self.has_closed_images:
            raise ProcedureFailed(f"images of {self.vm} are not open", "it goes on when they could be opened anew")
        await self.execute("cont")

    @property
    def has_closed_images(self) -> bool:
        return bool(self._spawned.tags.get(CLOSED))

    async def reopen_images(self, *, keeps_answered_writes: bool) -> tuple[str, ...]:
        reopening = images.Reopening(self.execute, self._flushes, keeps_answered_writes=keeps_answered_writes)
        if not self.has_closed_images and not await reopening.is_needed():
            return ()
        await self.set_tags(**{CLOSED: True})  # from here on nobody lets it go
        try:
            if await self.status() is MachineStatus.RUNNING:
                raise Refused(f"{self.vm} runs", "its images are opened anew only while it stands still")
            found = await asyncio.to_thread(images.of_process, self.pid)
            for image in found:
                await reopening.open_anew(image)
        except (ProcedureFailed, Refused, DeadlineExceeded):
            if not await reopening.is_under_way():
                await self.set_tags(**{CLOSED: False})
            raise
        await self.set_tags(**{CLOSED: False})
        return tuple(image.path for image in found)

    async def stop(self) -> None:
        await self.execute("stop")

    async def powerdown(self) -> None:
        await self.execute("system_powerdown")

    async def reset(self) -> None:
        await self.execute("system_reset")

    async def announce(self) -> None:
        await self.execute("announce-self", {"initial": 50, "max": 350, "rounds": 5, "step": 100})

    async def set_guest_clock(self) -> None:
        await guest_agent.call(
            self._directory / SOCKETS / "guest-agent.sock", "guest-set-time", {"time": time.time_ns()}, AGENT_S
        )

    async def ping_guest(self, timeout_s: float) -> bool:
        ports = {p["label"]: p for p in await self.execute("query-chardev")}
        if not ports.get("agent0", {}).get("frontend-open"):
            return False
        try:
            await guest_agent.call(self._directory / SOCKETS / "guest-agent.sock", "guest-ping", {}, timeout_s)
        except ProcedureFailed as error:
            log.info("%s: its guest's agent lives: %s", self.vm, error)
        return True

    async def io_count(self) -> int:
        disks = await self.execute("query-blockstats")
        return activity.operations(disks) + await asyncio.to_thread(activity.packets_sent, self.tap_names)

    async def quit(self) -> None:
        if self.is_frozen:
            await self.kill()
            return
        with contextlib.suppress(Unreachable, ProcedureFailed, TimeoutError):
            await asyncio.wait_for(self.execute("quit"), QUIT_S)
        if not await self._watch.wait(QUIT_S):
            await self.kill()

    async def kill(self) -> None:
        self._watch.signal(signal.SIGKILL)
        while not await self._watch.wait(10.0):
            log.error("%s: QEMU %d was killed but is not gone yet (hung storage?)", self.vm, self.pid)

    # migration -----------------------------------------------------------------------------------

    async def migration_capabilities(self) -> set[str]:
        return {c["capability"] for c in await self.execute("query-migrate-capabilities")}

    async def set_migration(self, capabilities: dict[str, bool], parameters: dict[str, Any]) -> None:
        if capabilities:
            wanted = [{"capability": name, "state": is_on} for name, is_on in capabilities.items()]
            await self.execute("migrate-set-capabilities", {"capabilities": wanted})
        if parameters:
            await self.execute("migrate-set-parameters", parameters)

    async def listen(self, address: str, port: int) -> None:
        await self.execute("migrate-incoming", migration.channel(address, port))

    async def migrate_to(self, address: str, port: int) -> None:
        await self.execute("migrate", migration.channel(address, port))

    async def save_to(self, path: Path) -> None:
        await saved_memory.save(self._client_call, path)

    async def save_stream(self, fd: int) -> None:
        await saved_memory.save_stream(self._client_call, fd)

    async def limit_save(self, bps: int) -> None:
        await saved_memory.limit(self._client_call, bps)

    async def forget_save(self) -> None:
        await saved_memory.forget(self._client_call)

    async def load_from(self, path: Path) -> None:
        await saved_memory.load(self._client_call, path)

    async def load_stream(self, fd: int) -> None:
        await saved_memory.load_stream(self._client_call, fd)

    @property
    def _client_call(self) -> saved_memory.Qmp:
        return saved_memory.Qmp(self.execute, self._send_file)

    async def _send_file(self, fd: int, name: str) -> None:
        """Pass an open file to QEMU under `name`."""
        self._client.send_fd_scm(fd)
        await self.execute("getfd", {"fdname": name})

    async def dirty_bps(self) -> float | None:
        try:
            await self.execute("calc-dirty-rate", {"calc-time": DIRTY_RATE_S})
            deadline = self._clock.monotonic() + DIRTY_RATE_S + QUIT_S
            while self._clock.monotonic() < deadline:
                await asyncio.sleep(0.05)
                found = await self.execute("query-dirty-rate")
                if found["status"] == "measured":
                    return float(found.get("dirty-rate", 0)) * (1 << 20)
        except ProcedureFailed as error:
            log.info("%s: what it changes was not measured: %s", self.vm, error)
        return None

    async def memory_used_bytes(self) -> int:
        return await asyncio.to_thread(saved_memory.resident_bytes, self.pid)

    async def migration(self) -> MigrationSample:
        return migration.sample(await self.execute("query-migrate"))

    async def cancel_migration(self) -> None:
        await self.execute("migrate_cancel")
        for _ in range(20):
            if (await self.migration()).status not in {"cancelling", "active", "setup", "device"}:
                return
            await asyncio.sleep(0.1)
        with contextlib.suppress(ProcedureFailed):
            await self.execute("yank", {"instances": [{"type": "migration"}]})

    async def continue_switchover(self) -> None:
        await self.execute("migrate-continue", {"state": "pre-switchover"})


def _data(message: Any) -> dict[str, Any]:
    return dict(message.get("data", {}))


def remove_run_directory(directory: Path, spawned: Spawned) -> None:
    """Only while it belongs to that process: the vm may have been started again."""
    known = Spawned.load(directory)
    if known is not None and known.pid == spawned.pid:
        shutil.rmtree(directory, ignore_errors=True)
