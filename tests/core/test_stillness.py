from hypothesis import given
from hypothesis import strategies as st

from zugvogel.core.stillness import Stillness, observe

GAP = 3.0


def test_a_moving_counter_is_never_still() -> None:
    seen = observe(None, ("b", 1), 10.0, GAP)
    for step in range(1, 50):
        assert seen is not None
        seen = observe(seen, ("b", 1 + step), 10.0 + step, GAP)
        assert seen is not None
        assert seen.still_s == 0


def test_a_new_boot_with_a_lower_counter_is_a_sign_of_life() -> None:
    seen = Stillness(("b", 9), 0.0, 2.0).observe(("c", 1), 3.0, GAP)
    assert (seen.mark, seen.still_s) == (("c", 1), 0)


def test_a_torn_file_is_no_sign_of_life() -> None:
    assert Stillness(("b", 9), 0.0, 2.0).observe(None, 3.0, GAP).still_s == 3.0


def test_never_seen_stays_unknown() -> None:
    assert observe(None, None, 5.0, GAP) is None


def test_counting_starts_anew_after_the_observer_was_blind() -> None:
    assert Stillness(("b", 9), 0.0, 10.0).observe(("b", 9), 14.0, GAP).still_s == 0


def test_a_new_mark_is_as_young_as_the_end_of_the_observation_and_an_old_one_as_its_start() -> None:
    seen = Stillness(("b", 1), 0.0, 0.0).observe(("b", 2), 1.0, GAP, 2.5)
    assert (seen.since, seen.seen_at) == (2.5, 2.5)
    assert seen.observe(("b", 2), 4.0, GAP, 5.0).still_s == 1.5
    assert observe(None, ("b", 1), 1.0, GAP, 2.0) == Stillness(("b", 1), 2.0, 2.0)


@given(st.lists(st.tuples(st.floats(0.01, 10), st.integers(0, 3), st.booleans()), max_size=60))
def test_stillness_never_exceeds_the_time_since_the_last_move_or_gap(
    steps: list[tuple[float, int, bool]],
) -> None:
    now, since, last = 0.0, 0.0, 0
    seen = observe(None, ("b", 0), now, GAP)
    for wait, counter, is_torn in steps:
        now += wait
        mark = None if is_torn else ("b", counter)
        if wait > GAP or (mark is not None and counter != last):
            since = now
        if mark is not None:
            last = counter
        seen = observe(seen, mark, now, GAP)
        assert seen is not None
        assert 0 <= seen.still_s <= now - since + 1e-6
