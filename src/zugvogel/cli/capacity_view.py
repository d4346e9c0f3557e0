"""Memory of the cluster as one bar: used, reserved for failures, free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zugvogel.cli import output

if TYPE_CHECKING:
    from rich.text import Text

WIDEST = 60
NARROWEST = 60
"""Columns below which the figures stand alone, one a line."""
PARTS = (("used", "█", "cyan"), ("reserved", "▒", "yellow"), ("free", "·", "dim"))


def capacity_bar(admission: dict[str, Any], columns: int) -> Text:
    from rich.text import Text

    figures = [f"{name} {output.size(admission[name])}" for name, _, _ in PARTS]
    if columns < NARROWEST:
        return Text("\n".join(figures))
    cells = shares([admission[name] for name, _, _ in PARTS], min(WIDEST, columns - 2))
    shown = Text()
    for (_, sign, style), count in zip(PARTS, cells, strict=True):
        shown.append(sign * count, style=style)
    shown.append("\n")
    for number, ((_, sign, style), figure) in enumerate(zip(PARTS, figures, strict=True)):
        shown.append("  " if number else "")
        shown.append(sign, style=style)
        shown.append(f" {figure}")
    return shown


def shares(amounts: list[int], width: int) -> list[int]:
    """Whole cells of `width` for each amount, by their size. What is not 0 has one at least, at the cost of the
    greatest."""
    whole = sum(amounts)
    if whole <= 0:
        return [0] * (len(amounts) - 1) + [width]
    cells = [max(int(amount > 0), width * amount // whole) for amount in amounts]
    cells[amounts.index(max(amounts))] += width - sum(cells)
    return cells
