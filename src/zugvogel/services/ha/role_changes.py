"""etcd's members follow the roles in the registry's host records, one safe change at a time.

Nothing is remembered between two steps: each is derived from what etcd's members, the host records and the
verdicts show now, so whoever leads etcd next goes on. A new member adds itself by asking (`etcd.add`,
`etcd.promote`); what must leave is removed by etcd's leader.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from zugvogel.core import member_changes
from zugvogel.core.member_changes import Standing
from zugvogel.domain.host import Host, HostStatus, Role, Verdict
from zugvogel.domain.registry import Member, peer_url
from zugvogel.errors import NotFound, Refused, Unreachable
from zugvogel.ports.clock import Clock
from zugvogel.ports.members import Members
from zugvogel.ports.peers import Handler
from zugvogel.ports.registry import Registry
from zugvogel.services.events import EventLog

log = logging.getLogger(__name__)

REMOVE_AFTER_S = 10.0
"""A member is removed only when that was due for so long: a learner's host may be silent for a moment."""
ANSWERS = {Verdict.LIVE, Verdict.MAINTENANCE, Verdict.STORAGE_LOST}
"""Verdicts under which a host's network works."""


class RoleChanges:
    """`generation`: of this host's own data; None where it has no member that runs."""

    def __init__(
        self,
        name: str,
        *,
        clock: Clock,
        registry: Registry,
        members: Members,
        events: EventLog,
        statuses: Callable[[], Awaitable[list[HostStatus]]],
        generation: Callable[[], int | None],
    ) -> None:
        self._name = name
        self._clock = clock
        self._registry = registry
        self._members = members
        self._events = events
        self._statuses = statuses
        self._generation = generation
        self._due: tuple[str, float] | None = None
        """Id of the member that is to be removed, and since when."""

    def handlers(self) -> dict[str, Handler]:
        return {"etcd.add": self._on_add, "etcd.promote": self._on_promote}

    # joining -------------------------------------------------------------------------------------

    async def _on_add(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Take `host`, which has no data, in as a learner. Answers the generation it joins and all members."""
        own = self._generation()
        if own is None or own < int(payload.get("generation", 0)):
            raise Unreachable(f"etcd does not run on {self._name}, or with older data", "ask another primary")
        host = await self._host(str(payload["host"]))
        await self._forget_former(host)
        if why := member_changes.why_not_add(await self.standing(), peer_url(host)):
            raise Refused(f"{host.name} cannot become a member of etcd yet: {why}", "it is tried again")
        await self._members.ensure(peer_url(host))
        return {"generation": own, "members": await self._names()}

    async def _forget_former(self, host: Host) -> None:
        """A member of that address which once ran, though the host has no data: with an empty log it would vote on
        what it had promised before."""
        standing = await self.standing()
        former = next((m for m in standing.members if m.peer_url == peer_url(host) and m.name), None)
        if former is None:
            return
        if not former.is_learner and not standing.keeps_majority_without(former):
            raise Refused(
                f"{host.name} lost its data, and etcd cannot do without its vote now", "it is tried again"
            )
        await self._members.remove(former.peer_url)

    async def _names(self) -> dict[str, str]:
        """etcd refuses a start with any other list. Those that have not started yet have no name of their own."""
        names = {peer_url(h): h.name for h in await self._hosts()}
        return {m.name or names.get(m.peer_url, m.id): m.peer_url for m in await self._members.list()}

    async def _on_promote(self, payload: dict[str, Any]) -> dict[str, Any]:
        host = await self._host(str(payload["host"]))
        standing = await self.standing()
        known = next((m for m in standing.members if m.peer_url == peer_url(host)), None)
        if known is None or not known.is_learner:
            return {"votes": known is not None}
        if why := member_changes.why_not_promote(standing, known.peer_url):
            raise Refused(f"{host.name} may not vote in etcd yet: {why}", "it is tried again")
        return {"votes": await self._members.promote(known.peer_url)}

    # leaving -------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """On etcd's leader: remove what must go, one member a round."""
        if self._generation() is None:
            return
        leader = await self._leading()
        if leader is None:
            return
        standing = await self.standing()
        gone = member_changes.to_remove(standing)
        if gone is None:
            self._due = None
        if gone is None or not self._is_due(gone):
            return
        if gone.id == leader.id:
            if to := member_changes.next_leader(standing, leader.id):
                await self._members.move_leader(leader, to)
            return
        await self._members.remove(gone.peer_url)
        self._due = None
        told = f"{gone.name or gone.peer_url} is no member of etcd any more"
        self._events.emit("registry.member-removed", gone.name or gone.peer_url, told, evidence=gone.model_dump())

    def _is_due(self, gone: Member) -> bool:
        now = self._clock.monotonic()
        if self._due is None or self._due[0] != gone.id:
            self._due = (gone.id, now)
        return now - self._due[1] >= REMOVE_AFTER_S

    async def _leading(self) -> Member | None:
        """This host's member, when it is etcd's leader."""
        own = next((m for m in await self._members.list() if m.name == self._name), None)
        status = await self._members.status(own) if own is not None else None
        return own if status is not None and status.leader_id == status.id else None

    # looking -------------------------------------------------------------------------------------

    async def standing(self) -> Standing:
        members, hosts = await self._members.list(), await self._hosts()
        told = await asyncio.gather(*(self._members.status(m) for m in members))
        live = {s.host.name for s in await self._statuses() if s.verdict in ANSWERS}
        return Standing(
            members=tuple(members),
            answering=frozenset(m.peer_url for m, s in zip(members, told, strict=True) if s and s.leader_id),
            wanted=frozenset(peer_url(h) for h in hosts if h.role is Role.PRIMARY),
            ready=frozenset(peer_url(h) for h in hosts if h.name in live),
        )

    async def _hosts(self) -> list[Host]:
        """As a majority has them: the wanted roles."""
        return [Host.model_validate_json(e.value) for e in await self._registry.list("hosts/")]

    async def _host(self, name: str) -> Host:
        for host in await self._hosts():
            if host.name == name:
                return host
        raise NotFound(f"there is no host {name}", "see: zv host list")
