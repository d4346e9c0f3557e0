"""A memory file that grows while it is read: QEMU's stream, through the datastore, into a QEMU on another host.

The writer appends frames past the page cache and makes them durable; only then it publishes the file's new length
in ``memory.<id>.len``. The reader never looks beyond a published length and checks every frame before QEMU gets
it. Neither end says when the stream is over: the sealed manifest does, with the length and a checksum over all
frames' headers.

Each end has a thread of its own between a pipe (its other end is QEMU's) and the file. It holds one buffer,
whatever the size of the vm.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import mmap
import os
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path

import zstandard
from pydantic import ValidationError

from zugvogel.adapters.datastore import frames
from zugvogel.adapters.datastore.direct_io import pread_uncached, read_uncached, write_block
from zugvogel.adapters.datastore.sealed import seal, unseal
from zugvogel.domain.base import Model
from zugvogel.domain.memory import StreamSum
from zugvogel.errors import StorageError, ZugvogelError

log = logging.getLogger(__name__)

PIPE_BYTES = 1 << 20
READ_BYTES = 4 * frames.FRAME_BYTES
IDLE_MS, FLUSH_MS = 20, 5
"""What has waited this long in a frame that is not full is written."""
PUBLISH_BYTES, PUBLISH_S = 16 << 20, 0.05
LOOK_S = 0.01
LEVEL = 1
"""zstd's fastest: it must keep up with the storage."""
AGAIN_S, AGAIN_TIMES = 0.1, 20
"""A frame below the published length that is not there yet is looked at again: a network client may lag."""
_GIVEN_UP = "the stream was given up"


class Length(Model):
    """``memory.<id>.len``: so much of the file is durable."""

    id: str
    length: int


class _End:
    """Of both. `fd` is the pipe's end for QEMU, open until `begin`, which is called once QEMU has it."""

    def __init__(self, path: Path, length_path: Path, memory_id: str, check: Callable[[], None]) -> None:
        self._path, self._length_path, self._id = path, length_path, memory_id
        self._check = check
        self._owner = frames.owner_of(memory_id)
        self._headers = hashlib.sha256()
        self._number = self._offset = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._read_end, self._write_end = _pipe()
        self._closing = threading.Lock()
        self.fd = -1
        self.error = ""

    @property
    def is_over(self) -> bool:
        """All is done, or there is an `error`; or it was closed before it began."""
        return self._stop.is_set() if self._thread is None else not self._thread.is_alive()

    @property
    def file_bytes(self) -> int:
        """How far in the file this end is."""
        return self._offset

    @property
    def sum(self) -> StreamSum:
        return StreamSum(size_bytes=self._offset, checksum=self._headers.hexdigest())

    def begin(self) -> None:
        self._thread = threading.Thread(target=self._guarded, name="memory stream", daemon=True)
        self._close_pipe(self.fd)
        self._thread.start()

    def close(self) -> None:
        """Give up: QEMU sees its pipe closed. A thread that hangs in the storage ends when that comes back."""
        self._stop.set()
        if self._thread is None:
            self._close_pipe(self._read_end, self._write_end)

    def _guarded(self) -> None:
        try:
            self._run()
        except ZugvogelError as error:
            self.error = str(error)
        except OSError as error:
            self.error = error.strerror or str(error)
        except Exception as error:  # a defect here must not look like a stream that goes on
            log.exception("memory stream %s", self._id)
            self.error = f"{type(error).__name__}: {error}"
        finally:
            self._close_pipe(self._read_end, self._write_end)

    def _run(self) -> None:
        raise NotImplementedError

    def _close_pipe(self, *fds: int) -> None:
        with self._closing:
            for fd in {self._read_end, self._write_end} & set(fds) - {-1}:
                os.close(fd)
            self._read_end = -1 if self._read_end in fds else self._read_end
            self._write_end = -1 if self._write_end in fds else self._write_end


class GrowingWriter(_End):
    """From QEMU into the file, which is there and empty. `ceiling`: the file grows no further for now."""

    def __init__(
        self,
        path: Path,
        length_path: Path,
        memory_id: str,
        check: Callable[[], None],
        *,
        is_compressed: bool = False,
    ) -> None:
        super().__init__(path, length_path, memory_id, check)
        self._packer = zstandard.ZstdCompressor(level=LEVEL) if is_compressed else None
        self.fd = self._write_end
        os.set_blocking(self._read_end, False)
        self._unpublished, self._published_at = 0, time.monotonic()
        self.ceiling = 1 << 62

    def close(self) -> None:
        super().close()
        self._close_pipe(self._read_end, self._write_end)

    def _run(self) -> None:
        self._check()
        view = memoryview(mmap.mmap(-1, frames.FRAME_BYTES))
        fd = _open_direct(self._path)
        try:
            is_end = False
            while not is_end:
                self._wait_below_ceiling()
                count, is_end = self._fill(view[frames.HEADER_BYTES :])
                if count:
                    self._append(fd, view, count)
                self._publish_if_due(fd, is_idle=is_end or not count)
        finally:
            os.close(fd)

    def _wait_below_ceiling(self) -> None:
        while self._offset >= self.ceiling:
            if self._stop.wait(LOOK_S):
                raise StorageError(_GIVEN_UP, "")

    def _fill(self, view: memoryview) -> tuple[int, bool]:
        """(bytes of the stream now in `view`, QEMU has closed its end)."""
        count = 0
        while count < len(view):
            with self._closing:
                if self._stop.is_set():
                    raise StorageError(_GIVEN_UP, "")
                poller = select.poll()
                poller.register(self._read_end, select.POLLIN)
                if not poller.poll(FLUSH_MS if count else IDLE_MS):
                    break
                found = os.readv(self._read_end, [view[count:]])
            if not found:
                return count, True
            count += found
        return count, False

    def _append(self, fd: int, view: memoryview, count: int) -> None:
        flags, end = 0, frames.HEADER_BYTES + count
        if self._packer is not None:
            packed = self._packer.compress(view[frames.HEADER_BYTES : end])
            if len(packed) < count:
                flags, end = frames.ZSTD, frames.HEADER_BYTES + len(packed)
                view[frames.HEADER_BYTES : end] = packed
        head = frames.header(self._owner, self._number, flags, view[frames.HEADER_BYTES : end], count)
        view[: frames.HEADER_BYTES] = head
        whole = frames.padded(end)
        view[end:whole] = bytes(whole - end)
        _pwrite(fd, view[:whole], self._offset)
        self._headers.update(head)
        self._number += 1
        self._offset += whole
        self._unpublished += whole

    def _publish_if_due(self, fd: int, *, is_idle: bool) -> None:
        is_due = self._unpublished >= PUBLISH_BYTES or time.monotonic() - self._published_at >= PUBLISH_S
        if not self._unpublished or not (is_due or is_idle):
            return
        os.fdatasync(fd)
        if self._stop.is_set():
            raise StorageError(_GIVEN_UP, "")
        told = Length(id=self._id, length=self._offset)
        write_block(self._length_path, seal(told.model_dump_json().encode()))
        self._unpublished, self._published_at = 0, time.monotonic()


class GrowingReader(_End):
    """From the file into QEMU. It follows the published length until `end_at` says where the stream ends."""

    def __init__(self, path: Path, length_path: Path, memory_id: str, check: Callable[[], None]) -> None:
        super().__init__(path, length_path, memory_id, check)
        self.fd = self._read_end
        self._unpacker = zstandard.ZstdDecompressor()
        self._end: int | None = None

    def end_at(self, size_bytes: int) -> None:
        """The stream is complete: that is the file's length."""
        self._end = size_bytes

    def _run(self) -> None:
        missing = 0
        while not self._stop.is_set():
            end = self._end
            known = self._published() if end is None else end
            if self._offset >= known:
                if end is not None:
                    return
                self._stop.wait(LOOK_S)
                continue
            try:
                self._pass_on(known)
                missing = 0
            except (StorageError, FileNotFoundError):
                missing += 1
                if missing >= AGAIN_TIMES:
                    raise
                self._stop.wait(AGAIN_S)
        raise StorageError(_GIVEN_UP, "")

    def _published(self) -> int:
        try:
            self._check()
            told = Length.model_validate_json(unseal(read_uncached(self._length_path)) or b"")
        except (FileNotFoundError, ValidationError):
            return 0  # not begun yet, or being written at this moment
        return told.length if told.id == self._id else 0

    def _pass_on(self, known: int) -> None:
        """What lies between here and `known`. The file is opened anew: a network client then asks the server."""
        for chunk in pread_uncached(self._path, _places(self._offset, known)):
            before = self._offset
            self._pass_frames(memoryview(chunk))
            if self._offset == before:
                raise StorageError("the file ends within a frame", "")
            if self._offset - before != len(chunk):
                return  # the last frame goes on beyond this piece: it is read again from its start

    def _pass_frames(self, data: memoryview) -> None:
        at = 0
        while len(data) - at >= frames.HEADER_BYTES:
            head = data[at : at + frames.HEADER_BYTES]
            frame = frames.parse(head, self._owner, self._number)
            if len(data) - at < frame.size_bytes:
                return
            stored = data[at + frames.HEADER_BYTES : at + frames.HEADER_BYTES + frame.stored_bytes]
            frames.check(frame, stored)
            self._pass(self._unpacked(frame, stored))
            self._headers.update(head)
            self._number += 1
            self._offset += frame.size_bytes
            at += frame.size_bytes

    def _unpacked(self, frame: frames.Frame, stored: memoryview) -> memoryview:
        if not frame.flags & frames.ZSTD:
            return stored
        try:
            data = self._unpacker.decompress(stored, max_output_size=frames.PAYLOAD_BYTES)
        except zstandard.ZstdError as error:
            raise StorageError(f"frame {frame.number} cannot be unpacked: {error}", "") from error
        return memoryview(data)

    def _pass(self, data: memoryview) -> None:
        while data:
            data = data[os.write(self._write_end, data) :]


def _places(offset: int, end: int) -> list[tuple[int, int]]:
    return [(at, min(READ_BYTES, end - at)) for at in range(offset, end, READ_BYTES)]


def _pipe() -> tuple[int, int]:
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # the default's 64 KiB work as well, slower
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return read_end, write_end


def _open_direct(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_DIRECT)
    except OSError:
        return os.open(path, flags)


def _pwrite(fd: int, data: memoryview, offset: int) -> None:
    """All of it. Where direct I/O was granted but is not taken, it goes on without."""
    while data:
        try:
            written = os.pwrite(fd, data, offset)
        except OSError as error:
            flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            if error.errno != errno.EINVAL or not flags & os.O_DIRECT:
                raise
            fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)
            continue
        data, offset = data[written:], offset + written
