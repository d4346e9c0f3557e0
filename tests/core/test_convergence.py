"""The ladder of downtime limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zugvogel.core.convergence import LADDER_MS, channels_for, first_limit_ms, next_limit_ms
from zugvogel.domain.migration import Round


def rounds(*remaining: int) -> list[Round]:
    return [
        Round(
            number=i + 1,
            transferred_bytes=1,
            remaining_bytes=left,
            dirty_rate_bps=0,
            throughput_bps=1,
            expected_downtime_ms=1,
            duration_s=1,
        )
        for i, left in enumerate(remaining)
    ]


def test_it_starts_low_and_stays_while_rounds_shrink() -> None:
    assert first_limit_ms(300) == 30
    assert next_limit_ms(30, rounds(100, 50), 300) == 30
    assert next_limit_ms(30, rounds(100), 300) == 30


def test_it_climbs_one_rung_when_they_do_not() -> None:
    assert next_limit_ms(30, rounds(100, 90), 300) == 60
    assert next_limit_ms(60, rounds(100, 100), 300) == 120
    assert next_limit_ms(300, rounds(100, 100), 300) == 300
    assert next_limit_ms(300, rounds(100, 100), 2000) == 500


@given(
    st.integers(1, 10_000),
    st.lists(st.integers(0, 1 << 40), max_size=6),
    st.integers(10, 10_000),
)
def test_never_above_the_users_bound_never_down(current: int, left: list[int], bound: int) -> None:
    found = next_limit_ms(current, rounds(*left), bound)
    assert found <= bound
    assert found >= min(current, bound)


def test_the_ladder_rises() -> None:
    assert list(LADDER_MS) == sorted(set(LADDER_MS))


@pytest.mark.parametrize(("cores", "channels"), [(1, 1), (2, 1), (4, 1), (8, 2), (16, 4), (128, 4)])
def test_streams_follow_the_smaller_hosts_cores(cores: int, channels: int) -> None:
    assert channels_for(cores) == channels
