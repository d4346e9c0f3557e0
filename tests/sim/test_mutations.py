"""The simulator finds what it is for: each of the three rules that keep a vm from running twice, taken out of the
product, makes a soak of at most 200 short seeds fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from zugvogel.core import lease_rules, verdicts
from zugvogel.core.roles import Policy
from zugvogel.core.verdicts import HostEvidence, Judgement
from zugvogel.domain.host import Verdict
from zugvogel.domain.lease import Holder, Lease, LeaseState
from zugvogel.services.beats import BeatService
from zugvogel.services.ha import guarding
from zugvogel.services.ha.roles import Roles
from zugvogel.sim.soak import Size, one

SIZE = Size(hosts=4, vms=8, horizon_s=300.0)
SEEDS = range(1, 201)
FIRST = {"epoch_rule": 41, "freeze_rule": 41}
"""A seed that found it before is tried first; the others follow."""


def freeze_rule(patch: pytest.MonkeyPatch) -> None:
    """Vms are frozen long after others count their host as dead."""
    patch.setattr(guarding, "FROZEN_AFTER", 20.0)


def beat_age_rule(patch: pytest.MonkeyPatch) -> None:
    """A host whose heartbeats are missed is failed, whatever its beats say."""
    real = verdicts._silent

    def silent(evidence: HostEvidence, proofs: list[verdicts.BeatEvidence]) -> Judgement:
        if evidence.was_heard and evidence.silence_s >= evidence.detection_time_s:
            return Judgement(Verdict.FAILED, "no heartbeat")
        return real(evidence, proofs)

    def dead_on(evidence: HostEvidence, proofs: list[verdicts.BeatEvidence], verdict: Verdict) -> tuple[str, ...]:
        return tuple(beat.datastore for beat in proofs) if verdict is Verdict.FAILED else ()

    patch.setattr(verdicts, "_silent", silent)
    patch.setattr(verdicts, "_dead_on", dead_on)
    patch.setattr(BeatService, "is_silent", lambda self, datastore, host: True)


def epoch_rule(patch: pytest.MonkeyPatch) -> None:
    """Whoever wants to run a vm takes the next epoch, whatever the lease says and whichever it was judged from."""

    def take(lease: Lease | None, vm: str, me: Holder, *, why: str, at: str = "", **_: object) -> Lease:
        epoch = lease.epoch + 1 if lease is not None else 1
        return Lease(vm=vm, epoch=epoch, state=LeaseState.RUNNING, holder=me, why=why, written_at=at)

    patch.setattr(lease_rules, "start", take)
    patch.setattr(lease_rules, "go_on", take)
    patch.setattr(lease_rules, "holds", lambda lease, me: True)


@pytest.mark.parametrize("rule", [freeze_rule, beat_age_rule, epoch_rule])
def test_without_it_a_short_soak_fails(
    rule: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    rule(monkeypatch)
    for seed in sorted(SEEDS, key=lambda seed: seed != FIRST.get(rule.__name__)):
        told = [v for v in one(seed, SIZE).violations if v.startswith(("once", "proof"))]
        if told:
            return
    pytest.fail(f"{len(SEEDS)} seeds found nothing without the {rule.__name__.replace('_', ' ')}")


def test_a_failure_that_promotes_somebody_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was done to roles before."""
    monkeypatch.setattr(Roles, "_policy", lambda roles: Policy(30.0))
    size = Size(hosts=7, vms=4, horizon_s=300.0)
    for seed in range(1, 40):
        if any(v.startswith("roles") for v in one(seed, size).violations):
            return
    pytest.fail("no seed found that a primary which stays failed is replaced under the static policy")
