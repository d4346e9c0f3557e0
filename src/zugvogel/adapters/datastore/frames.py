"""Frames: a migration stream of QEMU's in pieces that prove themselves.

A frame is a header of 64 bytes and up to `PAYLOAD_BYTES` of the stream, padded with NUL to whole blocks, so that
every frame can be written and read past the page cache. The header names the memory it belongs to, the frame's
number, what it holds and its checksum, and carries a checksum of itself.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass

from zugvogel.adapters.datastore.direct_io import BLOCK_BYTES
from zugvogel.errors import StorageError

FRAME_BYTES = 1 << 20
"""The largest frame."""
HEADER_BYTES = 64
PAYLOAD_BYTES = FRAME_BYTES - HEADER_BYTES
ZSTD = 1

_MAGIC = b"ZVFRAME1"
_HEADER = struct.Struct("<8s8sQIIII")
"""Magic, owner, number, flags, stored bytes, bytes of the stream, CRC-32 as stored. Its own CRC-32 follows."""


@dataclass(frozen=True, slots=True)
class Frame:
    number: int
    flags: int
    stored_bytes: int
    stream_bytes: int
    crc: int

    @property
    def size_bytes(self) -> int:
        return padded(HEADER_BYTES + self.stored_bytes)


def padded(count: int) -> int:
    return -(-count // BLOCK_BYTES) * BLOCK_BYTES


def owner_of(memory_id: str) -> bytes:
    return hashlib.sha256(memory_id.encode()).digest()[:8]


def header(owner: bytes, number: int, flags: int, stored: memoryview, stream_bytes: int) -> bytes:
    packed = _HEADER.pack(_MAGIC, owner, number, flags, len(stored), stream_bytes, zlib.crc32(stored))
    return (packed + struct.pack("<I", zlib.crc32(packed))).ljust(HEADER_BYTES, b"\0")


def parse(data: memoryview, owner: bytes, number: int) -> Frame:
    """The header in `data`. Raises `StorageError` unless it is frame `number` of that memory."""
    packed = bytes(data[: _HEADER.size])
    sums = bytes(data[_HEADER.size : _HEADER.size + 4])
    magic, found_owner, found, flags, stored, raw, crc = _HEADER.unpack(packed)
    is_whole = magic == _MAGIC and sums == struct.pack("<I", zlib.crc32(packed))
    if not is_whole or found_owner != owner or found != number or stored > PAYLOAD_BYTES:
        raise StorageError(f"frame {number} is damaged or of other memory", "")
    return Frame(found, flags, stored, raw, crc)


def check(frame: Frame, stored: memoryview) -> None:
    if zlib.crc32(stored) != frame.crc:
        raise StorageError(f"frame {frame.number} is damaged", "")
