from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zugvogel.console import figures
from zugvogel.console.i18n import Language, language

EN, DE = language("en"), language("de")


@pytest.mark.parametrize(
    ("value", "english", "german"),
    [
        (None, "–", "–"),
        (0, "0 B", "0 B"),
        (1023, "1,023 B", "1.023 B"),
        (1024, "1 KiB", "1 KiB"),
        (1536, "1.5 KiB", "1,5 KiB"),
        (2**20 - 1, "1.0 MiB", "1,0 MiB"),
        (150 * 2**20 + 2**19, "150 MiB", "150 MiB"),
        (2**30 + 2**29, "1.5 GiB", "1,5 GiB"),
        (3 * 2**40, "3 TiB", "3 TiB"),
        (2**60, "1,024 PiB", "1.024 PiB"),
        (-2048, "-2 KiB", "-2 KiB"),
        (0.4, "0 B", "0 B"),
    ],
)
def test_sizes(value: float | None, english: str, german: str) -> None:
    assert figures.size(value, EN) == english
    assert figures.size(value, DE) == german


def test_rates() -> None:
    assert figures.rate(1536, EN) == "1.5 KiB/s"
    assert figures.rate(1536, DE) == "1,5 KiB/s"
    assert figures.rate(None, EN) == "–"


@pytest.mark.parametrize(
    ("seconds", "english", "german"),
    [
        (None, "–", "–"),
        (0, "0 ms", "0 ms"),
        (0.0004, "0.4 ms", "0,4 ms"),
        (0.0125, "12 ms", "12 ms"),
        (0.3, "300 ms", "300 ms"),
        (1, "1.0 s", "1,0 s"),
        (3.44, "3.4 s", "3,4 s"),
        (59.4, "59 s", "59 s"),
        (60, "1 min", "1 min"),
        (320, "5 min 20 s", "5 min 20 s"),
        (3599.6, "1 h", "1 h"),
        (11100, "3 h 5 min", "3 h 5 min"),
        (2 * 86400 + 4 * 3600 + 59, "2 d 4 h", "2 d 4 h"),
    ],
)
def test_durations(seconds: float | None, english: str, german: str) -> None:
    assert figures.duration(seconds, EN) == english
    assert figures.duration(seconds, DE) == german


@given(st.floats(0, 1e9), st.sampled_from([EN, DE]))
def test_every_figure_has_its_unit(value: float, lang: Language) -> None:
    assert figures.size(value, lang).split()[-1] in figures.UNITS
    assert figures.duration(value, lang).split()[-1] in ("ms", "s", "min", "h", "d")


@pytest.mark.parametrize(
    ("text", "english", "german"),
    [
        ("2026-03-01T12:30:45.250Z", "2026-03-01 12:30:45", "01.03.2026 12:30:45"),
        ("2026-03-01T12:30:45", "2026-03-01 12:30:45", "01.03.2026 12:30:45"),
        ("2026-03-01T12:30:45+02:00", "2026-03-01 10:30:45", "01.03.2026 10:30:45"),
        ("", "–", "–"),
        (None, "–", "–"),
        ("yesterday", "–", "–"),
    ],
)
def test_instants_are_those_of_utc(text: str | None, english: str, german: str) -> None:
    assert figures.moment(text, EN) == english
    assert figures.moment(text, DE) == german


def test_shares() -> None:
    assert figures.percent(1, 4, EN) == "25 %"
    assert figures.percent(2, 3, DE) == "67 %"
    assert figures.percent(1, 0, EN) == "0 %"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "–"), (0.0, "< 2 s"), (1.94, "< 2 s"), (2.4, "2 s"), (15.6, "16 s"), (75.0, "1 min 15 s")],
)
def test_an_age_does_not_change_with_every_look(seconds: float | None, shown: str) -> None:
    assert figures.age(seconds, EN) == shown
