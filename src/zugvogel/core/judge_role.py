"""Who is the active primary of a datastore: the one judge that decides failovers there.

The role is a lease on that datastore. Its holder writes a counter of finished rounds into its beat there, so
whether it still judges is read off the datastore as well, and the role can be taken over with every network cut
and etcd without a majority. Leases decide between all who claim; the order of the candidates only spares them the
race. Two hosts that both believed to have the role for a moment would do no harm either: every order names the
epoch of the vm's lease it was judged from.

A holder counts as such only while its own beat and its last reading of the lease are fresh (`counts`), so it has
stopped judging well before T, after which another may take over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum

from zugvogel.core.isolation import ISOLATED_AFTER
from zugvogel.core.verdicts import FROZEN_AFTER
from zugvogel.domain.base import HostName
from zugvogel.domain.lease import Holder, Lease, LeaseState

ROLE = "active-primary"


class RoleStep(StrEnum):
    CLAIM = "claim"
    RELEASE = "release"
    KEEP = "keep"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class RoleDecision:
    step: RoleStep
    why: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """This host, as one that may have the role on one datastore. `beat_age_s`: of its own last good beat there.
    `silence_s`: since it heard any other host. `hear_each_other`: others do, and one of them could judge."""

    is_primary: bool
    is_in_maintenance: bool
    is_isolated: bool
    beat_age_s: float | None
    detection_time_s: float
    silence_s: float = 0.0
    hear_each_other: bool = False

    @property
    def why_unfit(self) -> str:
        """Why it may not have the role at all; empty: it may."""
        if not self.is_primary:
            return "it is no primary"
        if self.is_in_maintenance:
            return "it is in maintenance"
        if self.is_isolated:
            return "it is isolated"
        if self.hear_each_other and self.silence_s >= ISOLATED_AFTER * self.detection_time_s:
            # An address outside the cluster answers it, so it is not isolated; but all others look partitioned to
            # it, and it would place vms nowhere but here.
            return "it hears nobody, while others hear each other"
        return ""

    @property
    def why_silent(self) -> str:
        """Why it does not judge now, also as the holder; empty: nothing is against it."""
        if self.why_unfit:
            return self.why_unfit
        if self.beat_age_s is None or self.beat_age_s >= FROZEN_AFTER * self.detection_time_s:
            return "its own beats do not reach the datastore"
        return ""


@dataclass(frozen=True, slots=True)
class Incumbent:
    """The host that the lease names, as this host sees it. `still_s`: how long its (boot id, round) stood still in
    good observations. `is_isolated`: its beat of the lease's boot says so. `detection_time_s`: the greater of this
    host's and the one in its beat."""

    is_primary: bool
    is_in_maintenance: bool
    is_isolated: bool
    still_s: float
    detection_time_s: float


@dataclass(frozen=True, slots=True)
class RoleEvidence:
    """`holder` None: the lease names nobody, or no host of the cluster. `waited_s`: how long this host has seen
    the role free to be taken. `rank`: candidates before this one, each of which gets an interval to itself."""

    me: Holder
    lease: Lease | None
    candidate: Candidate
    holder: Incumbent | None
    waited_s: float
    rank: int
    interval_s: float


def decide(evidence: RoleEvidence) -> RoleDecision:
    lease, candidate = evidence.lease, evidence.candidate
    if is_mine(lease, evidence.me):
        if candidate.why_unfit:
            return RoleDecision(RoleStep.RELEASE, candidate.why_unfit)
        # Without beats the others see its round stand still: no need to give anything up over a short outage.
        return RoleDecision(RoleStep.KEEP, candidate.why_silent or "it has the role")
    if candidate.why_silent:
        return RoleDecision(RoleStep.WAIT, candidate.why_silent)
    free = why_free(lease, evidence.me.host, evidence.holder)
    if not free:
        return RoleDecision(RoleStep.WAIT, f"{holder_of(lease)} has the role")
    wait_s = 0.0 if holder_of(lease) == evidence.me.host else evidence.rank * evidence.interval_s
    if evidence.waited_s < wait_s:
        return RoleDecision(RoleStep.WAIT, f"{free}; {evidence.rank} others come first")
    return RoleDecision(RoleStep.CLAIM, free)


def why_free(lease: Lease | None, me: HostName, holder: Incumbent | None) -> str:
    """Why the role, which this boot of this host does not have, may be claimed; empty: it may not."""
    host = holder_of(lease)
    if lease is None:
        return "nobody has had the role"
    if host is None:
        return f"it was given up: {lease.why}"
    if host == me:
        return f"an earlier boot of {me} had it"
    if holder is None or not holder.is_primary:
        return f"{host}, which had it, is no primary any more"
    if holder.is_in_maintenance:
        return f"{host}, which had it, is in maintenance"
    if holder.is_isolated:
        return f"{host}, which had it, is isolated"
    if holder.still_s >= holder.detection_time_s:
        return f"{host}, which had it, has finished no round for {holder.still_s:.0f} s"
    return ""


def hear_each_other(hears: Mapping[HostName, Sequence[HostName]], could_judge: Set[HostName]) -> bool:
    """`hears`: host -> whom it hears, of other hosts that beat now and are not isolated."""
    return any(
        host in hears.get(other, ())
        for host in could_judge & hears.keys()
        for other in hears[host]
        if other != host
    )


def counts(candidate: Candidate, reading_age_s: float | None) -> bool:
    """Whether a host whose last reading says that it has the role judges now. `reading_age_s`: since that reading,
    or its own claim, began; None: it did not say so."""
    is_fresh = reading_age_s is not None and reading_age_s < FROZEN_AFTER * candidate.detection_time_s
    return is_fresh and not candidate.why_silent


def holder_of(lease: Lease | None) -> HostName | None:
    if lease is None or lease.state is not LeaseState.RUNNING or lease.holder is None:
        return None
    return lease.holder.host


def is_mine(lease: Lease | None, me: Holder) -> bool:
    return lease is not None and lease.state is LeaseState.RUNNING and lease.holder == me


def claim(lease: Lease | None, me: Holder, *, why: str, at: str = "") -> Lease:
    epoch = lease.epoch + 1 if lease is not None else 1
    return Lease(vm=ROLE, epoch=epoch, state=LeaseState.RUNNING, holder=me, why=why, written_at=at)


def release(lease: Lease, *, why: str, at: str = "") -> Lease:
    return Lease(vm=ROLE, epoch=lease.epoch + 1, state=LeaseState.RELEASED, holder=None, why=why, written_at=at)
