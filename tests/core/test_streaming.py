"""zugvogel.core.streaming: when memory is written while the vm runs, and when that ends."""

from __future__ import annotations

import pytest

from zugvogel.core import streaming
from zugvogel.domain.migration import Round

MB = 10**6
GB = 10**9


def rounds(*remaining_mb: float) -> list[Round]:
    return [
        Round(
            number=n + 1,
            transferred_bytes=0,
            remaining_bytes=int(mb * MB),
            dirty_rate_bps=0,
            throughput_bps=0,
            expected_downtime_ms=0,
            duration_s=1,
        )
        for n, mb in enumerate(remaining_mb)
    ]


@pytest.mark.parametrize(
    ("wish", "free", "dirty_bps", "is_streamed", "why"),
    [
        (None, 9 * GB, 10 * MB, True, "streamed"),
        (True, 9 * GB, 10 * MB, True, "streamed"),
        (False, 9 * GB, 10 * MB, False, ""),
        (None, 9 * GB, None, True, "streamed"),
        (True, 9 * GB, 71 * MB, False, "changes 71 MB/s, the datastore takes 100"),
        (None, 9 * GB, 70 * MB, True, "streamed"),
        (True, GB, 0.0, False, "needs 1907 MiB free, there are 953"),
        (None, 2 * GB, 0.0, True, "streamed"),
    ],
)
def test_the_method_follows_the_wish_where_it_can_work(
    wish: bool | None, free: int, dirty_bps: float | None, is_streamed: bool, why: str
) -> None:
    method = streaming.choose(wish, GB, free, 100 * MB, dirty_bps)
    assert method.is_streamed == is_streamed
    assert why in method.why


def test_a_datastore_that_was_not_measured_does_not_decide() -> None:
    assert streaming.choose(None, GB, 9 * GB, 0.0, 500 * MB).is_streamed


@pytest.mark.parametrize(("remaining_mb", "is_small"), [(0, True), (6, True), (6.1, False), (500, False)])
def test_the_last_round_is_short(remaining_mb: float, is_small: bool) -> None:
    assert streaming.is_small(int(remaining_mb * MB), 100 * MB) == is_small


@pytest.mark.parametrize("remaining_mb", [[100], [100, 70, 50, 30, 20], [100, 99, 60, 59, 40], [80, 79, 78]])
def test_rounds_that_shrink_go_on(remaining_mb: list[float]) -> None:
    assert streaming.why_no_further(rounds(*remaining_mb), 0, GB) == ""


@pytest.mark.parametrize("remaining_mb", [[80, 79, 78, 77], [100, 50, 49, 48, 60], [10, 90, 90, 90]])
def test_rounds_that_do_not_shrink_end(remaining_mb: list[float]) -> None:
    assert "did not shrink" in streaming.why_no_further(rounds(*remaining_mb), 0, GB)


def test_the_file_keeps_room_for_the_last_round() -> None:
    assert streaming.why_no_further(rounds(100), 790 * MB, GB) == ""
    assert "had grown to 810 MB" in streaming.why_no_further(rounds(100), 810 * MB, GB)
    assert streaming.why_no_further([], 2 * GB, GB) == ""


def test_the_rounds_are_bounded() -> None:
    shrinking = [1000 * 0.75**n for n in range(streaming.MOST_ROUNDS)]
    assert streaming.why_no_further(rounds(*shrinking[:-1]), 0, GB) == ""
    assert "rounds" in streaming.why_no_further(rounds(*shrinking), 0, GB)


@pytest.mark.parametrize(("free", "most"), [(100 * GB, 4 * GB), (3 * GB, 3 * GB)])
def test_the_file_is_bounded(free: int, most: int) -> None:
    assert streaming.most_bytes(GB, free) == most
