from __future__ import annotations

import pytest

from zugvogel.console.silence import beat, marks_of, scale


def test_marks_follow_from_the_detection_time() -> None:
    assert [(mark.name, mark.at_s) for mark in marks_of(15)] == [
        ("frozen", 9.0),
        ("isolated", 12.0),
        ("failed", 15.0),
    ]
    assert [mark.x for mark in marks_of(15)] == [mark.x for mark in marks_of(3)], "the axis grows with it"


def test_the_heartbeat_comes_first_then_the_beats_in_the_order_of_names() -> None:
    rows = scale(15, 0.5, {"san10": 1, "san2": 2}).rows
    assert [row.of for row in rows] == ["", "san2", "san10"]


@pytest.mark.parametrize(
    ("age_s", "of_beat", "of_heartbeat"),
    [
        (8.9, "", ""),
        (9.0, "frozen", ""),
        (12.0, "frozen", "isolated"),
        (15.0, "failed", "failed"),
        (99.0, "failed", "failed"),
    ],
)
def test_what_an_age_has_reached(age_s: float, of_beat: str, of_heartbeat: str) -> None:
    heartbeat, found = scale(15, age_s, {"san": age_s}).rows
    assert (found.reached, heartbeat.reached) == (of_beat, of_heartbeat)


def test_a_bar_is_as_long_as_its_age_and_never_longer_than_the_axis() -> None:
    assert beat("san", 9, 15).width == beat("san", 9, 15).marks[0].x
    assert beat("san", 1000, 15).width == 100


def test_a_beat_that_never_was_has_no_bar() -> None:
    never = beat("san", None, 15)
    assert (never.age_s, never.width, never.reached) == (None, 0, "")
