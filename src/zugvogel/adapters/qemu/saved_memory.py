"""A vm's memory to a file and back, in QMP.

``mapped-ram`` with several channels and direct I/O where this QEMU (>= 9.1) and the file system take it: every
page has its own place, only used pages are written, several threads work past the page cache. Else, and to save it
while the vm runs, QEMU's plain stream through a pipe handed over as a descriptor, which every QEMU takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


async def save(qmp: Qmp, path: Path) -> None:
    await _prepare(qmp, {"late-block-activate": False}, path)
    await qmp.execute("migrate", {"uri": f"file:{path}"})


async def save_stream(qmp: Qmp, fd: int) -> None:
    await _prepare(qmp, {"late-block-activate": False})
    # QEMU goes on with its rounds until next to nothing is left; who ordered it stops the vCPUs before
    await qmp.execute("migrate-set-parameters", {"downtime-limit": 1})
    await qmp.send_file(fd, DESCRIPTOR)
    await qmp.execute("migrate", {"uri": f"fd:{DESCRIPTOR}"})


async def limit(qmp: Qmp, bps: int) -> None:
    await qmp.execute("migrate-set-parameters", {"max-bandwidth": bps or NO_LIMIT})


async def load(qmp: Qmp, path: Path) -> None:
    await _prepare(qmp, {"late-block-activate": True}, path)
    await qmp.execute("migrate-incoming", {"uri": f"file:{path}"})


async def load_stream(qmp: Qmp, fd: int) -> None:
    await _prepare(qmp, {"late-block-activate": True})
    await qmp.send_file(fd, DESCRIPTOR)
    await qmp.execute("migrate-incoming", {"uri": f"fd:{DESCRIPTOR}"})


async def forget(qmp: Qmp) -> None:
    """Everything that a live migration does not set itself."""
    with contextlib.suppress(ProcedureFailed):
        await qmp.execute("migrate-set-parameters", {"direct-io": False})
    await _set(qmp, {"mapped-ram": False, "multifd": False, "late-block-activate": False})


async def _prepare(qmp: Qmp, more: dict[str, bool], path: Path | None = None) -> None:
    """All that an earlier migration of this QEMU may have set is set anew. `path`: of a mapped-ram file."""
    is_mapped = path is not None
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
    is_direct = path is not None and await asyncio.to_thread(takes_direct_io, path)
    with contextlib.suppress(ProcedureFailed):  # QEMU 9.0 maps but does not know direct I/O
        await qmp.execute("migrate-set-parameters", {"direct-io": is_direct})


async def _set(qmp: Qmp, wanted: dict[str, bool]) -> None:
    offered = await _offered(qmp)
    states = [{"capability": name, "state": is_on} for name, is_on in wanted.items() if name in offered]
    await qmp.execute("migrate-set-capabilities", {"capabilities": states})


async def _offered(qmp: Qmp) -> set[str]:
    return {c["capability"] for c in await qmp.execute("query-migrate-capabilities")}


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
