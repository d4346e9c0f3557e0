"""A vm's memory to a file and back, in QMP.

``mapped-ram`` with several channels and direct I/O where this QEMU (>= 9.1) and the file system take it: every
page has its own place, only used pages are written, several threads work past the page cache. Else QEMU's plain
stream through a file handed over as a descriptor, which every QEMU takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zugvogel.domain.memory import MemoryFormat
from zugvogel.errors import ProcedureFailed

NO_LIMIT = 1 << 40
CHANNELS = 8
"""They wait for the storage and for fresh memory more than they compute: with two cores 8 loaded 2 GB in 1.9 to
2.0 s, 4 in 2.0 to 2.6 s, 2 in 2.2 to 2.9 s."""
DESCRIPTOR = "memory"


@dataclass(frozen=True, slots=True)
class Qmp:
    """`send_file(fd, name)` hands an open file to QEMU."""

    execute: Callable[..., Awaitable[Any]]
    send_file: Callable[[int, str], Awaitable[None]]


async def save(qmp: Qmp, path: Path, format: MemoryFormat) -> None:
    await _prepare(qmp, path, format, {"late-block-activate": False})
    if format is MemoryFormat.MAPPED:
        await qmp.execute("migrate", {"uri": f"file:{path}"})
        return
    await _hand_over(qmp, path, os.O_WRONLY)
    await qmp.execute("migrate", {"uri": f"fd:{DESCRIPTOR}"})


async def limit(qmp: Qmp, bps: int) -> None:
    await qmp.execute("migrate-set-parameters", {"max-bandwidth": bps or NO_LIMIT})


async def load(qmp: Qmp, path: Path, format: MemoryFormat) -> None:
    await _prepare(qmp, path, format, {"late-block-activate": True})
    if format is MemoryFormat.MAPPED:
        await qmp.execute("migrate-incoming", {"uri": f"file:{path}"})
        return
    await _hand_over(qmp, path, os.O_RDONLY)
    await qmp.execute("migrate-incoming", {"uri": f"fd:{DESCRIPTOR}"})


async def forget(qmp: Qmp) -> None:
    """Everything that a live migration does not set itself."""
    with contextlib.suppress(ProcedureFailed):
        await qmp.execute("migrate-set-parameters", {"direct-io": False})
    await _set(qmp, {"mapped-ram": False, "multifd": False, "late-block-activate": False})


async def _prepare(qmp: Qmp, path: Path, format: MemoryFormat, more: dict[str, bool]) -> None:
    """All that an earlier migration of this QEMU may have set is set anew."""
    is_mapped = format is MemoryFormat.MAPPED
    wanted = {
        "events": True,
        "return-path": False,
        "pause-before-switchover": False,
        "multifd": is_mapped,
        "mapped-ram": is_mapped,
        **more,
    }
    # TLS first: a QEMU that came by a live migration has it set, and mapped-ram is not taken beside it
    await qmp.execute("migrate-set-parameters", {"tls-creds": "", "tls-hostname": ""})
    await _set(qmp, wanted)
    parameters: dict[str, Any] = {"max-bandwidth": NO_LIMIT}
    if is_mapped:
        parameters["multifd-channels"] = CHANNELS
    await qmp.execute("migrate-set-parameters", parameters)
    is_direct = is_mapped and await asyncio.to_thread(takes_direct_io, path)
    with contextlib.suppress(ProcedureFailed):  # QEMU 9.0 maps but does not know direct I/O
        await qmp.execute("migrate-set-parameters", {"direct-io": is_direct})


async def _set(qmp: Qmp, wanted: dict[str, bool]) -> None:
    offered = await _offered(qmp)
    states = [{"capability": name, "state": is_on} for name, is_on in wanted.items() if name in offered]
    await qmp.execute("migrate-set-capabilities", {"capabilities": states})


async def _offered(qmp: Qmp) -> set[str]:
    return {c["capability"] for c in await qmp.execute("query-migrate-capabilities")}


async def _hand_over(qmp: Qmp, path: Path, flags: int) -> None:
    fd = await asyncio.to_thread(os.open, path, flags | os.O_CLOEXEC)
    try:
        await qmp.send_file(fd, DESCRIPTOR)
    finally:
        os.close(fd)


def takes_direct_io(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def resident_bytes(pid: int) -> int:
    """What the process takes of this host's memory: its guest's used RAM, and a little more."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGESIZE")
