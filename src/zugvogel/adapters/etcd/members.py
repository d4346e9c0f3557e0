"""etcd's membership: learners are added, follow, and are promoted; one change at a time."""

from __future__ import annotations

from dataclasses import dataclass

from zugvogel.adapters.etcd.gateway import EtcdRegistry


@dataclass(frozen=True, slots=True)
class Member:
    """`name` is empty until it has started once. `id` is etcd's, decimal."""

    id: str
    name: str
    peer_url: str
    is_learner: bool


class EtcdMembers:
    """Raises Unreachable where etcd refuses or does not answer; every call may be repeated."""

    def __init__(self, registry: EtcdRegistry) -> None:
        self._registry = registry

    async def list(self) -> list[Member]:
        answer = await self._registry.call("/v3/cluster/member/list", {})
        return [
            Member(
                id=str(m["ID"]),
                name=str(m.get("name", "")),
                peer_url=str(m.get("peerURLs", [""])[0]),
                is_learner=bool(m.get("isLearner", False)),
            )
            for m in answer.get("members", [])
        ]

    async def ensure(self, peer_url: str) -> None:
        """Add it as a learner unless it is known."""
        if all(m.peer_url != peer_url for m in await self.list()):
            await self._registry.call("/v3/cluster/member/add", {"peerURLs": [peer_url], "isLearner": True})

    async def promote(self, peer_url: str) -> bool:
        """True when it votes. False: unknown. Raises Unreachable while it is not in sync."""
        for member in await self.list():
            if member.peer_url == peer_url:
                if member.is_learner:
                    await self._registry.call("/v3/cluster/member/promote", {"ID": member.id})
                return True
        return False

    async def remove(self, peer_url: str) -> None:
        for member in await self.list():
            if member.peer_url == peer_url:
                await self._registry.call("/v3/cluster/member/remove", {"ID": member.id})
