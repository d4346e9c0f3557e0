"""A QEMU of a simulated host: outlives its agent, ends with its host, answers nobody while it is stopped."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zugvogel.domain.migration import MigrationSample
from zugvogel.errors import DeadlineExceeded, ProcedureFailed, Unreachable
from zugvogel.ports.hypervisor import MachineEvent, MachineSpec, MachineStatus
from zugvogel.sim.loop import Domain
from zugvogel.sim.memory import memory_of
from zugvogel.sim.sinks import FileSink, LinkSink, PipeSink, PipeSource
from zugvogel.sim.storage import Fault, StoragePath
from zugvogel.sim.transfer import ENDED, Transfer

if TYPE_CHECKING:
    from zugvogel.sim.host import SimHost

T = TypeVar("T")

COMMAND_S = 20.0
CAPABILITIES = frozenset({"events", "return-path", "multifd", "mapped-ram"})
USED_SHARE = 0.4
"""Of a vm's memory is in use."""
DIRTY_BPS = 20e6
SILENT_CLIENT_S = 60.0
"""A storage drops the locks of a client whose path to it fails for so long."""
HOLDING_LOCKS = frozenset({MachineStatus.RUNNING, MachineStatus.PAUSED, MachineStatus.IO_ERROR})


class EventReader:
    """Events of one machine from when it was made, for one reader."""

    def __init__(self, machine: SimMachine) -> None:
        self._machine = machine
        self._due: deque[MachineEvent] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._is_over = False

    def __aiter__(self) -> EventReader:
        return self

    async def __anext__(self) -> MachineEvent:
        while not self._due:
            if self._is_over:
                raise StopAsyncIteration
            self._waiting = self._machine.host.world.loop.create_future()
            await self._waiting
        event = self._due.popleft()
        self._is_over = event.name == "EXITED"
        return event

    def put(self, event: MachineEvent) -> None:
        self._due.append(event)
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)


class SimMachine:
    """`zugvogel.ports.hypervisor.Machine`, and the process behind it. `token` names the guest whose memory it has:
    a new one for each boot, the same after a move."""

    def __init__(self, host: SimHost, path: StoragePath, spec: MachineSpec, pid: int) -> None:
        self.host = host
        self.path = path
        self.spec = spec
        self.pid = pid
        self.start_ticks = int(host.clock.monotonic() * 100)
        self.domain = Domain(host.world.loop, f"qemu {spec.definition.name}@{host.name}")
        self.state = MachineStatus.INMIGRATE if spec.incoming else MachineStatus.PRELAUNCH
        self.token = ""
        self.listens_at: tuple[str, int] | None = None
        self._tags = dict(spec.tags)
        self.is_alive = True
        self._is_killed = False
        """Its vCPUs are gone for good; the process may hang in the kernel for a while."""
        self._readers: list[EventReader] = []
        self._end: MachineEvent | None = None
        self._gone: asyncio.Future[None] = host.world.loop.create_future()
        self.is_frozen = False
        """Stopped by SIGSTOP."""
        self._are_images_dead = False
        """Its locks were dropped: all it does through the files it has open fails, until they are opened anew."""
        self._faults = 0
        self._asked: set[asyncio.Future[Any]] = set()
        self._transfer: Transfer | None = None
        self._loading = MigrationSample(status="none")
        self._parameters: dict[str, Any] = {}
        self._pace_bps = 0
        path.on_fault.append(self._storage_changed)

    # identity ------------------------------------------------------------------------------------

    @property
    def vm(self) -> str:
        return self.spec.definition.name

    @property
    def tags(self) -> dict[str, Any]:
        return dict(self._tags)

    @property
    def serial_socket(self) -> Path:
        return Path("/run") / self.vm / "serial.sock"

    @property
    def display_socket(self) -> Path | None:
        return None if self.spec.definition.display == "none" else self.serial_socket.with_name("vnc.sock")

    @property
    def tap_names(self) -> tuple[str, ...]:
        return ()

    @property
    def is_going(self) -> bool:
        """Its vCPUs run."""
        return (
            self.state is MachineStatus.RUNNING
            and not self._is_killed
            and not self.domain.is_stopped
            and not self.host.is_hung
        )

    async def set_tags(self, **tags: Any) -> None:
        self._tags = {**self._tags, **tags}

    # events --------------------------------------------------------------------------------------

    def events(self) -> EventReader:
        reader = EventReader(self)
        if self._end is not None:
            reader.put(self._end)
        else:
            self._readers.append(reader)
        return reader

    def forget_readers(self) -> None:
        """The agent that listened has ended."""
        self._readers.clear()

    def _publish(self, name: str, **data: Any) -> None:
        event = MachineEvent(name, data, self.host.clock.monotonic())
        for reader in self._readers:
            reader.put(event)

    def _set(self, state: MachineStatus) -> None:
        was_running, self.state = self.state is MachineStatus.RUNNING, state
        is_running = state is MachineStatus.RUNNING
        if is_running != was_running:
            self.host.world.vm_changed(self.vm)
            self._publish("RESUME" if is_running else "STOP")

    # commands ------------------------------------------------------------------------------------

    async def _command(self, act: Callable[[], T]) -> T:
        """QMP: a moment to get there; a process that is stopped does not answer, one that ended never will."""
        if self._is_killed:
            raise Unreachable(f"QEMU of {self.vm} has ended")
        if self.is_frozen:
            raise Unreachable(f"QEMU of {self.vm} is frozen")
        loop = self.host.world.loop
        answer: asyncio.Future[T] = loop.create_future()

        def perform() -> None:
            if answer.done():
                return
            try:
                answer.set_result(act())
            except Exception as error:
                answer.set_exception(error)

        loop.call_at(loop.now + self.host.world.qmp.next(), perform, context=self.domain.context)
        self._asked.add(answer)
        try:
            async with asyncio.timeout(COMMAND_S):
                return await answer
        except TimeoutError:
            raise DeadlineExceeded(f"QEMU of {self.vm} did not answer within {COMMAND_S:.0f} s") from None
        finally:
            self._asked.discard(answer)

    async def status(self) -> MachineStatus:
        return await self._command(lambda: self.state)

    async def cont(self) -> None:
        await self._command(self._cont)

    def _cont(self) -> None:
        if self.state is MachineStatus.RUNNING:
            return
        if self.state in {MachineStatus.INMIGRATE, MachineStatus.FINISH_MIGRATE, MachineStatus.SHUTDOWN}:
            raise ProcedureFailed(f"QEMU of {self.vm} refused cont: it is {self.state}")
        if self._are_images_dead:
            self._set(MachineStatus.RUNNING)
            self._expect_error_at_once()
            return
        self._lock()
        if not self.token:
            self.token = self.host.world.new_token(self.vm)
        self.path.files.folder(self.vm).disk_version += 1
        self._set(MachineStatus.RUNNING)
        self._expect_errors()

    @property
    def has_closed_images(self) -> bool:
        return False

    async def reopen_images(self, *, keeps_answered_writes: bool) -> tuple[str, ...]:
        def reopen() -> tuple[str, ...]:
            self._lock()
            self._are_images_dead = False
            return tuple(disk.file for disk in self.spec.definition.disks)

        return await self._command(reopen)

    def _lock(self) -> None:
        files = self.path.files
        holder = files.locks.get(self.vm)
        if files.has_locks and holder not in (None, self):
            raise ProcedureFailed(f'QEMU of {self.vm}: Failed to get "write" lock; is another process using it?')
        files.locks[self.vm] = self

    def _unlock(self) -> None:
        if self.path.files.locks.get(self.vm) is self:
            del self.path.files.locks[self.vm]

    async def stop(self) -> None:
        await self._command(lambda: self._set(MachineStatus.PAUSED) if self.is_running_state else None)

    @property
    def is_running_state(self) -> bool:
        return self.state is MachineStatus.RUNNING

    async def powerdown(self) -> None:
        def press() -> None:
            loop = self.host.world.loop
            loop.call_at(loop.now + 2.0, self._power_off, context=self.domain.context)

        await self._command(press)

    def _power_off(self) -> None:
        if self.state is MachineStatus.RUNNING:
            self._publish("SHUTDOWN", guest=True, reason="guest-shutdown")
            self.die("exited with code 0")

    async def reset(self) -> None:
        def again() -> None:
            self.token = self.host.world.new_token(self.vm)
            self._publish("RESET", guest=False, reason="host-qmp-system-reset")

        await self._command(again)

    async def set_guest_clock(self) -> None:
        await self._command(lambda: None)

    async def ping_guest(self, timeout_s: float) -> bool:
        """The guest's agent is there once the guest has booted."""
        return await self._command(
            lambda: self.is_running_state and self.host.world.has_booted(self.vm, self.token)
        )

    async def io_count(self) -> int:
        return await self._command(lambda: int(self.host.clock.monotonic()))

    async def announce(self) -> None:
        await self._command(lambda: None)

    async def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        return await self._command(dict)

    # ends ------------------------------------------------------------------------------------------

    async def quit(self) -> None:
        if not self._is_killed and not self.domain.is_stopped:
            await self.host.world.loop.sleep(self.host.world.qmp.next())
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL, which a stopped process heeds too. With its storage hanging it may stay in the kernel, without
        its vCPUs, until that answers."""
        self.die("killed by signal 9")
        await asyncio.wait([self._gone])

    def die(self, how: str) -> None:
        """The vCPUs stop now; whether it is gone waits for storage that hangs."""
        if self._is_killed:
            return
        self._is_killed = True
        self.domain.end()
        self.host.world.vm_changed(self.vm)
        loop = self.host.world.loop
        for answer in self._asked:
            if not answer.done():
                answer.set_exception(Unreachable(f"QEMU of {self.vm} ended before it answered"))
        self._asked.clear()
        if self.path.fault is Fault.HANG and self.path.files.holds_killed:
            self._finish_with_storage(how)
        else:
            loop.world_at(loop.now + 0.02, self._finish, how)

    def _finish_with_storage(self, how: str) -> None:
        def look() -> None:
            if self.path.fault is not Fault.HANG:
                self.path.on_fault.remove(look)
                self._finish(how)

        self.path.on_fault.append(look)

    def _finish(self, how: str) -> None:
        if self._gone.done():
            return
        self.is_alive = self.is_frozen = False
        self._unlock()
        self.host.forget(self)
        if self._storage_changed in self.path.on_fault:
            self.path.on_fault.remove(self._storage_changed)
        self._end = MachineEvent("EXITED", {"returncode": None, "why": how}, self.host.clock.monotonic())
        for reader in self._readers:
            reader.put(self._end)
        self._gone.set_result(None)

    def lose_power(self) -> None:
        """With its host; nobody is told. Its locks go when the storage notices."""
        was_alive = not self._is_killed
        self._is_killed, self.is_alive, self.is_frozen = True, False, False
        self.domain.end()
        if self._storage_changed in self.path.on_fault:
            self.path.on_fault.remove(self._storage_changed)
        loop = self.host.world.loop
        loop.world_at(loop.now + self.path.files.lock_lease_s, self._unlock)
        if was_alive:
            self.host.world.vm_changed(self.vm)

    # faults ----------------------------------------------------------------------------------------

    def freeze(self) -> None:
        """SIGSTOP."""
        if not self._is_killed and not self.is_frozen:
            self.is_frozen = True
            self.look_at_host()
            self.host.world.vm_changed(self.vm)

    async def thaw(self) -> None:
        """SIGCONT."""
        if not self._is_killed and self.is_frozen:
            self.is_frozen = False
            self.host.guard.machine_changed()
            self.look_at_host()
            self.host.world.vm_changed(self.vm)
        await self.status()

    def look_at_host(self) -> None:
        """It runs unless it was stopped by itself or with its host."""
        if self.is_frozen or self.host.is_hung:
            self.domain.pause()
        else:
            self.domain.resume()

    def _storage_changed(self) -> None:
        self._faults += 1
        loop = self.host.world.loop
        if self.path.fault is Fault.NONE:
            self._regain_lock()
        else:
            lease_s = max(SILENT_CLIENT_S, self.path.files.lock_lease_s)
            loop.world_at(loop.now + lease_s, self._lose_lock, self._faults)
        self._expect_errors()

    def _expect_errors(self) -> None:
        """A guest whose storage answers with errors is stopped by QEMU when it writes next."""
        if self.path.fault is Fault.CUT:
            loop = self.host.world.loop
            wait_s = self.host.world.rng.uniform(0.05, 3.0)
            loop.call_at(loop.now + wait_s, self._write_fails, context=self.domain.context)

    def _lose_lock(self, fault: int) -> None:
        """The storage has not heard of this host for so long that it drops its locks."""
        if fault == self._faults and not self.host.is_hung:
            files = self.path.files
            self._are_images_dead |= files.has_locks and files.locks.get(self.vm) is self
            self._unlock()

    def _regain_lock(self) -> None:
        """The storage hears of this host again. After a lock was dropped the next write fails."""
        holder = self.path.files.locks.get(self.vm)
        is_free = holder is None and not self._are_images_dead
        if is_free and self.state in HOLDING_LOCKS and not self._is_killed:
            self.path.files.locks[self.vm] = self
        elif holder is not self and self.state is MachineStatus.RUNNING:
            self._expect_error_at_once()

    def _expect_error_at_once(self) -> None:
        loop = self.host.world.loop
        loop.call_at(loop.now + 0.05, self._error, context=self.domain.context)

    def _error(self) -> None:
        if self.state is MachineStatus.RUNNING:
            self._set(MachineStatus.IO_ERROR)

    def _write_fails(self) -> None:
        if self.path.fault is Fault.CUT and self.state is MachineStatus.RUNNING:
            self._set(MachineStatus.IO_ERROR)

    # migration -------------------------------------------------------------------------------------

    @property
    def used_bytes(self) -> int:
        return int(self.spec.definition.memory_bytes * USED_SHARE)

    async def migration_capabilities(self) -> set[str]:
        return await self._command(lambda: set(CAPABILITIES))

    async def set_migration(self, capabilities: dict[str, bool], parameters: dict[str, Any]) -> None:
        def put() -> None:
            self._parameters |= parameters
            if self._transfer is not None and "downtime-limit" in parameters:
                self._transfer.limit_ms = float(parameters["downtime-limit"])

        await self._command(put)

    async def listen(self, address: str, port: int) -> None:
        def bind() -> None:
            if self.host.listener(port) is not None:
                raise ProcedureFailed(f"QEMU of {self.vm} refused migrate-incoming: port {port} is in use")
            self.listens_at = (address, port)

        await self._command(bind)

    async def migrate_to(self, address: str, port: int) -> None:
        def begin() -> None:
            sink = LinkSink(self.host, address, port)
            self._begin(sink, limit_ms=float(self._parameters.get("downtime-limit", 300)))

        await self._command(begin)

    async def save_to(self, path: Path) -> None:
        def begin() -> None:
            _, memory_id = memory_of(path)
            self._begin(FileSink(self.path, self.vm, memory_id), limit_ms=0.0)

        await self._command(begin)

    async def save_stream(self, fd: int) -> None:
        await self._command(lambda: self._begin(PipeSink(self.host.pipes.take(fd)), limit_ms=60.0))

    def _begin(self, sink: LinkSink | FileSink | PipeSink, *, limit_ms: float) -> None:
        self._transfer = Transfer(
            self, sink, self.used_bytes, self.host.world.dirty_bps(self.vm), limit_ms, self._pace_bps
        )
        self.domain.spawn(self._transfer.run(), f"memory of {self.vm}")

    async def limit_save(self, bps: int) -> None:
        def put() -> None:
            self._pace_bps = bps
            if self._transfer is not None:
                self._transfer.pace_bps = bps

        await self._command(put)

    async def forget_save(self) -> None:
        def forget() -> None:
            if self._transfer is not None and self._transfer.status in ENDED:
                self._transfer = None
            self._pace_bps = 0

        await self._command(forget)

    async def dirty_bps(self) -> float | None:
        await self.host.clock.sleep(1.0)
        return await self._command(lambda: self.host.world.dirty_bps(self.vm))

    async def memory_used_bytes(self) -> int:
        return self.used_bytes if not self.spec.incoming else self._loading.transferred_bytes or self.used_bytes

    async def migration(self) -> MigrationSample:
        return await self._command(self._sample)

    def _sample(self) -> MigrationSample:
        return self._transfer.sample() if self._transfer is not None else self._loading

    async def cancel_migration(self) -> None:
        def call_off() -> None:
            if self._transfer is not None and self._transfer.status not in ENDED:
                self._transfer.is_cancelled = True

        await self._command(call_off)
        await self.host.clock.sleep(0.1)

    async def continue_switchover(self) -> None:
        await self._command(lambda: None)

    # as the transfer's guest

    def switch_over(self) -> None:
        self._set(MachineStatus.FINISH_MIGRATE)
        self._unlock()

    def passed(self, number: int) -> None:
        self._publish("MIGRATION_PASS", **{"pass": number})

    def transferred(self, status: str) -> None:
        """A source whose stream failed in the switchover goes on by itself."""
        if status == "completed":
            if self.state in {MachineStatus.FINISH_MIGRATE, MachineStatus.PAUSED, MachineStatus.RUNNING}:
                self._set(MachineStatus.POSTMIGRATE)
        elif self.state is MachineStatus.FINISH_MIGRATE:
            self._lock()
            self._set(MachineStatus.RUNNING)
        self._publish("MIGRATION", status=status)

    # loading ---------------------------------------------------------------------------------------

    async def load_from(self, path: Path) -> None:
        def begin() -> None:
            _, memory_id = memory_of(path)
            pipe = self.host.pipes.new(self.path, None, self.vm, memory_id)
            pipe.belongs_to_qemu()
            self._load(pipe)

        await self._command(begin)

    async def load_stream(self, fd: int) -> None:
        await self._command(lambda: self._load(self.host.pipes.take(fd)))

    def _load(self, pipe: Any) -> None:
        source = PipeSource(pipe)
        self._loading = MigrationSample(status="active")

        def told(count: int) -> None:
            self._loading = MigrationSample(status="active", transferred_bytes=count)

        async def work() -> None:
            token = await source.read(told)
            if token is None:
                self.die("load of migration failed")
            else:
                self.loaded(token, source.count)

        self.domain.spawn(work(), f"loading {self.vm}")

    def receiving(self, count: int) -> None:
        """A stream from another host comes in."""
        self._loading = MigrationSample(status="active", transferred_bytes=count)

    def loaded(self, token: str, count: int) -> None:
        self.token = token
        self.state = MachineStatus.PAUSED
        self._loading = MigrationSample(status="completed", transferred_bytes=count)
        self._publish("MIGRATION", status="completed")
