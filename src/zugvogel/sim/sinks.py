"""Where a QEMU's memory goes, and where it comes from: another host's QEMU, a file, a file that grows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from zugvogel.sim.memory import READ_BPS, WRITE_BPS, Pipe
from zugvogel.sim.storage import Fault, StoragePath

if TYPE_CHECKING:
    from zugvogel.sim.host import SimHost
    from zugvogel.sim.machine import SimMachine

LINK_BPS = 1.1e9
STEP_S = 0.02


class LinkSink:
    """A migration stream to the QEMU that listens at `address`:`port`."""

    def __init__(self, host: SimHost, address: str, port: int) -> None:
        self.bps = LINK_BPS
        self._host = host
        self._target: SimMachine | None = host.world.listener(address, port)
        self._there = host.world.host_at(address)
        self._count = 0
        self._is_loaded = False

    def _open(self) -> SimMachine | None:
        """The target, while bytes get through to it and back. Raises ConnectionError when it is gone for good."""
        is_up = self._there.is_up and self._host.world.wires.connected(self._host.name, self._there.name)
        if not is_up:
            return None
        if self._target is None or not self._target.is_alive:
            raise ConnectionError("the target's QEMU is gone")
        return None if self._target.domain.is_stopped else self._target

    def accept(self, count: int) -> int:
        target = self._open()
        if target is None:
            return 0
        self._count += count
        target.receiving(self._count)
        return count

    def finish(self, token: str) -> bool:
        """The target has all first; that it has is told back a moment later, if the network lets it."""
        target = self._open()
        if target is None:
            return False
        if not self._is_loaded:
            self._is_loaded = True
            target.loaded(token, self._count)
            return False
        return True

    def abort(self) -> None:
        """A target that sees its stream end early ends too; one that is cut off waits."""
        try:
            target = self._open()
        except ConnectionError:
            return
        if target is not None and not self._is_loaded:
            target.die("load of migration failed")


class FileSink:
    """A mapped memory file."""

    def __init__(self, path: StoragePath, vm: str, memory_id: str) -> None:
        self.bps = WRITE_BPS
        self._path = path
        self._file = path.files.folder(vm).memory[memory_id]

    def accept(self, count: int) -> int:
        if self._path.fault is Fault.CUT:
            raise ConnectionError("the memory file cannot be written: Input/output error")
        if self._path.fault is Fault.HANG:
            return 0
        self._file.length += count
        return count

    def finish(self, token: str) -> bool:
        if self._path.fault is not Fault.NONE:
            return False
        self._file.token, self._file.is_whole = token, True
        return True

    def abort(self) -> None:
        """The file stays as it is."""


class PipeSink:
    """A stream into a file that grows, written by the agent."""

    def __init__(self, pipe: Pipe) -> None:
        self.bps = WRITE_BPS
        self._pipe = pipe

    def accept(self, count: int) -> int:
        pipe = self._pipe
        if pipe.path.fault is Fault.CUT and not pipe.error:
            pipe.error, pipe.is_over = "an I/O error", True
        if pipe.is_broken or pipe.file is None:
            raise ConnectionError("the pipe is broken")
        if pipe.path.fault is Fault.HANG:
            return 0
        got = max(0, min(count, pipe.ceiling - pipe.file_bytes))
        pipe.file_bytes += got
        pipe.file.length = pipe.file_bytes
        return got

    def finish(self, token: str) -> bool:
        if self._pipe.is_broken or self._pipe.file is None:
            raise ConnectionError("the pipe is broken")
        if self._pipe.path.fault is not Fault.NONE:
            return False
        self._pipe.file.token, self._pipe.file.is_whole = token, True
        self._pipe.is_over = True
        return True

    def abort(self) -> None:
        self._pipe.close()


class PipeSource:
    """Saved memory as a QEMU loads it; the file may still grow."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self.count = 0

    async def read(self, told: Callable[[int], None]) -> str | None:
        """The token of what was loaded; None when it broke off."""
        pipe = self._pipe
        while True:
            await asyncio.sleep(STEP_S)
            if pipe.path.fault is Fault.CUT:
                pipe.error = pipe.error or "an I/O error"
            if pipe.is_broken:
                return None
            file = pipe.file
            if file is None or pipe.path.fault is Fault.HANG:
                continue
            self.count = pipe.file_bytes = min(file.length, self.count + int(STEP_S * READ_BPS))
            told(self.count)
            if file.is_whole and pipe.end is not None and self.count >= pipe.end:
                pipe.is_over = True
                return file.token
