"""The guest's agent (qemu-ga) as far as it is needed: JSON lines over its virtio port, which QEMU shows as a Unix
socket for one client at a time.

A guest without an agent looks like one that is slow: nothing answers. See "QEMU Guest Agent Protocol Reference".
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from pathlib import Path
from typing import Any

from zugvogel.errors import DeadlineExceeded, ProcedureFailed, Unreachable

_DELIMITER = b"\xff"
LONGEST_ANSWER = 1 << 16


async def call(socket: Path, command: str, arguments: dict[str, Any], timeout_s: float) -> Any:
    """What the agent returns. Raises DeadlineExceeded when nothing answers in time, ProcedureFailed with its own
    words when it refuses, Unreachable when QEMU is gone."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(str(socket), limit=LONGEST_ANSWER)
            try:
                await _greet(reader, writer)
                return await _ask(reader, writer, command, arguments)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError as error:
        raise DeadlineExceeded(f"the guest's agent did not answer {command} within {timeout_s:g} s") from error
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
        raise Unreachable(f"the guest's agent cannot be spoken to: {error}") from error


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Skip what an earlier client left unread: the answer to our own number counts."""
    number = secrets.randbelow(1 << 31)
    writer.write(_DELIMITER)
    _send(writer, "guest-sync-delimited", {"id": number})
    while True:
        await reader.readuntil(_DELIMITER)
        if _parse(await reader.readline()).get("return") == number:
            return


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, command: str, arguments: dict[str, Any]
) -> Any:
    _send(writer, command, arguments)
    answer = _parse(await reader.readline())
    if "error" in answer:
        why = answer["error"].get("desc") if isinstance(answer["error"], dict) else answer["error"]
        raise ProcedureFailed(f"the guest's agent refused {command}: {str(why)[:200]}")
    return answer.get("return")


def _parse(line: bytes) -> dict[str, Any]:
    """Raises ValueError: what a guest says may be anything."""
    try:
        found = json.loads(line)
    except RecursionError as error:
        raise ValueError("it nests too deep") from error
    if not isinstance(found, dict):
        raise ValueError("it answers something else")
    return found


def _send(writer: asyncio.StreamWriter, command: str, arguments: dict[str, Any]) -> None:
    writer.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
