"""The process of the web console: started, started again when it ends, and ended with whoever started it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

from zugvogel.errors import ProcedureFailed

log = logging.getLogger(__name__)

RESTART_S = (1.0, 2.0, 5.0, 15.0, 60.0)
STEADY_S = 60.0
STOP_S = 3.0
LOOK_S = 0.1


async def run_console(config: dict[str, Any]) -> None:
    """Until cancelled. `config`: a `zugvogel.console.config.ConsoleConfig`. The process ends by itself when its
    standard input does, so none outlives a starter that was killed."""
    loop, failures = asyncio.get_running_loop(), 0
    while True:
        began = loop.time()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "zugvogel.console"), stdin=asyncio.subprocess.PIPE, cwd=Path("/")
        )
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(config).encode() + b"\n")
            code = await process.wait()
        finally:
            await _end(process)
        failures = 0 if loop.time() - began > STEADY_S else failures + 1
        pause_s = RESTART_S[min(failures, len(RESTART_S) - 1)]
        log.warning("the web console ended with %s; it is started again in %g s", code, pause_s)
        await asyncio.sleep(pause_s)


async def wait_until_open(address: str, port: int, within_s: float) -> None:
    """Returns when something listens there. Raises ProcedureFailed."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not await is_open(address, port):
        if asyncio.get_running_loop().time() > deadline:
            raise ProcedureFailed(
                f"the web console does not listen on {address}:{port}", "see what it said above this"
            )
        await asyncio.sleep(LOOK_S)


async def is_open(address: str, port: int) -> bool:
    """Whether something listens there."""
    try:
        _, writer = await asyncio.open_connection(address, port)
    except OSError:
        return False
    writer.close()
    return True


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    assert process.stdin is not None
    process.stdin.close()
    with contextlib.suppress(ProcessLookupError):
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()
