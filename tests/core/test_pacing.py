from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zugvogel.core.pacing import LEAST_BPS, UNLIMITED, next_limit

T = 15.0
MB = 1_000_000
rates = st.integers(0, 10**10)
limits = st.one_of(st.just(UNLIMITED), st.integers(LEAST_BPS, 10**10))


def test_nothing_is_limited_while_beats_are_in_time() -> None:
    assert next_limit(UNLIMITED, 900 * MB, 0.01, T) == UNLIMITED
    assert next_limit(UNLIMITED, 900 * MB, 0.09 * T, T) == UNLIMITED


def test_a_late_beat_halves_what_is_written() -> None:
    assert next_limit(UNLIMITED, 900 * MB, 0.11 * T, T) == 450 * MB
    assert next_limit(450 * MB, 400 * MB, 0.11 * T, T) == 200 * MB


def test_between_late_and_in_time_it_stays() -> None:
    assert next_limit(200 * MB, 200 * MB, 0.07 * T, T) == 200 * MB


def test_it_is_raised_step_by_step_and_lifted_when_the_storage_is_slower_anyway() -> None:
    limit, looks = 100 * MB, 0
    while limit != UNLIMITED:
        limit = next_limit(limit, min(limit, 300 * MB), 0.01, T)
        looks += 1
    assert looks == 7


@given(limits, rates, st.floats(0.1001, 10))
def test_a_late_beat_never_lets_more_through_and_never_stops_it(limit: int, written: int, beats: float) -> None:
    after = next_limit(limit, written, beats * T, T)
    assert after >= LEAST_BPS
    assert after <= max(LEAST_BPS, written / 2)


@given(limits, rates, st.floats(0, 0.1))
def test_a_beat_in_time_never_slows_it_down(limit: int, written: int, beats: float) -> None:
    after = next_limit(limit, written, beats * T, T)
    assert after == UNLIMITED or after >= limit > 0
