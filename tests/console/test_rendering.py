from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jinja2 import DictLoader, UndefinedError

from tests.console.api_fields import HOSTILE
from zugvogel.console import rendering
from zugvogel.console.i18n import language
from zugvogel.console.rendering import MARK, SEPARATOR, Blocks, Fragments, environment, whole

PAGE = """\
{% extends "base.html" %}
{% block content %}<title>{{ title }}</title>
<b id="live_head">{% block live_head %}{{ title }}{% endblock %}</b>
<table><tbody id="live_rows">{% block live_rows %}{% for r in rows %}{% call row("r-" ~ r.name) %}
<tr id="r-{{ r.name }}" title="{{ r.text }}"><td>{{ r.text }}</td></tr>
{% endcall %}{% else %}none{% endfor %}{% endblock %}</tbody></table>{% endblock %}
"""
BASE = "{% block content %}{% endblock %}{% block live_trouble %}{{ trouble }}{% endblock %}"


@pytest.fixture(autouse=True)
def small_pages() -> Iterator[None]:
    """`page.html` beside the console's own macros."""
    made = environment(language("en"))
    before, made.loader = made.loader, DictLoader({"page.html": PAGE, "base.html": BASE})
    assert made.cache is not None
    made.cache.clear()
    yield
    made.loader = before
    made.cache.clear()


def values(*rows: tuple[str, str], title: str = "vms", trouble: str = "") -> dict[str, Any]:
    return {"title": title, "trouble": trouble, "rows": [{"name": name, "text": text} for name, text in rows]}


class Shown:
    """A browser at the page."""

    def __init__(self) -> None:
        self.blocks, self.fragments = Blocks(language("en"), "page.html"), Fragments()

    def turn(self, *rows: tuple[str, str], **others: str) -> dict[str, str]:
        return self.fragments.changed(self.blocks.parts(values(*rows, **others)))


@pytest.fixture
def shown() -> Shown:
    return Shown()


def test_the_first_time_every_block_is_told(shown: Shown) -> None:
    first = shown.turn(("a", "1"), ("b", "2"))
    assert set(first) == {"live_trouble", "live_head", "live_rows"}
    assert first["live_head"] == "vms"
    assert re.findall(r'id="(r-\w)"', first["live_rows"]) == ["r-a", "r-b"]


def test_what_did_not_change_is_not_told(shown: Shown) -> None:
    shown.turn(("a", "1"))
    assert shown.turn(("a", "1")) == {}


def test_only_changed_rows_are_told(shown: Shown) -> None:
    shown.turn(("a", "1"), ("b", "2"), ("c", "3"))
    assert shown.turn(("a", "1"), ("b", "9"), ("c", "3")) == {
        "r-b": '<tr id="r-b" title="9"><td>9</td></tr>',
    }
    assert set(shown.turn(("a", "0"), ("b", "9"), ("c", "0"), title="t")) == {"r-a", "r-c", "live_head"}


@pytest.mark.parametrize("later", ["ba", "a", "abc", "", "ac"])
def test_other_rows_or_another_order_are_told_as_the_whole_block(shown: Shown, later: str) -> None:
    shown.turn(("a", "1"), ("b", "2"))
    told = shown.turn(*((name, "1" if name == "a" else "2") for name in later))
    assert set(told) == {"live_rows"}
    assert re.findall(r'id="r-(\w)"', told["live_rows"]) == list(later)
    assert shown.turn(*((name, "1" if name == "a" else "2") for name in later)) == {}


def test_a_block_of_the_base_is_told_as_well(shown: Shown) -> None:
    shown.turn()
    assert shown.turn(trouble="no answer") == {"live_trouble": "no answer"}


def test_the_same_parts_are_told_once_to_each(shown: Shown) -> None:
    parts, other = shown.blocks.parts(values(("a", "1"))), Fragments()
    assert set(shown.fragments.changed(parts)) == set(other.changed(parts))
    assert other.changed(parts) == {}


def test_no_mark_is_ever_sent(shown: Shown) -> None:
    page = whole(language("en"), "page.html", values(("a", "1"), ("b", "2")))
    for text in (page, *shown.turn(("a", "1"), ("b", "2")).values(), *shown.turn(("a", "1"), ("b", "3")).values()):
        assert MARK not in text
        assert SEPARATOR not in text
    assert page.count("<tr") == 2
    assert page.count("</tr>") == 2


@pytest.mark.parametrize("sign", ["\x1e", "\x1f", "\x1er-b\x1f", "\x1e\x1e", '<b>"x'])
def test_marks_in_texts_of_the_api_move_no_borders(shown: Shown, sign: str) -> None:
    """Else what stands between two texts, with its quotes, would be gone, and one of them part of the markup."""
    page = whole(language("en"), "page.html", values(("a", f"{sign}1"), ("b", f"2{sign} hx-post=/x")))
    assert re.findall(r'<tr id="(r-\w)" title="([^"]*)"><td>([^<]*)</td></tr>', page) == [
        (
            "r-a",
            html.escape(f"{sign}1").replace("&quot;", "&#34;"),
            html.escape(f"{sign}1").replace("&quot;", "&#34;"),
        ),
        ("r-b", *2 * (html.escape(f"2{sign} hx-post=/x").replace("&quot;", "&#34;"),)),
    ]
    shown.turn(("a", "1"), ("b", f"2{sign}"))
    assert set(shown.turn(("a", sign), ("b", f"2{sign}"))) == {"r-a"}


def test_marks_cannot_be_guessed() -> None:
    assert len(MARK) > 32
    assert len(SEPARATOR) > 32
    assert MARK != SEPARATOR


def test_a_hostile_row_id_stays_text(shown: Shown) -> None:
    first = shown.turn(('<b>"x\x1f<i>', "1"))
    assert "<i>" not in first["live_rows"]
    assert "<b>" not in first["live_rows"]


def test_a_variable_that_is_not_there_is_a_defect() -> None:
    with pytest.raises(UndefinedError):
        whole(language("en"), "page.html", {"title": "x", "trouble": ""})


@pytest.mark.parametrize("value", [HOSTILE, {"a": [HOSTILE]}, None, "</script><!--", "\u2028&"])
def test_data_for_scripts_cannot_end_them(value: Any) -> None:
    text = str(environment(language("en")).from_string("{{ v | json_script }}").render(v=value))
    assert not re.search(r"[<>&]", text)
    assert json.loads(text) == value


def test_values_of_a_button_are_an_attribute_whatever_they_hold() -> None:
    made = environment(language("en")).from_string(
        '{{ ui.opens("id", label, values={"name": label}, about=label) }}'
    )
    text = made.render(label=HOSTILE)
    found = re.search(r'data-values="([^"]*)"', text)
    assert found
    assert json.loads(html.unescape(found[1])) == {"name": HOSTILE}
    assert "<img" not in text
    assert "</script" not in text


def test_all_templates_can_be_read_in_every_language() -> None:
    from jinja2 import FileSystemLoader

    for code in ("en", "de"):
        made = environment(language(code)).overlay(loader=FileSystemLoader(rendering.TEMPLATES))
        for path in sorted(Path(rendering.TEMPLATES).glob("*.html")):
            made.get_template(path.name)


def test_templates_trust_no_value() -> None:
    """Everything is escaped; `safe` would let markup of others in."""
    for path in sorted(Path(rendering.TEMPLATES).glob("*.html")):
        text = path.read_text()
        assert not re.search(r"\|\s*safe\b|autoescape|\bMarkup\b", text), path.name
        assert not re.search(r"<script(?![^>]*(src=|type=\"application/json\"))|\son\w+=|\sstyle=", text), (
            path.name
        )
