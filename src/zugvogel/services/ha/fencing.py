"""Power fences of hosts: one call at a time for each, and never one against this host itself."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

from zugvogel.domain.host import Host
from zugvogel.errors import Refused
from zugvogel.ports.fence import Fences


class Fencing:
    """`zugvogel.ports.fence.Fences` over those of the world. A call that is cancelled ends at once, so that no
    device is told to act after nobody wants it any more."""

    def __init__(self, me: str, fences: Fences) -> None:
        self._me = me
        self._fences = fences
        self._turn: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def power_off(self, host: Host, still_wanted: Callable[[], bool] = lambda: True) -> str:
        """`still_wanted` is asked right before the device is told, after the wait for this call's turn; Refused
        when it is not."""
        if host.name == self._me:
            raise Refused(f"{host.name} does not cut its own power", "another host must do that")
        async with self._turn[host.name]:
            if not still_wanted():
                raise Refused(f"the power of {host.name} is not to be cut any more", "see: zv host list")
            return await self._fences.power_off(host)

    async def is_on(self, host: Host) -> bool:
        async with self._turn[host.name]:
            return await self._fences.is_on(host)
