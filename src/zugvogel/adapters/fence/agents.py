"""Fence agents of the distribution (ClusterLabs' fence-agents): one short-lived process a call.

Everything is told on standard input, a line ``name=value`` each, so that no password is seen in a process list.
Exit codes of ``action=status``: 0 on, 2 off, anything else: not known. See FenceAgentAPI.md of ClusterLabs.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
import stat
import time
from pathlib import Path
from urllib.parse import quote

from zugvogel.core.fencing import MASK, refuse_unfit
from zugvogel.domain.host import FenceConfig, Host
from zugvogel.errors import DeadlineExceeded, NotFound, ProcedureFailed

DIRECTORY = Path("/usr/sbin")
ANSWER_S = 60.0
ON, OFF = 0, 2
ENOUGH_BYTES = 64 << 10
SHOWN_SIGNS = 300


class FenceAgents:
    """`zugvogel.ports.fence.Fences`. `answer_s`: for a whole call, whatever it is made of."""

    def __init__(self, directory: Path = DIRECTORY, answer_s: float = ANSWER_S) -> None:
        self._directory = directory
        self._answer_s = answer_s

    async def power_off(self, host: Host) -> str:
        """The agent's own word for its success is not enough: the device must say that the power is off."""
        config, deadline = _config_of(host), time.monotonic() + self._answer_s
        code, told = await self._call(config, "off", deadline)
        if code != 0:
            raise ProcedureFailed(
                f"{config.agent} of {host.name} did not switch off: {told or f'exit code {code}'}",
                f"try it: zv host fence-config {host.name} --test",
            )
        if await self._is_on(host, config, deadline):
            raise ProcedureFailed(
                f"{config.agent} says that {host.name} is still on after it was switched off",
                "see whether the device is that host's, and what its own log says",
            )
        return f"{config.agent} says that the power of {host.name} is off"

    async def is_on(self, host: Host) -> bool:
        return await self._is_on(host, _config_of(host), time.monotonic() + self._answer_s)

    async def _is_on(self, host: Host, config: FenceConfig, deadline: float) -> bool:
        code, told = await self._call(config, "status", deadline)
        if code not in {ON, OFF}:
            raise ProcedureFailed(
                f"{config.agent} cannot say whether {host.name} is on: {told or f'exit code {code}'}",
                f"try it: zv host fence-config {host.name} --test",
            )
        return code == ON

    async def _call(self, config: FenceConfig, action: str, deadline: float) -> tuple[int, str]:
        """Its exit code and the last it said, without secrets."""
        refuse_unfit(config)  # what the registry holds may be of another version
        process = await asyncio.create_subprocess_exec(
            str(self._executable(config.agent)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
            start_new_session=True,
        )
        given = {**config.parameters, **config.secrets, "action": action}
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                said = await _talk(process, "".join(f"{k}={v}\n" for k, v in given.items()))
                code = await process.wait()
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"{config.agent} did not answer {action} within {self._answer_s:.0f} s",
                "see whether the fence device can be reached from this host",
            ) from error
        finally:
            await _end(process)
        return code, _last_line(said, config)

    def _executable(self, agent: str) -> Path:
        path = self._directory / agent
        try:
            found = path.stat()
        except OSError:
            raise ProcedureFailed(
                f"{agent} is not installed on this host",
                f"install it on every primary: the package fence-agents, or {agent.replace('_', '-agents-', 1)}",
            ) from None
        if not stat.S_ISREG(found.st_mode) or not os.access(path, os.X_OK):
            raise ProcedureFailed(f"{path} is no program", "install the package fence-agents anew")
        return path


def _config_of(host: Host) -> FenceConfig:
    if host.fence is None:
        raise NotFound(
            f"no device is configured that could cut the power of {host.name}",
            f"see: zv host fence-config {host.name} --help",
        )
    return host.fence


async def _talk(process: asyncio.subprocess.Process, given: str) -> bytes:
    """The first that it says; the rest is read and dropped, so that it never waits for us."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may end without reading
        process.stdin.write(given.encode())
        await process.stdin.drain()
    process.stdin.close()
    said = b""
    while chunk := await process.stdout.read(4096):
        said = (said + chunk)[-ENOUGH_BYTES:]
    return said


async def _end(process: asyncio.subprocess.Process) -> None:
    """Nothing of it is left, whatever it has started: a command to a device must not come late."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _last_line(said: bytes, config: FenceConfig) -> str:
    text = said.decode(errors="replace")
    for secret in sorted(filter(None, config.secrets.values()), key=len, reverse=True):
        for form in (secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode()):
            text = text.replace(form, MASK)
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return lines[-1][:SHOWN_SIGNS] if lines else ""
