from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zugvogel.core.isolation import IsolationEvidence, addresses, judge, telling_addresses

T = 15.0
NOW = 1000.0
CUT_OFF = IsolationEvidence(
    now=NOW,
    has_others=True,
    quiet_since=NOW - 12.0,
    detection_time_s=T,
    answered_at={"192.0.2.1": NOW - 20.0},
    unanswered_rounds=9,
)


@pytest.mark.parametrize("t", [3.0, 6.0, 15.0, 120.0])
def test_just_before_and_just_after_twelve_fifteenths_of_t(t: float) -> None:
    before = replace(CUT_OFF, detection_time_s=t, quiet_since=NOW - 0.8 * t + 0.001)
    after = replace(CUT_OFF, detection_time_s=t, quiet_since=NOW - 0.8 * t - 0.001)
    assert not judge(before).is_isolated
    assert judge(after).is_isolated
    assert "192.0.2.1 did not answer 9 pings" in judge(after).why


def test_any_sign_begins_the_count_anew() -> None:
    assert not judge(replace(CUT_OFF, quiet_since=NOW)).is_isolated


def test_a_host_alone_in_its_cluster_is_never_isolated() -> None:
    judgement = judge(replace(CUT_OFF, has_others=False, quiet_since=0.0))
    assert (judgement.is_isolated, judgement.why) == (False, "it is alone in its cluster")


def test_without_an_address_that_ever_answered_never() -> None:
    judgement = judge(replace(CUT_OFF, quiet_since=0.0, answered_at={}, unanswered_rounds=900))
    assert not judgement.is_isolated
    assert "ever answered" in judgement.why


def test_an_address_that_stopped_answering_long_before_tells_nothing() -> None:
    late = {"192.0.2.1": CUT_OFF.quiet_since - 300.1}
    assert not judge(replace(CUT_OFF, answered_at=late)).is_isolated
    assert judge(replace(CUT_OFF, answered_at={**late, "192.0.2.2": NOW - 100})).is_isolated
    assert telling_addresses({**late, "192.0.2.2": NOW - 100}, CUT_OFF.quiet_since) == ("192.0.2.2",)


def test_it_stays_isolated_for_as_long_as_it_is_cut_off() -> None:
    assert judge(replace(CUT_OFF, now=NOW + 86_400)).is_isolated


@pytest.mark.parametrize(("rounds", "is_isolated"), [(0, False), (2, False), (3, True)])
def test_silence_counts_only_of_addresses_that_were_asked(rounds: int, is_isolated: bool) -> None:
    assert judge(replace(CUT_OFF, unanswered_rounds=rounds)).is_isolated is is_isolated


@given(
    st.builds(
        IsolationEvidence,
        st.just(NOW),
        st.booleans(),
        st.floats(0, NOW),
        st.floats(3, 120),
        st.dictionaries(st.sampled_from(["a", "b"]), st.floats(0, NOW)),
        st.integers(0, 10),
    )
)
def test_isolated_needs_everything(e: IsolationEvidence) -> None:
    judgement = judge(e)
    proven = (
        e.has_others
        and NOW - e.quiet_since >= 12 / 15 * e.detection_time_s
        and any(at >= e.quiet_since - 300 for at in e.answered_at.values())
        and e.unanswered_rounds >= 3
    )
    assert judgement.is_isolated == proven
    assert judgement.why


def test_the_gateway_and_further_addresses_are_asked_once_each() -> None:
    assert addresses("192.0.2.1", ["192.0.2.9", "", "192.0.2.1"]) == ("192.0.2.1", "192.0.2.9")
    assert addresses(None, ["2001:db8::1"]) == ("2001:db8::1",)
    assert addresses(None, []) == ()
