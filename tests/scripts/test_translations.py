"""The German pages follow their English sources, and a page that does not is named with what it lacks."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGLISH = """# Leases
One word with `zv vm list` and [roles](roles.md#who-is-what).

![a drawing](../pictures/x.svg)

| a | b |
|---|---|
| c | d |

```
zv vm list   # all of them
```
"""
GERMAN = """# Leases, auf Deutsch
Ein Wort mit `zv vm list` und [Rollen](roles.de.md#wer-was-ist).

![eine Zeichnung](../pictures/x.de.svg)

| a | b |
|---|---|
| c | d |

```
zv vm list   # alle
```
"""


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("translations", ROOT / "scripts" / "translations.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = _script()
PAGES: list[Path] = SCRIPT.translations()


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A German page that is up to date, and its source; roles exist in German, too."""
    (tmp_path / "leases.md").write_text(ENGLISH)
    for other in ("roles.md", "roles.de.md"):
        (tmp_path / other).write_text("# x\n")
    german = tmp_path / "leases.de.md"
    german.write_text(GERMAN)
    SCRIPT.mark(german)
    return german


@pytest.mark.parametrize("german", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_german_page_follows_its_source(german: Path) -> None:
    assert SCRIPT.faults(german) == []


def test_every_explanation_and_the_tutorial_exist_in_german() -> None:
    english = [
        page
        for folder in ("explanation", "tutorial")
        for page in (ROOT / "docs" / folder).glob("*.md")
        if not page.name.endswith(".de.md")
    ]
    assert english
    assert [page.name for page in english if not page.with_suffix(".de.md").exists()] == []


def test_a_page_that_follows_has_no_faults_and_is_marked_once(page: Path) -> None:
    assert SCRIPT.faults(page) == []
    marked = page.read_text()
    SCRIPT.mark(page)
    assert page.read_text() == marked
    assert marked.count("translation of leases.md, sha256") == 1


def test_a_changed_word_makes_the_translation_older_until_it_is_marked(page: Path) -> None:
    source = page.with_name("leases.md")
    source.write_text(ENGLISH.replace("One word", "Another word"))
    assert SCRIPT.faults(page) == ["older than its source: update it, then scripts/translations.py --mark it"]
    SCRIPT.mark(page)
    assert SCRIPT.faults(page) == []


def test_a_line_broken_elsewhere_and_a_picture_on_both_pages_make_nothing_older(page: Path) -> None:
    more = "![another](../pictures/y.svg)\n"
    page.with_name("leases.md").write_text(ENGLISH.replace("One word with", "One\nword with") + more)
    page.write_text(page.read_text().replace("zv vm list   # alle\n```\n", "zv vm list   # alle\n```\n" + more))
    assert SCRIPT.faults(page) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("# Leases, auf", "## Leases, auf", "headings differ: English [1], German [2]"),
        ("| c | d |\n", "", "table rows differ: English 3, German 2"),
        ("x.de.svg", "z.svg", "pictures differ: English ['../pictures/x.svg'], German ['../pictures/z.svg']"),
        ("zv vm list   #", "zv vm show   #", "code block 1 differs"),
        ("```\nzv vm list   # alle\n```\n", "", "code blocks differ: English 1, German 0"),
        ("`zv vm list`", "`zv vm liste`", "`zv vm list` is missing"),
    ],
)
def test_what_is_lacking_is_named(page: Path, old: str, new: str, fault: str) -> None:
    text = page.read_text()
    assert old in text
    page.write_text(text.replace(old, new))
    assert SCRIPT.faults(page) == [fault]


def test_an_english_link_where_a_german_page_exists_is_named(page: Path) -> None:
    page.write_text(page.read_text().replace("roles.de.md", "roles.md"))
    assert SCRIPT.faults(page) == ["no link to roles.de.md", "a link to roles.md more"]


def test_the_two_pages_may_link_each_other(page: Path) -> None:
    page.with_name("leases.md").write_text(ENGLISH + "\n[Deutsch](leases.de.md)\n")
    page.write_text(GERMAN + "\n[English](leases.md)\n")
    SCRIPT.mark(page)
    assert SCRIPT.faults(page) == []


def test_a_drawing_may_be_in_german(page: Path) -> None:
    page.with_name("leases.md").write_text(ENGLISH + "\n```\n host1 ──▶ storage\n```\n")
    page.write_text(GERMAN + "\n```\n host1 ──▶ Storage\n```\n")
    SCRIPT.mark(page)
    assert SCRIPT.faults(page) == []


def test_a_translation_without_its_source_is_named(page: Path) -> None:
    page.with_name("leases.md").unlink()
    assert SCRIPT.faults(page) == ["its English page leases.md is gone"]
