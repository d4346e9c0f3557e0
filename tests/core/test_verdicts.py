import pytest
from hypothesis import given
from hypothesis import strategies as st

from zugvogel.core.verdicts import (
    BeatEvidence,
    HostEvidence,
    Judgement,
    in_maintenance,
    judge,
)
from zugvogel.domain.host import Verdict

T = 15.0
TABLE = {
    "heard and beating": (0.5, (BeatEvidence("a", 0.5),), Verdict.LIVE),
    "heard, no datastore in the cluster": (0.5, (), Verdict.LIVE),
    "heard, judge cannot read the datastore": (0.5, (BeatEvidence("a", 20, is_readable=False),), Verdict.LIVE),
    "heard, never wrote a beat": (0.5, (BeatEvidence("a", None),), Verdict.LIVE),
    "heard, one of two datastores still": (
        0.5, (BeatEvidence("a", 0.5), BeatEvidence("b", 9.5)), Verdict.STORAGE_LOST),
    "silent, beat moves": (15.0, (BeatEvidence("a", 0.5),), Verdict.PARTITIONED),
    "silent, beat says isolated": (15.0, (BeatEvidence("a", 0.5, is_isolated=True),), Verdict.ISOLATED),
    "silent, still": (15.0, (BeatEvidence("a", 15.0),), Verdict.FAILED),
    "silent, still, was isolated": (15.0, (BeatEvidence("a", 15.0, is_isolated=True),), Verdict.FAILED),
    "silent, still on one, moving on the other": (
        20.0, (BeatEvidence("a", 20.0), BeatEvidence("b", 1.0)), Verdict.PARTITIONED),
    "silent, no datastore": (60.0, (), Verdict.PARTITIONED),
    "silent, datastore unreadable": (60.0, (BeatEvidence("a", 60.0, is_readable=False),), Verdict.PARTITIONED),
    "silent, another file system": (60.0, (BeatEvidence("a", 60.0, is_same_place=False),), Verdict.PARTITIONED),
    "power cut, beat one second younger": (15.2, (BeatEvidence("a", 14.3),), Verdict.LIVE),
    "power cut, heartbeat one second younger": (14.3, (BeatEvidence("a", 15.2),), Verdict.LIVE),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_the_architectures_table(name: str) -> None:
    silence_s, beats, verdict = TABLE[name]
    judgement = judge(HostEvidence(silence_s, True, T, beats))
    assert judgement.verdict is verdict, judgement.why
    assert judgement.why


B_MOVES, B_SAYS_ISOLATED = BeatEvidence("b", 1.0), BeatEvidence("b", 1.0, is_isolated=True)


@pytest.mark.parametrize(("lives", "verdict"), [(B_MOVES, "partitioned"), (B_SAYS_ISOLATED, "isolated")])
def test_a_host_is_dead_on_the_datastore_where_it_stands_still_and_keeps_its_verdict(
    lives: BeatEvidence, verdict: str
) -> None:
    silent = HostEvidence(15.0, True, T, (BeatEvidence("a", 15.0), lives))
    found = judge(silent)
    assert (found.verdict, found.frozen_on, found.dead_on) == (Verdict(verdict), ("a",), ("a",))
    assert "on a it stood still for 15 s" in found.why
    assert judge(silent._replace(heard_by=("h3",))).dead_on == ()
    assert judge(silent._replace(silence_s=14.9)).dead_on == ()
    for beat in (
        BeatEvidence("a", 14.9),
        BeatEvidence("a", None),
        BeatEvidence("a", 60.0, is_readable=False),
        BeatEvidence("a", 60.0, is_same_place=False),
    ):
        assert judge(silent._replace(silence_s=60.0, beats=(beat, lives))).dead_on == ()


def test_a_host_that_may_hang_as_a_whole_is_dead_nowhere_before_it_has_failed() -> None:
    def dead_on(still_b_s: float) -> tuple[str, ...]:
        beats = (BeatEvidence("a", 20.0), BeatEvidence("b", still_b_s))
        return judge(HostEvidence(20.0, True, T, beats)).dead_on

    assert dead_on(8.9) == ("a",)
    assert dead_on(9.0) == dead_on(14.9) == ()
    assert dead_on(15.0) == ("a", "b")


def test_a_failed_host_is_dead_only_where_it_was_seen_to_stand_still() -> None:
    beats = (BeatEvidence("a", 16.0), BeatEvidence("b", 16.0, is_readable=False), BeatEvidence("c", None))
    found = judge(HostEvidence(16.0, True, T, beats))
    assert (found.verdict, found.dead_on) == (Verdict.FAILED, ("a",))


def test_a_host_that_is_heard_has_frozen_what_lies_where_it_stands_still() -> None:
    found = judge(HostEvidence(0.5, True, T, (BeatEvidence("a", 9.0), BeatEvidence("b", 0.5))))
    assert (found.verdict, found.frozen_on, found.dead_on) == (Verdict.STORAGE_LOST, ("a",), ())
    old = BeatEvidence("a", 9.0, is_of_other_boot=True)
    assert judge(HostEvidence(0.5, True, T, (old,), boot_heard_s=1.0)).frozen_on == ()


def test_a_host_that_another_host_hears_is_not_failed() -> None:
    evidence = HostEvidence(20, True, T, (BeatEvidence("a", 20.0),), heard_by=("h3",))
    judgement = judge(evidence)
    assert judgement.verdict is Verdict.STORAGE_LOST
    assert "h3" in judgement.why


@pytest.mark.parametrize("boot_heard_s", [0.0, 5.0, 8.9, 9.0, 20.0])
def test_a_host_that_has_just_started_is_not_storage_lost_before_it_could_have_beaten(boot_heard_s: float) -> None:
    old = BeatEvidence("a", 14.0, is_of_other_boot=True)
    evidence = HostEvidence(0.5, True, T, (old, BeatEvidence("b", 0.5)), boot_heard_s=boot_heard_s)
    judgement = judge(evidence)
    if boot_heard_s < 9.0:
        assert judgement.verdict is Verdict.LIVE
        assert judgement.why == "heartbeat heard; it has just started, no beat of this boot yet on a"
    else:
        assert judgement.verdict is Verdict.STORAGE_LOST
    of_this_boot = evidence._replace(beats=(old._replace(is_of_other_boot=False),))
    assert judge(of_this_boot).verdict is Verdict.STORAGE_LOST


@pytest.mark.parametrize("boot_heard_s", [0.0, 15.0, float("inf")])
@pytest.mark.parametrize("heard_by", [(), ("h3",)])
def test_a_start_weakens_no_proof_of_death(boot_heard_s: float, heard_by: tuple[str, ...]) -> None:
    plain = HostEvidence(15.0, True, T, (BeatEvidence("a", 15.0),), heard_by)
    started = plain._replace(beats=(BeatEvidence("a", 15.0, is_of_other_boot=True),), boot_heard_s=boot_heard_s)
    assert judge(started) == judge(plain)
    assert judge(started).verdict is (Verdict.STORAGE_LOST if heard_by else Verdict.FAILED)


def test_a_host_never_heard_is_not_called_live() -> None:
    assert judge(HostEvidence(0.1, False, T, ())).verdict is Verdict.PARTITIONED
    assert judge(HostEvidence(1.0, False, T, (BeatEvidence("a", 0.0),))).verdict is Verdict.PARTITIONED


def test_maintenance_is_shown_only_of_hosts_of_which_nothing_worse_is_known() -> None:
    for verdict in Verdict:
        shown = in_maintenance(Judgement(verdict, "why"))
        assert shown == Judgement(Verdict.MAINTENANCE if verdict is Verdict.LIVE else verdict, "why")


beats = st.builds(
    BeatEvidence,
    st.sampled_from(["a", "b"]),
    st.none() | st.floats(0, 60),
    is_readable=st.booleans(),
    is_same_place=st.booleans(),
    is_isolated=st.booleans(),
)
evidence = st.builds(
    HostEvidence,
    st.floats(0, 60),
    st.booleans(),
    st.floats(3, 30),
    st.lists(beats, max_size=3).map(tuple),
    st.sampled_from([(), ("h2",)]),
)


@given(evidence)
def test_failed_needs_full_proof(e: HostEvidence) -> None:
    proofs = [b for b in e.beats if b.is_readable and b.is_same_place and b.still_s is not None]
    proven = (
        e.silence_s >= e.detection_time_s
        and bool(proofs)
        and all(b.still_s is not None and b.still_s >= e.detection_time_s for b in proofs)
        and not e.heard_by
    )
    assert (judge(e).verdict is Verdict.FAILED) == proven


@given(evidence)
def test_dead_on_a_datastore_needs_full_proof_there(e: HostEvidence) -> None:
    found = judge(e)
    proven = {
        b.datastore
        for b in e.beats
        if b.is_readable and b.is_same_place and b.still_s is not None and b.still_s >= e.detection_time_s
    }
    assert set(found.dead_on) <= proven
    assert not found.dead_on or (e.silence_s >= e.detection_time_s and not e.heard_by)
    assert not found.dead_on or found.verdict in {Verdict.FAILED, Verdict.ISOLATED, Verdict.PARTITIONED}
    assert set(found.dead_on) <= set(found.frozen_on)
    assert found.verdict is not Verdict.FAILED or set(found.dead_on) == proven


@given(st.floats(0, 1), st.floats(0, 1), st.floats(3, 60))
def test_a_power_cut_goes_from_live_to_failed_without_a_flicker(beat_lag: float, net_lag: float, t: float) -> None:
    """Beat and heartbeat stop within 0.2 T of each other, whatever their phase."""
    seen = []
    for tenth in range(30):
        passed = tenth * t / 20
        silence, still = passed + net_lag * 0.19 * t, passed + beat_lag * 0.19 * t
        seen.append(judge(HostEvidence(silence, True, t, (BeatEvidence("a", still),))).verdict)
    assert set(seen) == {Verdict.LIVE, Verdict.FAILED}
    assert seen == sorted(seen, key=lambda v: v is Verdict.FAILED)
