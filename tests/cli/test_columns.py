from __future__ import annotations

import pytest

from zugvogel.cli.columns import GAP, Kind, folded, kind_of, shorten, widths


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1.5 GiB", "-", "635 ms"], Kind.FIGURE),
        (["2026-01-31 12:00:00", ""], Kind.FIGURE),
        (["128 MiB/s", "3 min 05 s"], Kind.FIGURE),
        (["web1", "host2"], Kind.NAME),
        (["running", "failed"], Kind.NAME),
        (["", "the target has no room left"], Kind.SENTENCE),
    ],
)
def test_what_stands_in_a_column_tells_its_kind(cells: list[str], kind: Kind) -> None:
    assert kind_of(cells) is kind


def test_sentences_give_way_first_then_names_and_figures_never() -> None:
    columns = [["SIZE", "1023 MiB"], ["NAME", "n" * 30], ["WHY", "w" * 40]]
    kinds = [Kind.FIGURE, Kind.NAME, Kind.SENTENCE]
    assert widths(columns, kinds, 200) == [8, 30, 40]
    assert widths(columns, kinds, 60 + 3 * GAP) == [8, 30, 22]
    assert widths(columns, kinds, 40 + 3 * GAP) == [8, 16, 16]
    assert widths(columns, kinds, 10) == [8, 8, 16]


def test_lines_never_part_a_number_from_its_unit() -> None:
    text = "it took 635 ms and moved 12.5 MiB at 90 MB/s"
    for width in range(8, 50):
        lines = folded(text, width)
        assert " ".join(lines) == text
        assert all(figure in "|".join(lines) for figure in ("635 ms", "12.5 MiB", "90 MB/s"))
    assert folded("a\n  b", 10) == ["a", "  b"]


def test_names_shorten_with_an_ellipsis() -> None:
    assert [shorten("database", n) for n in (8, 5)] == ["database", "data…"]
