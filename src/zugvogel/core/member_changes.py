"""How etcd's members follow the roles: one safe change at a time. Pure.

The order: a learner is added, follows, votes; only then a member that is no primary any more is removed. So the
registry never has fewer votes than it needs, and whoever asks next goes on from what the members themselves show.
Before each change that touches votes a majority of what will be must answer already. etcd checks the same
once more by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zugvogel.core.roles import PRIMARIES
from zugvogel.domain.registry import Member


@dataclass(frozen=True, slots=True)
class Standing:
    """`answering`: peer URLs of members that answer and see a leader. `wanted`: those of all primaries. `ready`:
    those of hosts that are live. All are peer URLs, which name a host for as long as it is one."""

    members: tuple[Member, ...]
    answering: frozenset[str]
    wanted: frozenset[str]
    ready: frozenset[str]

    @property
    def voters(self) -> tuple[Member, ...]:
        return tuple(m for m in self.members if not m.is_learner)

    @property
    def learners(self) -> tuple[Member, ...]:
        return tuple(m for m in self.members if m.is_learner)

    def keeps_majority_without(self, member: Member) -> bool:
        rest = [m for m in self.voters if m.id != member.id]
        return bool(rest) and not _unsafe(rest, self.answering)


def quorum(voters: int) -> int:
    return voters // 2 + 1


def why_not_add(standing: Standing, peer_url: str) -> str:
    """Why the host at `peer_url` may not be added as a learner now; empty: it may."""
    if peer_url not in standing.wanted:
        return "it is no primary"
    others = [m for m in standing.learners if m.peer_url != peer_url]
    if others:
        return f"{others[0].name or others[0].peer_url} is a learner; one at a time"
    if len([m for m in standing.voters if m.peer_url != peer_url]) > PRIMARIES:
        return "a member that is no primary any more leaves first"
    return _unsafe(standing.voters, standing.answering)


def why_not_promote(standing: Standing, peer_url: str) -> str:
    """Why the learner at `peer_url` may not vote yet; empty: it may, as far as can be seen from here."""
    if peer_url not in standing.wanted:
        return "it is no primary"
    learner = next((m for m in standing.learners if m.peer_url == peer_url), None)
    if learner is None:
        return "it is no learner"
    return _unsafe((*standing.voters, learner), standing.answering)


def to_remove(standing: Standing) -> Member | None:
    """The member to remove now. A learner holds up every other one, so one that is not wanted or not live goes at
    once; it has no vote. Of the voters those that are no primaries any more go, silent ones first, once every
    primary that is live votes (or there are more voters than places)."""
    for learner in standing.learners:
        if learner.peer_url not in standing.wanted or learner.peer_url not in standing.ready:
            return learner
    voting = {m.peer_url for m in standing.voters}
    is_somebody_missing = bool((standing.wanted & standing.ready) - voting)
    if is_somebody_missing and len(voting) <= PRIMARIES:
        return None
    gone = [m for m in standing.voters if m.peer_url not in standing.wanted]
    for member in sorted(gone, key=lambda m: (m.peer_url in standing.answering, m.id)):
        if standing.keeps_majority_without(member):
            return member
    return None


def next_leader(standing: Standing, leaving: str) -> Member | None:
    """Who leads before the leader `leaving` (its id) is removed: a voter that stays and answers."""
    fit = [m for m in standing.voters if m.id != leaving and m.peer_url in standing.answering]
    return min(fit, key=lambda m: (m.peer_url not in standing.wanted, m.id), default=None)


def _unsafe(voters: Iterable[Member], answering: frozenset[str]) -> str:
    all_voters = list(voters)
    up = sum(m.peer_url in answering for m in all_voters)
    needed = quorum(len(all_voters))
    return "" if up >= needed else f"only {up} of {len(all_voters)} voters would answer, {needed} are needed"
