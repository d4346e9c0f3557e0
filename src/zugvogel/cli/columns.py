"""Widths of a table's columns on a terminal: figures are never broken, names shorten, sentences wrap."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from enum import Enum

NARROWEST_NAME = 8
NARROWEST_SENTENCE = 16
GAP = 2
_FIGURE = re.compile(r"[-\d.,:%/]*([A-Za-z]{1,3}(/s)?)?")

_UNIT = re.compile(r"(?<=\d) (?=(?:[KMGT]?i?B|ms|s|min|Mbit|Gbit|vCPUs?)\b)")


class Kind(Enum):
    FIGURE = "figure"
    """Numbers with their units, instants, or nothing: keeps its width, come what may."""
    NAME = "name"
    SENTENCE = "sentence"


def kind_of(cells: Sequence[str]) -> Kind:
    if all(_FIGURE.fullmatch(word) for cell in cells for word in cell.split()):
        return Kind.FIGURE
    return Kind.SENTENCE if any(cell.count(" ") > 2 for cell in cells) else Kind.NAME


def widths(columns: Sequence[Sequence[str]], kinds: Sequence[Kind], available: int) -> list[int]:
    """`columns`: all that stands in each, the heading too. What is missing is taken from sentences first, then
    from names, the widest first."""
    found = [max(len(cell) for cell in column) for column in columns]
    missing = sum(found) + GAP * len(found) - available
    for kind, floor in ((Kind.SENTENCE, NARROWEST_SENTENCE), (Kind.NAME, NARROWEST_NAME)):
        chosen = [i for i, of in enumerate(kinds) if of is kind]
        while missing > 0 and chosen:
            widest = max(chosen, key=lambda i: found[i])
            if found[widest] <= floor:
                break
            found[widest] -= 1
            missing -= 1
    return found


def folded(text: str, width: int) -> list[str]:
    """Lines of at most `width`, never broken between a number and its unit."""
    glued = _UNIT.sub("\N{NO-BREAK SPACE}", text)
    return [
        line.replace("\N{NO-BREAK SPACE}", " ")
        for part in glued.splitlines()
        for line in textwrap.wrap(part, max(4, width), break_on_hyphens=False) or [""]
    ]


def shorten(name: str, width: int) -> str:
    return name if len(name) <= width else name[: max(0, width - 1)] + "…"
