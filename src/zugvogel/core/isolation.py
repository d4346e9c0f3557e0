"""Whether a host is cut off from everybody: its own judgement of itself (H2).

A host hears no agent either because it is cut off or because all others are gone. Addresses outside the cluster
tell which: one that answers proves that the network works. So silence of the agents *and* of all these addresses
for 12/15 of T makes it isolated; any sign, of an agent or of an address, starts the count anew. An address tells
something by its silence only if it answered before: without one that did, a host never calls itself isolated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ISOLATED_AFTER = 12 / 15
"""Part of T; 0.2 T before others can judge the host failed or isolated."""
MIN_ROUNDS = 3
"""Pings of all addresses that stayed unanswered since the last sign."""
TRUSTED_S = 300.0
"""An address that gave no answer for so long before the silence began has been switched off or filtered: it tells
nothing any more."""


@dataclass(frozen=True, slots=True)
class IsolationEvidence:
    """Instants are on the host's own monotonic clock. `quiet_since`: the last heartbeat of any other host, answer
    of an address, or instant before which this host itself did not run; whichever came last. `answered_at`:
    address -> its last answer, of those that are asked now and ever answered. `unanswered_rounds`: since then."""

    now: float
    has_others: bool
    quiet_since: float
    detection_time_s: float
    answered_at: Mapping[str, float]
    unanswered_rounds: int


@dataclass(frozen=True, slots=True)
class IsolationJudgement:
    is_isolated: bool
    why: str


def judge(evidence: IsolationEvidence) -> IsolationJudgement:
    quiet_s = evidence.now - evidence.quiet_since
    needed_s = ISOLATED_AFTER * evidence.detection_time_s
    if not evidence.has_others:
        return IsolationJudgement(False, "it is alone in its cluster")
    if quiet_s < needed_s:
        return IsolationJudgement(False, f"the last sign from outside came {quiet_s:.1f} s ago")
    if not evidence.answered_at:
        return IsolationJudgement(
            False, f"nobody was heard for {quiet_s:.1f} s, but no isolation address has ever answered this host"
        )
    telling = telling_addresses(evidence.answered_at, evidence.quiet_since)
    if not telling:
        return IsolationJudgement(
            False,
            f"nobody was heard for {quiet_s:.1f} s, but no isolation address had answered within "
            f"{TRUSTED_S:.0f} s before",
        )
    if evidence.unanswered_rounds < MIN_ROUNDS:
        return IsolationJudgement(
            False, f"nobody was heard for {quiet_s:.1f} s; {', '.join(telling)} must be asked {MIN_ROUNDS} times"
        )
    return IsolationJudgement(
        True,
        f"for {quiet_s:.1f} s no agent was heard, and {', '.join(telling)} did not answer "
        f"{evidence.unanswered_rounds} pings",
    )


def telling_addresses(answered_at: Mapping[str, float], quiet_since: float) -> tuple[str, ...]:
    """Those whose silence tells something, sorted."""
    return tuple(sorted(a for a, at in answered_at.items() if at >= quiet_since - TRUSTED_S))


def addresses(gateway: str | None, further: Sequence[str]) -> tuple[str, ...]:
    """All that are asked, each once; the gateway first."""
    return tuple(dict.fromkeys(a for a in (gateway, *further) if a))
