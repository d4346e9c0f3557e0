"""Power fencing in a simulated world: a device for each host that has one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from zugvogel.domain.host import FenceConfig, Host
from zugvogel.errors import DeadlineExceeded, NotFound

FENCE_S = 4.0
SILENT_S = 20.0
DEVICE = FenceConfig(agent="fence_dummy")


class SimFences:
    """`zugvogel.ports.fence.Fences`. `power_off(host)` cuts the power in the world, `has_power(host)` looks.
    `dead`: hosts whose device does not answer."""

    def __init__(self, power_off: Callable[[str], None], has_power: Callable[[str], bool]) -> None:
        self._power_off = power_off
        self._has_power = has_power
        self.dead: set[str] = set()

    async def _reach(self, host: Host) -> None:
        if host.fence is None:
            raise NotFound(f"{host.name} has no fence device", f"zv host fence-config {host.name}")
        if host.name in self.dead:
            await asyncio.sleep(SILENT_S)
            raise DeadlineExceeded(f"the fence device of {host.name} does not answer", "check its network")
        await asyncio.sleep(FENCE_S)

    async def power_off(self, host: Host) -> str:
        await self._reach(host)
        self._power_off(host.name)
        return "Success: Powered OFF"

    async def is_on(self, host: Host) -> bool:
        await self._reach(host)
        return self._has_power(host.name)
