from __future__ import annotations

import pytest

from zugvogel.console.fields import chosen, size_bytes, size_text, sizes_bytes, whole
from zugvogel.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("512M", 2**29),
        ("512 MiB", 2**29),
        ("2g", 2**31),
        (" 2 GB ", 2**31),
        ("1.5 GiB", 3 * 2**29),
        ("1,5 GiB", 3 * 2**29),
        ("1T", 2**40),
        ("1048576", 2**20),
        ("7 KiB", 7168),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, count: int) -> None:
    assert size_bytes(text) == count


@pytest.mark.parametrize("text", ["", "much", "-1 G", "2 PiB", "2 G B", "1,5,5 G"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        size_bytes(text)


@pytest.mark.parametrize("count", [1, 2**20, 2**30 + 1, 3 * 2**29, 5 * 2**40, 16 * 2**20 + 1024])
def test_a_size_that_is_shown_is_read_again_to_the_byte(count: int) -> None:
    assert size_bytes(size_text(count)) == count


def test_several_sizes_may_have_decimal_commas() -> None:
    assert sizes_bytes("1,5 GiB, 20 GiB; 1T,") == [3 * 2**29, 20 * 2**30, 2**40]
    assert sizes_bytes("  ") == []


@pytest.mark.parametrize("text", ["", "two", "-1", "1.5"])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="CPUs"):
        whole(text, "CPUs")


def test_choices_are_kept_once_in_their_order() -> None:
    assert chosen(["b", "", "a", "b"]) == ["b", "a"]
