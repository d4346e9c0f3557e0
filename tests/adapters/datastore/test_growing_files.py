"""zugvogel.adapters.datastore.growing_files over real files and pipes: what comes out is what went in, never more
than was made durable, and never what was damaged."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zugvogel.adapters.datastore import frames, growing_files
from zugvogel.adapters.datastore.direct_io import write_block
from zugvogel.adapters.datastore.growing_files import GrowingReader, GrowingWriter
from zugvogel.adapters.datastore.sealed import seal

ID = "m1"


class File:
    """A memory file with its ends, and QEMU's part played by the test."""

    def __init__(self, folder: Path) -> None:
        self.path, self.length = folder / "memory.m1.ram", folder / "memory.m1.len"
        self.path.touch()
        self.ends: list[GrowingWriter | GrowingReader] = []

    def writer(self, *, is_compressed: bool = False) -> tuple[GrowingWriter, int]:
        """(writer, where QEMU writes)."""
        writer = GrowingWriter(self.path, self.length, ID, lambda: None, is_compressed=is_compressed)
        return writer, self._begun(writer)

    def reader(self, memory_id: str = ID) -> tuple[GrowingReader, int]:
        """(reader, where QEMU reads)."""
        reader = GrowingReader(self.path, self.length, memory_id, lambda: None)
        return reader, self._begun(reader)

    def _begun(self, end: GrowingWriter | GrowingReader) -> int:
        fd = os.dup(end.fd)  # QEMU gets its own
        end.begin()
        self.ends.append(end)
        return fd

    def written(self, *pieces: bytes, is_compressed: bool = False) -> GrowingWriter:
        """The whole stream in the file, one frame at least for each piece."""
        writer, fd = self.writer(is_compressed=is_compressed)
        for piece in pieces:
            before = writer.file_bytes
            _write(fd, piece)
            until(lambda before=before: writer.file_bytes > before)  # type: ignore[misc]
        os.close(fd)
        until(lambda: writer.is_over)
        assert not writer.error
        return writer


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    made = File(tmp_path)
    yield made
    for end in made.ends:
        end.close()
    until(lambda: all(end.is_over for end in made.ends))


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class Received:
    """What QEMU reads, collected in a thread."""

    def __init__(self, fd: int) -> None:
        self.data = bytearray()
        self._fd = fd
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while piece := os.read(self._fd, 1 << 20):
            self.data += piece
        os.close(self._fd)

    def all(self) -> bytes:
        self._thread.join(20)
        assert not self._thread.is_alive()
        return bytes(self.data)


SIZES = (1, frames.PAYLOAD_BYTES - 1, frames.PAYLOAD_BYTES, frames.PAYLOAD_BYTES + 1, 9 * frames.FRAME_BYTES + 17)


@pytest.mark.parametrize("is_compressed", [False, True], ids=["plain", "zstd"])
@pytest.mark.parametrize("is_random", [True, False], ids=["random", "text"])
@pytest.mark.parametrize("size", SIZES)
def test_what_comes_out_is_what_went_in(file: File, size: int, is_random: bool, is_compressed: bool) -> None:
    data = os.urandom(size) if is_random else (b"a page of memory like many " * (size // 27 + 1))[:size]
    writer = file.written(data, is_compressed=is_compressed)
    if is_compressed and not is_random and size > 1 << 20:
        assert writer.file_bytes < size / 10
    assert file.path.stat().st_size == writer.file_bytes == writer.sum.size_bytes
    reader, fd = file.reader()
    received = Received(fd)
    reader.end_at(writer.sum.size_bytes)
    assert received.all() == data
    until(lambda: reader.is_over)
    assert not reader.error
    assert reader.sum == writer.sum


def test_a_reader_follows_while_it_grows(file: File) -> None:
    writer, to_file = file.writer()
    reader, from_file = file.reader()
    received = Received(from_file)
    pieces = [os.urandom(n) for n in (10, 5 << 20, 3, 4096, 200_000)]
    for number in range(len(pieces)):
        _write(to_file, pieces[number])
        expected = b"".join(pieces[: number + 1])
        until(lambda expected=expected: bytes(received.data) == expected)  # type: ignore[misc]
    assert not reader.is_over
    os.close(to_file)
    until(lambda: writer.is_over)
    reader.end_at(writer.sum.size_bytes)
    assert received.all() == b"".join(pieces)
    until(lambda: reader.is_over)
    assert reader.sum == writer.sum


def test_nothing_beyond_the_published_length_is_read(file: File) -> None:
    writer = file.written(b"one", b"two")
    write_block(
        file.length,
        seal(growing_files.Length(id=ID, length=4096).model_dump_json().encode()),
    )
    reader, fd = file.reader()
    received = Received(fd)
    until(lambda: reader.file_bytes == 4096)
    time.sleep(0.1)
    assert (bytes(received.data), reader.file_bytes) == (b"one", 4096)
    reader.end_at(writer.sum.size_bytes)
    assert received.all() == b"onetwo"


@pytest.mark.parametrize("torn", [b"", b"\0" * 4096, b'{"id": "m1", "length": 99999999}\n#sha256:00\n'])
def test_a_torn_length_is_no_length(file: File, torn: bytes) -> None:
    file.written(b"one")
    file.length.write_bytes(torn)
    reader, fd = file.reader()
    received = Received(fd)
    time.sleep(0.1)
    assert (reader.file_bytes, reader.error, bytes(received.data)) == (0, "", b"")


def test_the_length_of_other_memory_is_not_ours(file: File) -> None:
    file.written(b"one")
    reader, _ = file.reader("m2")
    time.sleep(0.1)
    assert (reader.file_bytes, reader.error) == (0, "")


@pytest.mark.parametrize("place", [0, 20, frames.HEADER_BYTES + 5, 4096, 4096 + 9])
def test_damaged_frames_never_reach_qemu(file: File, monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    monkeypatch.setattr(growing_files, "AGAIN_TIMES", 2)
    writer = file.written(b"first frame", b"second frame")
    with file.path.open("r+b") as raw:
        raw.seek(place)
        found = raw.read(1)
        raw.seek(place)
        raw.write(bytes([found[0] ^ 1]))
    reader, fd = file.reader()
    received = Received(fd)
    reader.end_at(writer.sum.size_bytes)
    assert received.all() == (b"" if place < 4096 else b"first frame")
    until(lambda: reader.is_over)
    assert "damaged" in reader.error


def test_a_packed_frame_that_cannot_be_unpacked_never_reaches_qemu(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing_files, "AGAIN_TIMES", 2)
    body = memoryview(b"no zstd at all")
    head = frames.header(frames.owner_of(ID), 0, frames.ZSTD, body, 100)
    file.path.write_bytes((head + bytes(body)).ljust(4096, b"\0"))
    reader, fd = file.reader()
    received = Received(fd)
    reader.end_at(4096)
    assert received.all() == b""
    until(lambda: reader.is_over)
    assert "cannot be unpacked" in reader.error


def test_frames_of_other_memory_never_reach_qemu(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing_files, "AGAIN_TIMES", 2)
    writer = file.written(b"secret")
    reader, fd = file.reader("m2")
    received = Received(fd)
    reader.end_at(writer.sum.size_bytes)
    assert received.all() == b""
    assert "of other memory" in reader.error


def test_a_file_cut_short_is_told(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing_files, "AGAIN_TIMES", 2)
    writer = file.written(os.urandom(1 << 20))
    os.truncate(file.path, 8192)
    reader, fd = file.reader()
    received = Received(fd)
    reader.end_at(writer.sum.size_bytes)
    assert received.all() == b""
    until(lambda: reader.is_over)
    assert reader.error


def test_the_file_stays_below_the_ceiling(file: File) -> None:
    writer, fd = file.writer()
    writer.ceiling = 4 << 20
    feeding = threading.Thread(target=_write, args=(fd, bytes(16 << 20)), daemon=True)
    feeding.start()
    until(lambda: writer.file_bytes >= 4 << 20)
    time.sleep(0.1)
    assert writer.file_bytes <= 5 << 20
    writer.ceiling = 1 << 40
    feeding.join(20)
    os.close(fd)
    until(lambda: writer.is_over)
    assert not writer.error


def test_given_up_qemu_sees_its_pipe_closed(file: File) -> None:
    writer, fd = file.writer()
    _write(fd, b"begun")
    writer.close()
    with pytest.raises(BrokenPipeError):
        _write(fd, bytes(4 << 20))
    os.close(fd)
    until(lambda: writer.is_over)
    assert "given up" in writer.error
    reader, fd = file.reader()
    received = Received(fd)
    reader.close()
    received.all()
    until(lambda: reader.is_over)
    assert "given up" in reader.error


def test_an_end_that_never_began_leaves_no_descriptors(file: File) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    for make in (GrowingWriter, GrowingReader):
        end = make(file.path, file.length, ID, lambda: None)
        assert not end.is_over
        end.close()
        assert end.is_over
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_a_file_that_is_gone_is_told(file: File) -> None:
    file.path.unlink()
    writer, fd = file.writer()
    until(lambda: writer.is_over)
    assert "No such file" in writer.error
    os.close(fd)
