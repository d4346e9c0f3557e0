"""The hosts of `liveness_world`, each also a candidate for the role of the active primary. A judge finishes a
round each second, as failover does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from tests.services.liveness_world import Mount, Node, World
from zugvogel.domain.lease import Lease
from zugvogel.domain.task import Event
from zugvogel.errors import LeaseTaken, StorageError
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.events import EventLog
from zugvogel.services.ha.active_primary import ActivePrimary


class Roles:
    """One host's `role_leases` of a datastore: `chain` is what all share."""

    def __init__(self, mount: Mount, chain: list[Lease]) -> None:
        self._mount, self.chain = mount, chain
        self.reads = self.claims = 0
        self.stale: list[Lease | None] = []
        """What the next readings show instead of the truth."""
        self.loses_replies = False
        self.fails_claims = False

    async def read(self, vm: str) -> Lease | None:
        self.reads += 1
        await self._mount._pass()
        if self.stale:
            return self.stale.pop(0)
        return self.chain[-1] if self.chain else None

    async def claim(self, lease: Lease) -> Lease:
        self.claims += 1
        await self._mount._pass()
        if self.fails_claims:
            raise StorageError("no space left")
        await asyncio.sleep(0)
        if self.chain and self.chain[-1].epoch >= lease.epoch:
            raise LeaseTaken("another claim won", epoch=lease.epoch)
        self.chain.append(lease)
        if self.loses_replies:
            raise StorageError("the reply was lost")
        return lease


class Judge:
    def __init__(self, world: JudgeWorld, node: Node, boot: int = 0) -> None:
        self.node = node
        self.finishes_rounds = True
        self.events = EventLog(node.name, cast(Any, None), world.clock)
        self.primary = ActivePrimary(
            node.name, f"boot-{node.name}{boot or ''}", world.clock,
            datastores=lambda: cast(Sequence[MountedDatastore], node.mounts), beats=node.beats,
            events=self.events, hosts=lambda: world.hosts, interval_s=lambda: 1.0,
            detection_time_ms=lambda: node.detection_time_ms, is_isolated=lambda: node.is_isolated,
            silence_s=node.heartbeats.silence_s,
        )  # fmt: skip
        node.judge_round = self.primary.round_of

    async def tick(self) -> None:
        await self.primary.tick()
        for mount in self.node.mounts:
            if self.finishes_rounds:
                self.primary.finish_round(mount.datastore.name)

    def told(self) -> list[Event]:
        return list(self.events._recent)


class JudgeWorld(World):
    def __init__(self, hosts: int = 3, primaries: int = 5, datastores: Sequence[str] = ("ds",)) -> None:
        super().__init__(hosts, primaries, datastores)
        self.chains: dict[str, list[Lease]] = {name: [] for name in datastores}
        self.judges = {node.name: self._judge(node) for node in self.nodes.values()}

    def _judge(self, node: Node, boot: int = 0) -> Judge:
        for mount in node.mounts:
            mount.role_leases = Roles(mount, self.chains[mount.datastore.name])
        return Judge(self, node, boot)

    def roles(self, host: str) -> Roles:
        return cast(Roles, self.nodes[host].mounts[0].role_leases)

    def reboot(self, host: str) -> None:
        """Power on again: new services, and a new boot id."""
        before = self.nodes[host]
        self.nodes[host] = Node(self, next(h for h in self.hosts if h.name == host), before.mounts, boot=1)
        self.judges[host] = self._judge(self.nodes[host], boot=1)
        self.dead.discard(host)

    async def tick(self, node: Node) -> None:
        await super().tick(node)
        await self.judges[node.name].tick()

    def judging(self, datastore: str = "ds") -> list[str]:
        """Those who judge now; of dead and paused hosts nothing runs."""
        gone = self.dead | self.paused
        return [n for n, judge in self.judges.items() if n not in gone and judge.primary.judges(datastore)]

    async def until(self, host: str, most_s: int) -> int:
        """Seconds until `host` alone judges."""
        for passed in range(most_s + 1):
            if self.judging() == [host]:
                return passed
            await self.pass_time(1)
        raise AssertionError(f"after {most_s} s {self.judging()} judge, not {host}")
