"""etcd's membership: learners are added, follow, and are promoted; one change at a time."""

from __future__ import annotations

from zugvogel.adapters.etcd.gateway import EtcdRegistry
from zugvogel.domain.registry import Member, MemberStatus
from zugvogel.errors import Unreachable

STATUS_S = 1.5


class EtcdMembers:
    """`ports.members.Members`, asked of the members that `registry` reaches."""

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
                client_url=str(m.get("clientURLs", [""])[0]),
            )
            for m in answer.get("members", [])
        ]

    async def status(self, member: Member) -> MemberStatus | None:
        if not member.client_url:
            return None
        try:
            told = await self._registry.ask(member.client_url, "/v3/maintenance/status", {}, STATUS_S)
        except Unreachable:
            return None
        leader = str(told.get("leader", "0"))
        return MemberStatus(
            id=str(told["header"]["member_id"]),
            leader_id="" if leader == "0" else leader,
            is_learner=bool(told.get("isLearner", False)),
        )

    async def ensure(self, peer_url: str) -> None:
        if all(m.peer_url != peer_url for m in await self.list()):
            await self._registry.call("/v3/cluster/member/add", {"peerURLs": [peer_url], "isLearner": True})

    async def promote(self, peer_url: str) -> bool:
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

    async def move_leader(self, leader: Member, to: Member) -> None:
        """Only the leader itself can do it."""
        body = {"targetID": to.id}
        await self._registry.ask(leader.client_url, "/v3/maintenance/transfer-leadership", body, 4 * STATUS_S)
