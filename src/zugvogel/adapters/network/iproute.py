"""iproute2 as a library: argument lists in, JSON out. No shell."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from zugvogel.errors import ProcedureFailed

LIMIT_S = 10.0


async def run(*arguments: str) -> str:
    """`ip` or `bridge` with arguments; its output. Raises ProcedureFailed with its own words."""
    process = await asyncio.create_subprocess_exec(
        *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), LIMIT_S)
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise ProcedureFailed(f"{' '.join(arguments)} did not end within {LIMIT_S:.0f} s") from error
    if process.returncode != 0:
        raise ProcedureFailed(f"{' '.join(arguments)}: {err.decode(errors='replace').strip()}")
    return out.decode()


async def ip_json(*arguments: str) -> list[dict[str, Any]]:
    found = json.loads(await run("ip", "-json", "-details", *arguments) or "[]")
    return [entry for entry in found if entry]
