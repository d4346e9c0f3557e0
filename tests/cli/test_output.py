from __future__ import annotations

import pytest

from zugvogel.cli.output import parse_size, seconds, size
from zugvogel.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "count"),
    [("2G", 2**31), ("512M", 2**29), ("512MiB", 2**29), ("1.5g", 3 * 2**29), ("4096", 4096), ("1 TB", 2**40)],
)
def test_sizes_are_binary(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "G", "-1G", "2X", "1e9", "2 GG"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_size(text)


def test_figures_for_people() -> None:
    assert [size(0), size(1536), size(300 * 2**20), size(2**41)] == ["0 B", "1.5 KiB", "300 MiB", "2.0 TiB"]
    assert [seconds(0.031), seconds(2.5), seconds(185)] == ["31 ms", "2.50 s", "3 min 05 s"]
