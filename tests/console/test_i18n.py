from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zugvogel.console import i18n
from zugvogel.console.i18n import catalog, chosen, language, marked

CATALOG = """\
msgid ""
msgstr ""
"Content-Type: text/plain; charset=utf-8\\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\\n"

msgid "Log in"
msgstr "Anmelden"

msgid "%(user)s left"
msgstr "%(user)s ging"

msgid "%(count)s host"
msgid_plural "%(count)s hosts"
msgstr[0] "%(count)s Host"
msgstr[1] "%(count)s Hosts"

msgid "not yet"
msgstr ""

msgctxt "task"
msgid "failed"
msgstr "Fehlgeschlagen"

msgid "failed"
msgstr "Ausgefallen"

#, fuzzy
msgid "unsure"
msgstr "unsicher"

msgid "%(count)s vm"
msgid_plural "%(count)s vms"
msgstr[0] "%(count)s VM"
msgstr[1] ""
"""


@pytest.fixture
def german(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[i18n.Language]:
    (tmp_path / "de").mkdir()
    (tmp_path / "de/console.po").write_text(CATALOG)
    monkeypatch.setattr(i18n, "LOCALES", tmp_path)
    catalog.cache_clear()
    yield language("de")
    catalog.cache_clear()


def test_texts_are_translated_with_their_values(german: i18n.Language) -> None:
    assert german.text("Log in") == "Anmelden"
    assert german.text("%(user)s left", user="a%sb") == "a%sb ging"


def test_one_text_may_mean_several_things(german: i18n.Language) -> None:
    assert german.text("failed") == "Ausgefallen"
    assert german.text_of("task", "failed") == "Fehlgeschlagen"
    assert german.text_of("vm", "failed") == "failed", "nobody has translated that one"
    assert language("en").text_of("task", "failed") == "failed"


@pytest.mark.parametrize("text", ["not yet", "unsure", "never heard of", "100 %"])
def test_what_has_no_translation_is_english(german: i18n.Language, text: str) -> None:
    assert german.text(text) == text


@pytest.mark.parametrize(("count", "told"), [(0, "0 Hosts"), (1, "1 Host"), (2, "2 Hosts"), (1234, "1.234 Hosts")])
def test_plurals(german: i18n.Language, count: int, told: str) -> None:
    assert german.texts("%(count)s host", "%(count)s hosts", count) == told


@pytest.mark.parametrize("one", ["%(count)s vm", "%(count)s task"])
def test_a_plural_that_is_not_wholly_translated_is_english(german: i18n.Language, one: str) -> None:
    assert german.texts(one, f"{one}s", 2) == f"{one}s" % {"count": 2}
    assert german.texts(one, f"{one}s", 1) == one % {"count": 1}


def test_plurals_of_english() -> None:
    english = language("en")
    assert english.texts("%(count)s host on %(x)s", "%(count)s hosts on %(x)s", 1, x="y") == "1 host on y"
    assert english.texts("%(count)s host", "%(count)s hosts", 1234) == "1,234 hosts"
    assert catalog("en") == {}


def test_numbers_and_times_of_both_languages() -> None:
    at = datetime(2026, 3, 1, 23, 5, 9, tzinfo=UTC)
    assert [language(code).number(1234.56, 1) for code in ("en", "de")] == ["1,234.6", "1.234,6"]
    assert [language(code).moment(at) for code in ("en", "de")] == ["2026-03-01 23:05:09", "01.03.2026 23:05:09"]


@pytest.mark.parametrize(
    ("cookie", "accepted", "code"),
    [
        ("", "", "en"),
        ("", "de", "de"),
        ("", "de-AT,de;q=0.9,en;q=0.5", "de"),
        ("", "fr-FR,fr;q=0.9,de;q=0.5", "de"),
        ("", "de;q=0.1,en;q=0.9", "en"),
        ("", "en;q=0.2, de;q=0.8", "de"),
        ("", "de;q=0, fr", "en"),
        ("", "*", "en"),
        ("", "fr", "en"),
        ("de", "en", "de"),
        ("en", "de", "en"),
        ("xx", "de", "de"),
        ("../../etc", "", "en"),
    ],
)
def test_the_choice_of_the_person_and_else_of_the_browser_counts(cookie: str, accepted: str, code: str) -> None:
    assert chosen(cookie, accepted).code == code


@given(st.text(), st.text(alphabet="de-_,;=q.0*en \x00é"))
def test_any_header_leads_to_a_language(cookie: str, accepted: str) -> None:
    assert chosen(cookie, accepted).code in i18n.LANGUAGES


def test_unknown_languages_are_english() -> None:
    assert language("fr").code == "en"
    assert language("de") is language("de")


def test_a_marked_text_is_itself() -> None:
    assert marked("host dead") == "host dead"
