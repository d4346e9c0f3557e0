from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from zugvogel.console.tables import changed, holds, natural, shown

KEYS = {"name": lambda row: row["name"], "size": lambda row: row["size"]}
rows_of = st.lists(
    st.fixed_dictionaries({"name": st.text(max_size=8), "size": st.none() | st.integers()}), max_size=40
)


def row(name: str, size: int | None = 0) -> dict[str, Any]:
    return {"name": name, "size": size}


@given(
    rows=rows_of,
    sort=st.sampled_from(["", "name", "size", "nonsense"]),
    down=st.booleans(),
    at_once=st.integers(1, 9),
)
def test_every_row_stands_on_exactly_one_page(
    rows: list[dict[str, Any]], sort: str, down: bool, at_once: int
) -> None:
    asked = {"sort": sort, "down": "1" if down else ""}
    first = shown(rows, QueryParams(asked), KEYS, "name", at_once=at_once)
    pages = [
        shown(rows, QueryParams({**asked, "page": str(number)}), KEYS, "name", at_once=at_once)
        for number in range(1, first.pages + 1)
    ]
    told = [id(each) for page in pages for each in page.rows]
    assert sorted(told) == sorted(map(id, rows))
    assert all(len(page.rows) <= at_once for page in pages)
    assert [page.page for page in pages] == list(range(1, first.pages + 1))
    assert first.found == len(rows)


@given(rows=rows_of, query=st.dictionaries(st.sampled_from(["page", "sort", "down", "q"]), st.text(), max_size=4))
def test_no_query_breaks_a_table(rows: list[dict[str, Any]], query: dict[str, str]) -> None:
    table = shown(rows, QueryParams(query), KEYS, "name", at_once=3)
    assert 1 <= table.page <= table.pages
    assert re.fullmatch(r"[\w%.+~=&*-]*", table.query(page="2")), "it can stand in an address as it is"


@pytest.mark.parametrize(
    ("asked", "page"),
    [
        ("", 1),
        ("1", 1),
        ("2", 2),
        ("3", 3),
        ("4", 3),
        ("0", 1),
        ("-1", 1),
        ("x", 1),
        ("9" * 6000, 1),
        ("²", 1),
        ("٣", 3),
    ],
)
def test_pages_that_are_not_there_are_the_nearest(asked: str, page: int) -> None:
    assert (
        shown([row(str(n)) for n in range(9)], QueryParams({"page": asked}), KEYS, "name", at_once=3).page == page
    )


def test_an_empty_table_has_one_page() -> None:
    table = shown([], QueryParams(), KEYS, "name")
    assert (table.page, table.pages, table.found, list(table.rows)) == (1, 1, 0, [])


def test_the_order_is_the_one_asked_for() -> None:
    rows = [row("b", 1), row("a", 3), row("c", None)]

    def names(query: str, **default: bool) -> str:
        return "".join(each["name"] for each in shown(rows, QueryParams(query), KEYS, "name", **default).rows)

    assert names("") == "abc"
    assert names("", down=True) == "cba"
    assert names("sort=size") == "bac", "what is not known comes last"
    assert names("sort=name&down=1") == "cba"
    assert names("sort=__class__") == "abc"


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["host10", "host2", "host1", "a", "host2b10", "host2b9", "10", "9"]
    assert sorted(names, key=natural) == ["9", "10", "a", "host1", "host2", "host2b9", "host2b10", "host10"]
    assert natural("HOST2") == natural("host2")
    assert natural("host02") == natural("host2")


@given(st.lists(st.text()), st.text(alphabet="0123456789", min_size=1, max_size=60))
def test_all_texts_can_be_ordered(texts: list[str], digits: str) -> None:
    ordered = sorted([*texts, digits], key=natural)
    assert sorted(ordered, key=natural) == ordered
    assert natural(digits) < natural(str(int(digits) + 1))


def test_figures_of_any_length_can_be_ordered() -> None:
    assert natural("1" * 6000) < natural("2" * 6000) < natural("1" * 6001)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", True),
        ("web", True),
        ("WEB shop", True),
        ("shop web", True),
        ("web db", False),
        ("10", True),
        ("None", False),
    ],
)
def test_a_search_finds_what_holds_all_its_words(text: str, found: bool) -> None:
    assert holds(text, "web1", "the Shop", None, 10) is found


def test_a_changed_query_begins_at_the_first_page_and_keeps_the_rest() -> None:
    query = QueryParams("q=a%26b&sort=name&page=4")
    assert parse_qs(changed(query, sort="size")) == {"q": ["a&b"], "sort": ["size"]}
    assert parse_qs(changed(query, page="5")) == {"q": ["a&b"], "sort": ["name"], "page": ["5"]}
    assert changed(query, q="", sort="") == ""
