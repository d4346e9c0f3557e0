"""zugvogel.core.namesake: a beat of another boot under the own name, read once an interval of a second."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from zugvogel.core.namesake import TORN, Namesake, first_seen

OLD = "boot of before"


def read(counters: Iterable[int | None], every_s: float = 1.01, took_s: float = 0.01) -> list[Namesake]:
    """What is known after each reading; None: it was torn."""
    found: list[Namesake] = []
    for number, counter in enumerate(counters):
        began_at = 100.0 + every_s * number
        mark = (OLD, counter) if counter is not None else TORN
        if found:
            found.append(found[-1].observe(mark, began_at, began_at + took_s))
        else:
            found.append(first_seen(mark, began_at, began_at + took_s))
    return found


@pytest.mark.parametrize("took_s", [0.01, 0.5, 1.2, 2.8, 60.0])
def test_a_beat_that_nobody_writes_any_more_is_known_as_such_however_slow_the_datastore_is(took_s: float) -> None:
    readings = read([7, 7, 7, 7, 7, 7], max(1.01, took_s), took_s)
    assert not any(each.is_gone(1.0) for each in readings[:3])
    assert readings[-1].is_gone(1.0)
    assert not any(each.lives() for each in readings)


def test_the_fourth_reading_tells() -> None:
    assert [each.is_gone(1.0) for each in read([7, 7, 7, 7])] == [False, False, False, True]


def test_readings_that_follow_each_other_at_once_do_not_tell() -> None:
    assert not any(each.is_gone(1.0) for each in read([7] * 20, every_s=0.1))


def test_beats_that_follow_each_other_are_another_machine_s() -> None:
    readings = read(range(7, 13))
    assert [each.lives() for each in readings] == [False, False, False, False, False, True]


def test_once_it_was_seen_to_live_it_is_not_gone_when_it_halts() -> None:
    last = read([*range(7, 13), 12, 12, 12, 12])[-1]
    assert last.lives()
    assert not last.is_gone(1.0)


def test_writes_of_an_earlier_boot_that_hung_may_come_late() -> None:
    readings = read([7, 7, 8, 9, 10, 11, 11, 11, 11])
    assert [each.is_gone(1.0) for each in readings] == [False] * 8 + [True]
    assert not readings[-1].lives()


def test_a_torn_beat_is_neither_gone_nor_a_sign_of_life() -> None:
    readings = read([5, 6, None, 8, None, 9, 10, 11])
    assert [each.moves for each in readings] == [0, 1, 1, 2, 2, 3, 4, 5]
    readings = read([5, None, 5, None, 5, 5, 5, 5])
    assert [each.moves for each in readings] == [0] * 8
    assert [each.is_gone(1.0) for each in readings] == [False] * 7 + [True]
    assert read([5, None, None, None, None])[-1].is_gone(1.0)  # somebody took it away
