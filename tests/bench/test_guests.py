"""Non-zero RAM, counted in a process of ours."""

from __future__ import annotations

import subprocess
import sys

from bench.guests import nonzero_bytes

SIZE = 37 << 20
PAGE = 4096
# Told apart from its neighbours by a flag, or the kernel might make one mapping of them.
PROGRAM = f"""
import mmap, sys
memory = mmap.mmap(-1, {SIZE}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_DONTDUMP)
memory[5] = 1
memory[{PAGE * 7}:{PAGE * 9}] = b"x" * {PAGE * 2}
memory[{PAGE * 20}] = 0
print("ready", flush=True)
sys.stdin.read()
"""


def test_only_pages_with_something_in_them_count() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert nonzero_bytes(process.pid, SIZE) == 3 * PAGE
        assert nonzero_bytes(process.pid, SIZE + PAGE) is None
        process.communicate()
