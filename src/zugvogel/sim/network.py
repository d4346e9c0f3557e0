"""Who reaches whom over the network, and a host's bridges."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from zugvogel.domain.host import BridgeFacts
from zugvogel.sim.clock import SimClock

GATEWAY = "gateway"
GATEWAY_ADDRESS = "192.0.2.1"
BRIDGE = "br0"
LINK_MBIT = 10_000


class Wires:
    """The switch and the cables. A host without power or one that hangs is not their matter. `on_change` is told
    of every change. The gateway is a member like the hosts, called ``gateway``."""

    def __init__(self) -> None:
        self.on_change: list[Callable[[], None]] = []
        self.is_whole = True
        """Everybody reaches everybody."""
        self._cut: set[str] = set()
        self._group: dict[str, int] = {}
        self._blocked: set[tuple[str, str]] = set()
        self._known: dict[tuple[str, str], bool] = {}

    def reaches(self, source: str, target: str) -> bool:
        """What `source` sends now arrives at `target`, unless it is lost."""
        found = self._known.get((source, target))
        if found is None:
            found = self._known[source, target] = self._look(source, target)
        return found

    def connected(self, one: str, other: str) -> bool:
        """Both ways, as TCP needs it."""
        return self.reaches(one, other) and self.reaches(other, one)

    def _look(self, source: str, target: str) -> bool:
        if source == target:
            return True
        if source in self._cut or target in self._cut:
            return False
        if self._group.get(source, -1) != self._group.get(target, -1):
            return False
        return (source, target) not in self._blocked

    def cut(self, hosts: Iterable[str]) -> None:
        self._cut.update(hosts)
        self._changed()

    def heal(self, hosts: Iterable[str]) -> None:
        self._cut.difference_update(hosts)
        self._changed()

    def part(self, groups: Sequence[Sequence[str]]) -> None:
        """Only members of one group reach each other; whoever is not named is in a group of the rest."""
        self._group = {name: number for number, group in enumerate(groups) for name in group}
        self._changed()

    def block(self, sources: Iterable[str], targets: Iterable[str]) -> None:
        """One way: nothing from `sources` arrives at `targets`."""
        self._blocked |= {(s, t) for s in sources for t in targets if s != t}
        self._changed()

    def join(self) -> None:
        """Partitions, one-way ones too, are over; cut cables stay cut."""
        self._group.clear()
        self._blocked.clear()
        self._changed()

    def _changed(self) -> None:
        self._known.clear()
        self.is_whole = not (self._cut or self._group or self._blocked)
        for told in list(self.on_change):
            told()


class SimRarpWatch:
    """Sees every announcement: that the switch forwards is tried in the lab, not here."""

    async def seen(self, timeout_s: float) -> float | None:
        return 0.0

    def close(self) -> None:
        """Nothing was opened."""


class SimHostNetwork:
    """`zugvogel.ports.network.HostNetwork`: one bridge, no guest that speaks ARP."""

    async def bridges(self) -> list[BridgeFacts]:
        return [BridgeFacts(name=BRIDGE, mtu=1500)]

    async def link_mbit(self, address: str) -> int:
        return LINK_MBIT

    def watch_rarp(self, bridge: str, mac: str) -> SimRarpWatch:
        return SimRarpWatch()

    async def probe(self, bridge: str, address: str, timeout_s: float = 1.0) -> str | None:
        return None

    def learned_addresses(self, mac: str) -> tuple[str, ...]:
        return ()

    def teach(self, mac: str, addresses: tuple[str, ...]) -> None:
        """Nobody asks for them."""

    def start_learning(self) -> None:
        """There is nothing to learn."""


class SimPinger:
    """`zugvogel.ports.pinger.Pinger`: the gateway and the hosts answer, whoever else does not."""

    def __init__(self, wires: Wires, host: str, clock: SimClock, is_up: Callable[[str], bool]) -> None:
        self._wires, self._host, self._clock, self._is_up = wires, host, clock, is_up

    def default_gateway(self) -> str | None:
        return GATEWAY_ADDRESS

    async def ping(self, address: str, timeout_s: float) -> bool:
        if self._answers(address):
            await asyncio.sleep(0.001)
            return True
        await self._clock.sleep(timeout_s)
        return False

    def _answers(self, address: str) -> bool:
        if address == GATEWAY_ADDRESS:
            return self._wires.connected(self._host, GATEWAY)
        return self._is_up(address) and self._wires.connected(self._host, address)
