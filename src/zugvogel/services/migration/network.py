"""Is the vm's network right after the move? Looked at from the source host, that is through the switch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from typing import Any

from zugvogel.domain.migration import NetworkCheck
from zugvogel.domain.vm import Nic
from zugvogel.errors import ZugvogelError
from zugvogel.ports.network import RarpWatch
from zugvogel.services.address_probes import answering
from zugvogel.services.local_vms import Guest, LocalVms

log = logging.getLogger(__name__)

Probing = Coroutine[Any, Any, tuple[str, ...]]

RARP_WAIT_S = 2.0
PROBE_S = 2.0
BEFORE_S = 0.5


class NetworkWatch:
    """`begin` before the switchover, `verify` after it. Nothing here can make a move fail."""

    def __init__(self, vms: LocalVms, guest: Guest) -> None:
        self._vms = vms
        self._guest = guest
        self._rarp: dict[str, RarpWatch] = {}
        self._before: dict[str, asyncio.Task[tuple[str, ...]]] = {}
        self._addresses: dict[str, tuple[str, ...]] = {}

    def _bridge(self, nic: Nic) -> str | None:
        return self._vms.inventory.network(nic.network).bridge_on(self._vms.host)

    async def begin(self) -> None:
        for nic in self._guest.definition.nics:
            try:
                bridge = self._bridge(nic)
                if bridge is None:
                    continue
                self._rarp[nic.mac] = self._vms.network.watch_rarp(bridge, nic.mac)
            except (ZugvogelError, OSError) as error:
                log.warning("%s: RARP cannot be watched: %s", self._guest.name, error)
                continue
            addresses = self._vms.network.learned_addresses(nic.mac)
            self._addresses[nic.mac] = addresses
            self._before[nic.mac] = asyncio.create_task(self._answering(bridge, nic.mac, addresses, BEFORE_S))

    def _answering(self, bridge: str, mac: str, addresses: tuple[str, ...], wait_s: float) -> Probing:
        return answering(self._vms.network, bridge, mac, addresses, wait_s)

    async def verify(self, requested_at: float) -> tuple[NetworkCheck, ...]:
        """`requested_at`: when the move was asked for, on this host's clock."""
        nics = self._guest.definition.nics
        return tuple(await asyncio.gather(*(self._verify_one(nic, requested_at) for nic in nics)))

    async def _verify_one(self, nic: Nic, requested_at: float) -> NetworkCheck:
        bridge, rarp, before = self._bridge(nic), self._rarp.get(nic.mac), self._before.get(nic.mac)
        if bridge is None or rarp is None or before is None:
            return NetworkCheck(mac=nic.mac, why="the network could not be watched on the source")
        answered = await before
        rarp_at, (after, after_at) = await asyncio.gather(
            self._announced_at(rarp), self._timed(self._answering(bridge, nic.mac, answered, PROBE_S))
        )
        seen = rarp_at is not None
        lost = sorted(set(answered) - set(after))
        verified: bool | None
        if lost:
            verified, why = False, f"{', '.join(lost)} answered before the move and does not answer now"
        elif not seen:
            verified, why = (True if after else None), "no RARP was seen, but the addresses answer" * bool(after)
        else:
            verified, why = True, "RARP seen" + (f", {', '.join(after)} answers" if after else "")
        return NetworkCheck(
            mac=nic.mac,
            rarp_seen=seen,
            rarp_at_s=None if rarp_at is None else rarp_at - requested_at,
            answered_at_s=after_at - requested_at if after else None,
            addresses=self._addresses.get(nic.mac, ()),
            answered_before=answered,
            answers_after=after,
            is_verified=verified,
            why=why,
        )

    async def _announced_at(self, rarp: RarpWatch) -> float | None:
        age_s = await rarp.seen(RARP_WAIT_S)
        return None if age_s is None else self._vms.clock.monotonic() - age_s

    async def _timed(self, probing: Awaitable[tuple[str, ...]]) -> tuple[tuple[str, ...], float]:
        """What was found, and when."""
        return await probing, self._vms.clock.monotonic()

    def close(self) -> None:
        for rarp in self._rarp.values():
            rarp.close()
        for task in self._before.values():
            task.cancel()
