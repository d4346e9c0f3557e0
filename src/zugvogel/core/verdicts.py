"""What the evidence about a host proves (architecture, "Verdicts and what follows").

=============  =============  ============================================================
heartbeat      beats          verdict
=============  =============  ============================================================
heard          moving         live
silent for T   moving         isolated when its beat says so, else partitioned
heard          still 0.6 T    storage-lost (from then on its guard keeps its vms frozen); live where the beat
                              is of an earlier boot and this one was heard for less than that
silent for T   still for T    failed
never heard    not still      partitioned: nothing is known, and nothing may be done
=============  =============  ============================================================

`failed` lets all of a host's vms be started elsewhere, so it needs proof: silence for T here, nobody else
hears it, and at least one datastore *proves* stillness for T while none shows movement.
Without any datastore nothing can be proven; such a host is partitioned at worst, never failed.
Beats count per (host, datastore): what a host runs on a datastore it runs no more once its beat *there* stood
still for T and no heartbeat came to anybody for T, whatever it does elsewhere (`Judgement.dead_on`). A host that
still beats on another datastore keeps its verdict, isolated or partitioned, and with it its vms there. That it
beats shows that it does not hang and that its guard ticks. Where its last beat anywhere is older than that it
is waited for: in a moment it has failed, or beats.
Between "both fell silent" and T the host stays live, and `why` tells the silence: so one power cut gives
live -> failed, without a flicker of partitioned or storage-lost when one of the two reaches T first.
"""

from __future__ import annotations

from typing import NamedTuple

from zugvogel.domain.host import Verdict

FROZEN_AFTER = 0.6
"""Part of T without a finished beat after which a host's guard freezes its vms."""
APART = 0.2
"""Part of T by which one silence must exceed the other to count as a loss of its own."""
LATE_AFTER = 0.25
"""Part of T after which a beat still under way makes its datastore unusable for the host."""


class BeatEvidence(NamedTuple):
    """One datastore, as the judge reads it. `still_s` None: a beat of this host was never seen there.
    `is_readable`: the judge's own beats and reads succeed there now, and it has read this one lately.
    `is_same_place` False: the host told of a later beat by heartbeat than the judge can read, so the two look at
    different file systems."""

    datastore: str
    still_s: float | None
    is_readable: bool = True
    is_same_place: bool = True
    is_isolated: bool = False
    is_guarded: bool = False
    is_of_other_boot: bool = False
    """Than the last heartbeat: the host was started anew and has written none since."""


class HostEvidence(NamedTuple):
    """All about one host, in seconds on the judge's clock. `silence_s` counts from the last heartbeat heard
    here or from the start of the observer, whichever came later. `detection_time_s` is the greatest of the
    judge's T and those in the host's beats: a T that was lowered counts for a host once that host lives by it.
    `heard_by`: other hosts that tell they hear it now."""

    silence_s: float
    was_heard: bool
    detection_time_s: float
    beats: tuple[BeatEvidence, ...] = ()
    heard_by: tuple[str, ...] = ()
    boot_heard_s: float = float("inf")
    """For how long heartbeats of the boot that was heard last have come; it can beat no sooner."""


class Judgement(NamedTuple):
    """Datastores by name. `frozen_on`: its beat stood still there for 0.6 T, so, with high availability on,
    its guard keeps its vms there frozen. `dead_on`: it gave no sign of life there, nor by network to anybody, for
    T: what it held there may be proven to write no more (`core.death_proof`) and be started elsewhere."""

    verdict: Verdict
    why: str
    frozen_on: tuple[str, ...] = ()
    dead_on: tuple[str, ...] = ()


def in_maintenance(judgement: Judgement) -> Judgement:
    """Of a host that is: shown only while nothing worse is known of it."""
    return judgement._replace(verdict=Verdict.MAINTENANCE) if judgement.verdict is Verdict.LIVE else judgement


def judge(evidence: HostEvidence) -> Judgement:
    proofs = [b for b in evidence.beats if b.is_readable and b.is_same_place and b.still_s is not None]
    t = evidence.detection_time_s
    if evidence.silence_s < t and evidence.was_heard:
        return _heard(evidence, proofs)
    judgement = _silent(evidence, proofs)
    dead_on = _dead_on(evidence, proofs, judgement.verdict)
    why = judgement.why
    if dead_on and judgement.verdict is not Verdict.FAILED:
        why = f"{why}; on {', '.join(dead_on)} it stood still for {t:.0f} s: what it held there it runs no more"
    return Judgement(judgement.verdict, why, _still_for(FROZEN_AFTER * t, proofs), dead_on)


def _dead_on(evidence: HostEvidence, proofs: list[BeatEvidence], verdict: Verdict) -> tuple[str, ...]:
    t = evidence.detection_time_s
    if evidence.silence_s < t or evidence.heard_by:
        return ()
    if verdict is not Verdict.FAILED:
        is_cut_off = verdict in {Verdict.ISOLATED, Verdict.PARTITIONED}
        if not is_cut_off or all(_still(b) >= FROZEN_AFTER * t for b in proofs):
            return ()
    return _still_for(t, proofs)


def _still_for(seconds: float, beats: list[BeatEvidence]) -> tuple[str, ...]:
    return tuple(b.datastore for b in beats if _still(b) >= seconds)


def _heard(evidence: HostEvidence, proofs: list[BeatEvidence]) -> Judgement:
    t = evidence.detection_time_s
    has_begun = evidence.boot_heard_s >= FROZEN_AFTER * t
    due = proofs if has_begun else [b for b in proofs if not b.is_of_other_boot]
    least_s = max(FROZEN_AFTER * t, evidence.silence_s + APART * t)
    if lost := [b for b in due if (b.still_s or 0.0) >= least_s]:
        names = ", ".join(f"{b.datastore} for {_still(b):.0f} s" for b in lost)
        why = f"its heartbeat is heard, its beat stands still on {names}"
        return Judgement(Verdict.STORAGE_LOST, why, _still_for(FROZEN_AFTER * t, due))
    if evidence.silence_s < APART * t:
        not_begun = [] if has_begun else [b.datastore for b in proofs if b.is_of_other_boot]
        return Judgement(Verdict.LIVE, _moving(evidence, due, not_begun))
    return Judgement(
        Verdict.LIVE,
        f"last heard {evidence.silence_s:.0f} s ago; judged anew when {t:.0f} s are full",
        _still_for(FROZEN_AFTER * t, due),
    )


def _moving(evidence: HostEvidence, proofs: list[BeatEvidence], not_begun: list[str]) -> str:
    if not_begun:
        return f"heartbeat heard; it has just started, no beat of this boot yet on {', '.join(not_begun)}"
    if proofs:
        return "heartbeat heard, beat moving on " + ", ".join([b.datastore for b in proofs])
    unreadable = [b.datastore for b in evidence.beats if not b.is_readable]
    if unreadable:
        return f"heartbeat heard; beats cannot be read here now on {', '.join(unreadable)}"
    if evidence.beats:
        return "heartbeat heard; no beat of it was seen yet"
    return "heartbeat heard; there is no datastore to beat on"


def _silent(evidence: HostEvidence, proofs: list[BeatEvidence]) -> Judgement:
    t = evidence.detection_time_s
    silence = f"no heartbeat for {evidence.silence_s:.0f} s" if evidence.was_heard else "not heard here yet"
    if not proofs:
        return Judgement(Verdict.PARTITIONED, f"{silence}, and {_no_proof(evidence)}")
    latest = min(proofs, key=_still)
    if _still(latest) >= t and evidence.silence_s >= t:
        return _dead(evidence, silence, latest)
    is_apart = not evidence.was_heard or _still(latest) < evidence.silence_s - APART * t
    if not is_apart:
        return Judgement(
            Verdict.LIVE, f"{silence}, no beat for {_still(latest):.0f} s; failed at {t:.0f} s of both"
        )
    if latest.is_isolated:
        return Judgement(Verdict.ISOLATED, f"{silence}; its beat on {latest.datastore} says that it is isolated")
    heard = f", heard by {', '.join(evidence.heard_by)}" if evidence.heard_by else ""
    beat = f"its beat on {latest.datastore} moved {_still(latest):.0f} s ago"
    return Judgement(Verdict.PARTITIONED, f"{silence}{heard}; {beat}")


def _dead(evidence: HostEvidence, silence: str, latest: BeatEvidence) -> Judgement:
    still = f"its beat on {latest.datastore} stood still for {_still(latest):.0f} s"
    if evidence.heard_by:
        heard = f"still heard by {', '.join(evidence.heard_by)}"
        return Judgement(Verdict.STORAGE_LOST, f"{silence}, but {heard}; {still}")
    return Judgement(Verdict.FAILED, f"{silence}; {still}")


def _no_proof(evidence: HostEvidence) -> str:
    if not evidence.beats:
        return "without a datastore nothing tells dead from cut off"
    if any(not b.is_same_place for b in evidence.beats):
        return "it told of beats that this host does not find: the two see different file systems"
    if any(not b.is_readable for b in evidence.beats):
        return "its beats cannot be read here now"
    return "it never wrote a beat that this host saw"


def _still(beat: BeatEvidence) -> float:
    return beat.still_s if beat.still_s is not None else 0.0
