"""Which generation of the registry's data counts, and when etcd may be formed anew. Pure.

Generations are a chain of leases named `ROLE` on one datastore: the epoch is the generation, the holder the host
that formed it, `memory_id` the generation its data was taken from. No lease: generation 0, formed by the first
host of the cluster. Linking the next epoch *is* the decision: from then on nobody starts etcd with data of an
older generation, so a majority that was away and returns as a whole cannot go on beside it. The winner finishes
what it began, whenever it is cut.

etcd may be formed anew only when (1) of its voting members so many are judged failed, which takes the datastore's
proof, that the others are no majority, whatever can be reached; and (2) this host was part of the majority until
it ended. Without (2) a host that was away for long and comes back first after a power loss would take everybody's
settings back to what it once knew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from zugvogel.core.member_changes import quorum
from zugvogel.domain.base import HostName
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.lease import Holder, Lease, LeaseState

ROLE = "registry"
BEHIND_S = 10.0
"""By so much this host's last proof of a majority may lie before the majority's end: proofs are some seconds
apart."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The chain as read. `base`: the generation whose data `holder` formed this one from. `holder` None above
    generation 0: it could not form it and gave up."""

    generation: int = 0
    holder: HostName | None = None
    base: int = 0


class Stance(StrEnum):
    """`CURRENT`: the data on this host's disk counts. `MINE`: this host has won the next generation and has yet to
    form it. `SUPERSEDED`: it does not count any more; join those who have the newer."""

    CURRENT = "current"
    MINE = "mine"
    SUPERSEDED = "superseded"


def place(datastores: Iterable[Datastore]) -> Datastore | None:
    """The datastore that holds the chain: of those that hosts share, the one added first. So everybody who knows
    any datastore knows this one."""
    shared = [d for d in datastores if d.is_shared]
    return min(shared, key=lambda d: (d.added_at, d.name), default=None)


def read(lease: Lease | None) -> Chain:
    if lease is None:
        return Chain()
    base = int(lease.memory_id) if lease.memory_id.isdigit() else 0
    return Chain(lease.epoch, lease.holder.host if lease.holder else None, base)


def claim(chain: Chain, me: Holder, base: int, *, why: str, at: str = "") -> Lease:
    """Of the next generation, to be formed from this host's data of generation `base`."""
    return _lease(chain.generation + 1, me, base, why, at)


def give_up(chain: Chain, *, why: str, at: str = "") -> Lease:
    """The winner's data could not be formed into a registry: another host that has the data of `chain.base`
    may."""
    released = Lease(
        vm=ROLE, epoch=chain.generation + 1, state=LeaseState.RELEASED, holder=None, why=why, written_at=at
    )
    return released.model_copy(update={"memory_id": str(chain.base)})


def carry_over(me: Holder, generation: int, *, at: str = "") -> Lease:
    """The generation that counts, on a datastore whose chain does not know it: the one before was removed, or had
    not been there when it was formed."""
    return _lease(generation, me, generation, "carried over from another datastore", at)


def _lease(epoch: int, me: Holder, base: int, why: str, at: str) -> Lease:
    return Lease(
        vm=ROLE, epoch=epoch, state=LeaseState.RUNNING, holder=me, memory_id=str(base), why=why, written_at=at
    )


def stance(me: HostName, own: int, *, has_data: bool, chain: Chain) -> Stance:
    """`own`: the generation of the data on this host's disk."""
    if chain.generation <= own:
        return Stance.CURRENT
    if chain.holder == me and has_data and chain.base == own:
        return Stance.MINE
    return Stance.SUPERSEDED


def why_not_reform(voters: int, failed_ages_s: Sequence[float], majority_age_s: float | None) -> str:
    """Why etcd must not be formed anew from this voter's data; empty: it may. `voters`: of etcd, this host
    included. `failed_ages_s`: of each voter judged failed, the age of its last sign of life; infinite where none
    was seen. `majority_age_s`: since a majority last confirmed that this host's data is the newest; None: never
    since this agent started."""
    needed, left = quorum(voters), voters - len(failed_ages_s)
    if left >= needed:
        return f"{left} of {voters} members are not failed, and {needed} are a majority"
    if majority_age_s is None:
        return "no majority has confirmed this host's data since its agent started, so others may have newer data"
    ended_age_s = sorted(failed_ages_s, reverse=True)[voters - needed]
    if majority_age_s > ended_age_s + BEHIND_S:
        return (
            f"a majority last confirmed this host's data {majority_age_s:.0f} s ago, but there was one until "
            f"{ended_age_s:.0f} s ago, so others may have newer data"
        )
    return ""


def why_not_take_over(own: int, chain: Chain, failed: Iterable[str], generations: Iterable[int]) -> str:
    """The winner of the chain's generation died, or gave up, before anybody else had its data: why this host,
    which has the data the winner began from, must not form the next one; empty: it may. `generations`: of all
    primaries that are not failed, this host's included, each asked now."""
    if chain.holder is not None and chain.holder not in set(failed):
        return f"{chain.holder} forms generation {chain.generation} and is not failed"
    if own != chain.base:
        return f"this host has generation {own}, and {chain.holder} began from {chain.base}"
    if any(g >= chain.generation for g in generations):
        return f"another host has generation {chain.generation}"
    return ""


def why_not_start_unread(own: int, known: Iterable[str], answers: dict[str, tuple[int, frozenset[str]]]) -> str:
    """The datastore with the chain does not answer. Etcd may still be started when every other primary says that
    it has no newer generation, since one of them would have formed it. `known`: the other primaries that this host
    knows; `answers`: host -> its generation and the primaries it knows."""
    wanted = set(known).union(*(primaries for _, primaries in answers.values())) if answers else set(known)
    newer = sorted(host for host, (generation, _) in answers.items() if generation > own)
    if newer:
        return f"{newer[0]} has a newer generation"
    silent = sorted(wanted - set(answers))
    return f"{', '.join(silent)} did not say which generation of the registry it has" if silent else ""
