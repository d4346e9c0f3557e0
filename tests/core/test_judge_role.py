from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zugvogel.core.judge_role import (
    Candidate,
    Incumbent,
    RoleEvidence,
    RoleStep,
    claim,
    counts,
    decide,
    hear_each_other,
    is_mine,
    release,
    why_free,
)
from zugvogel.domain.lease import Holder, Lease, LeaseState

T = 15.0
ME = Holder(host="h1", boot_id="b1")
OLD_ME = Holder(host="h1", boot_id="b0")
OTHER = Holder(host="h2", boot_id="c1")
FIT = Candidate(is_primary=True, is_in_maintenance=False, is_isolated=False, beat_age_s=1.0, detection_time_s=T)
JUDGING = Incumbent(is_primary=True, is_in_maintenance=False, is_isolated=False, still_s=1.0, detection_time_s=T)


def held_by(holder: Holder | None, epoch: int = 3) -> Lease:
    state = LeaseState.RUNNING if holder else LeaseState.RELEASED
    return Lease(vm="active-primary", epoch=epoch, state=state, holder=holder, why="it is isolated")


def evidence(
    lease: Lease | None,
    candidate: Candidate = FIT,
    holder: Incumbent | None = JUDGING,
    waited_s: float = 0.0,
    rank: int = 0,
) -> RoleEvidence:
    return RoleEvidence(ME, lease, candidate, holder, waited_s, rank, 1.0)


HAD_IT = "h2, which had it,"
FREE = {
    "never held": (None, None, "nobody has had the role"),
    "given up": (held_by(None), None, "it was given up: it is isolated"),
    "by an earlier boot": (held_by(OLD_ME), JUDGING, "an earlier boot of h1 had it"),
    "removed": (held_by(OTHER), None, f"{HAD_IT} is no primary any more"),
    "demoted": (held_by(OTHER), replace(JUDGING, is_primary=False), f"{HAD_IT} is no primary any more"),
    "in maintenance": (held_by(OTHER), replace(JUDGING, is_in_maintenance=True), f"{HAD_IT} is in maintenance"),
    "isolated": (held_by(OTHER), replace(JUDGING, is_isolated=True), f"{HAD_IT} is isolated"),
    "still for T": (held_by(OTHER), replace(JUDGING, still_s=T), f"{HAD_IT} has finished no round for 15 s"),
}
NOT_FREE = {
    "judging": JUDGING,
    "still for almost T": replace(JUDGING, still_s=T - 0.01),
    "still for this host's T, not for its own longer one": replace(JUDGING, still_s=T, detection_time_s=2 * T),
}
UNFIT = {
    "a secondary": (replace(FIT, is_primary=False), "it is no primary"),
    "in maintenance": (replace(FIT, is_in_maintenance=True), "it is in maintenance"),
    "isolated": (replace(FIT, is_isolated=True), "it is isolated"),
    "deaf": (
        replace(FIT, hear_each_other=True, silence_s=0.8 * T),
        "it hears nobody, while others hear each other",
    ),
}
SILENT = {
    "no beat yet": replace(FIT, beat_age_s=None),
    "beat 0.6 T old": replace(FIT, beat_age_s=0.6 * T),
}


@pytest.mark.parametrize("name", FREE)
def test_a_free_role_is_claimed_with_the_reason(name: str) -> None:
    lease, holder, why = FREE[name]
    decision = decide(evidence(lease, holder=holder))
    assert (decision.step, decision.why) == (RoleStep.CLAIM, why)


@pytest.mark.parametrize("name", NOT_FREE)
def test_a_role_that_is_exercised_is_left_alone(name: str) -> None:
    decision = decide(evidence(held_by(OTHER), holder=NOT_FREE[name], waited_s=1000))
    assert (decision.step, decision.why) == (RoleStep.WAIT, "h2 has the role")


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("reason", [*UNFIT, *SILENT])
def test_only_a_host_that_could_judge_claims(name: str, reason: str) -> None:
    lease, holder, _ = FREE[name]
    candidate = UNFIT[reason][0] if reason in UNFIT else SILENT[reason]
    assert decide(evidence(lease, candidate, holder, waited_s=1000)).step is RoleStep.WAIT


@pytest.mark.parametrize("name", UNFIT)
def test_a_holder_that_may_not_judge_gives_the_role_up(name: str) -> None:
    candidate, why = UNFIT[name]
    decision = decide(evidence(held_by(ME), candidate, None))
    assert (decision.step, decision.why) == (RoleStep.RELEASE, why)


@pytest.mark.parametrize("name", SILENT)
def test_a_holder_without_beats_keeps_the_role_and_does_not_judge(name: str) -> None:
    assert decide(evidence(held_by(ME), SILENT[name], None)).step is RoleStep.KEEP
    assert not counts(SILENT[name], 0.0)


def test_a_holder_keeps_its_role() -> None:
    assert decide(evidence(held_by(ME), FIT, None)).step is RoleStep.KEEP


@pytest.mark.parametrize(("waited_s", "step"), [(0.0, "wait"), (2.99, "wait"), (3.0, "claim"), (99.0, "claim")])
def test_those_of_a_smaller_ordinal_come_first_by_an_interval_each(waited_s: float, step: str) -> None:
    assert decide(evidence(None, holder=None, waited_s=waited_s, rank=3)).step == step


def test_an_own_earlier_role_is_claimed_without_waiting() -> None:
    assert decide(evidence(held_by(OLD_ME), rank=3)).step is RoleStep.CLAIM


@pytest.mark.parametrize(
    ("reading_age_s", "is_judge"), [(None, False), (0.0, True), (8.99, True), (9.0, False), (60.0, False)]
)
def test_a_role_counts_only_by_a_fresh_reading(reading_age_s: float | None, is_judge: bool) -> None:
    assert counts(FIT, reading_age_s) is is_judge


@pytest.mark.parametrize("name", UNFIT)
def test_it_never_counts_for_a_host_that_may_not_have_it(name: str) -> None:
    assert not counts(UNFIT[name][0], 0.0)


def test_claim_and_release_link_the_next_epoch() -> None:
    first = claim(None, ME, why="nobody has had the role")
    assert (first.epoch, first.vm, first.holder, is_mine(first, ME)) == (1, "active-primary", ME, True)
    given_up = release(first, why="it is in maintenance")
    assert (given_up.epoch, given_up.state, given_up.holder) == (2, LeaseState.RELEASED, None)
    assert claim(given_up, OTHER, why="").epoch == 3
    assert not is_mine(claim(given_up, OTHER, why=""), ME)


candidates = st.builds(
    Candidate, st.booleans(), st.booleans(), st.booleans(), st.none() | st.floats(0, 40), st.floats(3, 30)
)
incumbents = st.none() | st.builds(
    Incumbent, st.booleans(), st.booleans(), st.booleans(), st.floats(0, 60), st.floats(3, 30)
)
leases = st.sampled_from([None, held_by(None), held_by(ME), held_by(OLD_ME), held_by(OTHER)])


@given(st.builds(RoleEvidence, st.just(ME), leases, candidates, incumbents, st.floats(0, 60), st.integers(0, 4),
                 st.floats(0.2, 10)))  # fmt: skip
def test_who_claims_could_judge_and_takes_it_from_nobody_that_does(e: RoleEvidence) -> None:
    decision = decide(e)
    is_mine_now = is_mine(e.lease, ME)
    assert (decision.step in {RoleStep.KEEP, RoleStep.RELEASE}) == is_mine_now
    if decision.step is RoleStep.CLAIM:
        assert counts(e.candidate, 0.0)
        assert e.lease is None or e.lease.holder != OTHER or e.holder is None or (
            not e.holder.is_primary or e.holder.is_in_maintenance or e.holder.is_isolated
            or e.holder.still_s >= e.holder.detection_time_s
        )  # fmt: skip
    assert decision.why


@given(st.floats(3, 120), st.floats(0, 200), st.floats(0.9, 1.1), st.floats(0.9, 1.1))
def test_a_silent_holder_has_stopped_before_its_role_is_free(
    t: float, passed_s: float, rate: float, other: float
) -> None:
    """With clocks that run 10 % apart too: it counts from the start of its last beat, the others from later."""
    holder = replace(FIT, beat_age_s=passed_s * rate, detection_time_s=t)
    as_seen = replace(JUDGING, still_s=passed_s * other, detection_time_s=t)
    assert not (counts(holder, passed_s * rate) and why_free(held_by(OTHER), "h1", as_seen))


@pytest.mark.parametrize("change", [{"silence_s": 0.79 * T}, {"hear_each_other": False}])
def test_a_host_that_hears_somebody_or_is_alone_keeps_its_role(change: dict[str, float]) -> None:
    deaf = replace(FIT, hear_each_other=True, silence_s=5 * T)
    assert deaf.why_unfit
    assert replace(deaf, **change).why_unfit == ""  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hears", "could_judge", "do_hear"),
    [
        ({"h2": ("h3",), "h3": ("h2",)}, {"h2", "h3"}, True),
        ({"h2": ("h3",), "h3": ("h2",)}, {"h3"}, True),
        ({"h2": ("h3",), "h3": ("h2",)}, set(), False),
        ({"h2": ("h3",), "h3": ("h2",)}, {"h4"}, False),
        ({"h2": ("h3",), "h3": ()}, {"h2", "h3"}, False),
        ({"h2": ("h3",)}, {"h2", "h3"}, False),
        ({"h2": ("h2",)}, {"h2"}, False),
        ({}, {"h2"}, False),
    ],
)
def test_two_hosts_are_in_touch_where_each_names_the_other(
    hears: dict[str, tuple[str, ...]], could_judge: set[str], do_hear: bool
) -> None:
    assert hear_each_other(hears, could_judge) is do_hear
