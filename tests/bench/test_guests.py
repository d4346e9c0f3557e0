"""Non-zero RAM, counted in a process of ours."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

from bench.guests import nonzero_bytes

SIZE = 37 << 20


def test_only_pages_with_something_in_them_count() -> None:
    with mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[5] = 1
        memory[4096 * 7 : 4096 * 9] = b"x" * 8192
        memory[4096 * 20] = 0
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        maps = Path("/proc/self/maps").read_text().splitlines()
        lines = [line for line in maps if line.startswith(f"{address:x}-")]
        counted = nonzero_bytes(os.getpid(), SIZE)
        # the kernel may merge the mapping with a neighbour: then it is not told rather than guessed
        assert counted == 3 * 4096 if lines and _size(lines[0]) == SIZE else counted is None


def _size(line: str) -> int:
    begin, end = (int(x, 16) for x in line.split()[0].split("-"))
    return end - begin


def test_a_process_that_is_gone_is_not_told() -> None:
    assert nonzero_bytes(2**22 + 1, SIZE) is None
