"""Long lists on a page: filtered, sorted and paged here, so that a browser holds no more than a page of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

ROWS = 50
MAX_DIGITS = 9
"""Of a page's number."""
KNOWN_NAMES = 20_000

Row = Mapping[str, Any]
Key = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Order:
    name: str
    down: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """`rows`: those of this page; `found`: how many there are in all. `query(**changes)`: this list's query string
    with changes, back at the first page unless `page` is given."""

    rows: Sequence[Any]
    found: int
    page: int
    pages: int
    order: Order
    query: Callable[..., str]


def shown(
    rows: Sequence[Any],
    query: QueryParams,
    keys: Mapping[str, Key],
    default: str,
    *,
    down: bool = False,
    at_once: int = ROWS,
) -> Shown:
    """`keys`: column -> what it is sorted by. The order asked for by ``sort`` and ``down``, else `default`.
    `at_once`: rows of a page."""
    name = query.get("sort", "")
    order = Order(name, bool(query.get("down"))) if name in keys else Order(default, down)
    ordered = sorted(rows, key=lambda row: _comparable(keys[order.name](row)), reverse=order.down)
    pages = max(1, -(-len(ordered) // at_once))
    page = min(max(1, _number(query.get("page", ""))), pages)
    return Shown(
        rows=ordered[(page - 1) * at_once : page * at_once],
        found=len(ordered),
        page=page,
        pages=pages,
        order=order,
        query=lambda **changes: changed(query, **changes),
    )


def changed(query: QueryParams, **changes: str) -> str:
    kept = {name: value for name, value in query.items() if name != "page"}
    return urlencode({name: value for name, value in {**kept, **changes}.items() if value})


def holds(text: str, *values: object) -> bool:
    """Whether each word of `text` stands in one of the values."""
    told = " ".join(str(value) for value in values if value).lower()
    return all(word in told for word in text.lower().split())


def _comparable(value: Any) -> tuple[int, Any]:
    """What is not there comes last."""
    if value is None or value == "":
        return (1, "")
    return (0, natural(value) if isinstance(value, str) else value)


@lru_cache(maxsize=KNOWN_NAMES)
def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key by which host2 comes before host10."""
    parts: list[tuple[int, int, str]] = []
    digits, letters = "", ""
    for sign in text.lower():
        if sign.isdecimal():
            if letters:
                parts.append((1, 0, letters))
                letters = ""
            digits += sign
        else:
            if digits:
                parts.append(_figure(digits))
                digits = ""
            letters += sign
    if letters:
        parts.append((1, 0, letters))
    if digits:
        parts.append(_figure(digits))
    return tuple(parts)


def _figure(digits: str) -> tuple[int, int, str]:
    """Ordered as the number; of any length."""
    told = "".join(str(int(sign)) for sign in digits).lstrip("0")
    return (0, len(told), told)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else 1
