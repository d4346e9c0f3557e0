from __future__ import annotations

import pytest

from zugvogel.cli.capacity_view import NARROWEST, WIDEST, capacity_bar, shares

GIB = 2**30


@pytest.mark.parametrize(
    ("amounts", "cells"),
    [
        ([6, 4, 2], [30, 20, 10]),
        ([1, 1, 10**6], [1, 1, 58]),
        ([0, 0, 5], [0, 0, 60]),
        ([5, 5, 0], [30, 30, 0]),
        ([0, 0, 0], [0, 0, 60]),
    ],
)
def test_every_part_that_is_there_is_seen(amounts: list[int], cells: list[int]) -> None:
    assert shares(amounts, 60) == cells


@pytest.mark.parametrize("width", [58, 59, 60])
def test_the_bar_is_always_full(width: int) -> None:
    for used in range(40):
        assert sum(shares([used, 7, 40 - used], width)) == width


def test_wide_and_narrow_terminals() -> None:
    admission = {"used": 6 * GIB, "reserved": 4 * GIB, "free": 2 * GIB}
    wide = capacity_bar(admission, 200).plain
    assert len(wide.splitlines()[0]) == WIDEST
    assert "reserved 4.0 GiB" in wide.splitlines()[1]
    assert all(len(line) <= NARROWEST for line in capacity_bar(admission, NARROWEST).plain.splitlines())
    narrow = capacity_bar(admission, NARROWEST - 1).plain
    assert narrow == "used 6.0 GiB\nreserved 4.0 GiB\nfree 2.0 GiB"
