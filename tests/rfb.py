"""A small VNC viewer: what a vm shows, as pixels, and keys typed into it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

RAW, DESKTOP_SIZE = 0, -223
PIXEL_FORMAT = struct.pack(">BBBBHHHBBB3x", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
"""32 bits a pixel, little endian: blue, green, red, nothing."""
SHIFT, RETURN = 0xFFE1, 0xFF0D
SHIFTED = frozenset('~!@#$%^&*()_+{}|:"<>?ABCDEFGHIJKLMNOPQRSTUVWXYZ')
"""On a US keyboard, which is what QEMU turns keys into."""


@dataclass(frozen=True)
class Picture:
    width: int
    height: int
    pixels: bytes

    def differs_in(self, other: Picture) -> int:
        """How many pixels; all of them when the sizes differ."""
        if (self.width, self.height) != (other.width, other.height):
            return max(len(self.pixels), len(other.pixels)) // 4
        mine, others = self.pixels, other.pixels
        return sum(1 for i in range(0, len(mine), 4) if mine[i : i + 4] != others[i : i + 4])

    @property
    def lit(self) -> int:
        """Pixels that are not black."""
        return sum(1 for i in range(0, len(self.pixels), 4) if any(self.pixels[i : i + 3]))


class Viewer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.version = b""
        self.security: tuple[int, ...] = ()
        self._size = (0, 0)
        self._rows: list[bytearray] = []

    @classmethod
    async def connect(cls, socket: Path, *, is_shared: bool = True) -> Viewer:
        viewer = cls(*await asyncio.open_unix_connection(str(socket)))
        await viewer.greet(is_shared=is_shared)
        return viewer

    async def greet(self, *, is_shared: bool = True) -> None:
        """Up to the first request, without a password."""
        self.version = await self._reader.readexactly(12)
        self._writer.write(self.version)
        (count,) = await self._reader.readexactly(1)
        self.security = tuple(await self._reader.readexactly(count))
        self._writer.write(b"\x01")
        assert await self._reader.readexactly(4) == bytes(4), "refused"
        self._writer.write(bytes([is_shared]))
        width, height, _, name = struct.unpack(">HH16sI", await self._reader.readexactly(24))
        await self._reader.readexactly(name)
        self._resize(width, height)
        self._writer.write(b"\0\0\0\0" + PIXEL_FORMAT)
        self._writer.write(struct.pack(">BxHii", 2, 2, RAW, DESKTOP_SIZE))

    async def picture(self) -> Picture:
        """The whole of what is shown now."""
        while True:
            size = self._size
            self._writer.write(struct.pack(">BBHHHH", 3, 0, 0, 0, *size))
            await self._update()
            if self._size == size:
                return Picture(*size, b"".join(self._rows))

    async def picture_where(self, holds: Callable[[Picture], bool]) -> Picture:
        """The first one of which that is true."""
        while not holds(found := await self.picture()):  # noqa: ASYNC110 - QEMU is asked
            await asyncio.sleep(0.1)
        return found

    async def type(self, text: str) -> None:
        for letter in text:
            with self._shifted(letter in SHIFTED):
                self._key(RETURN if letter == "\n" else ord(letter))
            await self._writer.drain()
            await asyncio.sleep(0.05)  # as fast as a person; a PC's keyboard remembers 16 codes

    @contextmanager
    def _shifted(self, is_shifted: bool) -> Iterator[None]:
        if is_shifted:
            self._writer.write(struct.pack(">BBxxI", 4, 1, SHIFT))
        yield
        if is_shifted:
            self._writer.write(struct.pack(">BBxxI", 4, 0, SHIFT))

    def _key(self, symbol: int) -> None:
        for is_down in (1, 0):
            self._writer.write(struct.pack(">BBxxI", 4, is_down, symbol))

    async def ended(self) -> None:
        """Until the other side has closed the connection."""
        while await self._reader.read(1 << 16):
            pass

    def close(self) -> None:
        self._writer.close()

    async def _update(self) -> None:
        """One FramebufferUpdate; other messages are passed over."""
        while (kind := (await self._reader.readexactly(1))[0]) != 0:
            assert kind == 2, f"message {kind} is not known here"
        (count,) = struct.unpack(">xH", await self._reader.readexactly(3))
        for _ in range(count):
            x, y, width, height, encoding = struct.unpack(">HHHHi", await self._reader.readexactly(12))
            if encoding == DESKTOP_SIZE:
                self._resize(width, height)
                continue
            assert encoding == RAW
            for row in self._rows[y : y + height]:
                row[4 * x : 4 * (x + width)] = await self._reader.readexactly(4 * width)

    def _resize(self, width: int, height: int) -> None:
        if (width, height) != self._size:
            self._size = (width, height)
            self._rows = [bytearray(4 * width) for _ in range(height)]
