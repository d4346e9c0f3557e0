"""How things are shown: JSON alone on standard output with --json, tables else; all notes on standard error."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from zugvogel.cli import columns
from zugvogel.cli.columns import Kind
from zugvogel.errors import InvalidInput

if TYPE_CHECKING:
    from rich.console import Console

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?$", re.IGNORECASE)

NO_LIMIT = 250
STATE_STYLES = {
    "running": "green", "live": "green", "done": "green", "ok": "green",
    "failed": "bold red", "refused": "bold red", "error": "bold red",
    "frozen": "yellow", "suspended": "cyan", "partitioned": "yellow", "isolated": "yellow",
    "storage-lost": "yellow", "warning": "yellow", "unknown": "yellow", "cancelled": "yellow",
    "maintenance": "cyan",
}  # fmt: skip


def parse_size(text: str) -> int:
    """Bytes of '2G', '512M', '512MiB' or plain bytes; units are binary. Raises InvalidInput."""
    match = _SIZE.match(text.strip())
    if not match:
        raise InvalidInput(f"{text!r} is no size", "write for example 512M or 2G")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def size(count: float) -> str:
    """'1.5 GiB'."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def rate(bps: float) -> str:
    return f"{size(bps)}/s"


def seconds(value: float) -> str:
    """'31 ms', '2.50 s', '3 min 05 s'."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.2f} s"
    return f"{int(value) // 60} min {int(value) % 60:02d} s"


def clock(iso: str) -> str:
    """The instant without its fractions: '2026-01-31 12:00:00'."""
    return iso[:19].replace("T", " ")


def console() -> Console:
    from rich.console import Console

    return Console(soft_wrap=False, highlight=False)


def notes() -> Console:
    """Standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def note(text: str) -> None:
    print(text, file=sys.stderr)


def say(text: str, *, as_json: bool = False) -> None:
    """A result in words; with --json there is no such thing."""
    if not as_json:
        print(text)


def table(
    headings: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str, kinds: Sequence[Kind] = ()
) -> None:
    """Cells that are a known state are coloured; without rows `empty` goes to standard error. On a terminal that
    is too narrow sentences wrap and names end in an ellipsis; elsewhere nothing is cut."""
    from rich.table import Table
    from rich.text import Text

    told = [[_cell(value) for value in row] for row in rows]
    if not told:
        note(empty)
        return
    shown = Table(box=None, header_style="bold", pad_edge=False, padding=(0, columns.GAP, 0, 0))
    of = [[heading, *(row[i] for row in told)] for i, heading in enumerate(headings)]
    kinds = kinds or [columns.kind_of(column[1:]) for column in of]
    screen = console()
    found = columns.widths(of, kinds, screen.width if screen.is_terminal else NO_LIMIT)
    for heading, kind, width in zip(headings, kinds, found, strict=True):
        is_whole = kind is Kind.SENTENCE
        shown.add_column(heading, width=width, no_wrap=not is_whole, overflow="fold" if is_whole else "ellipsis")
    for row in told:
        cells = [
            Text(
                "\n".join(columns.folded(cell, width)) if kind is Kind.SENTENCE else cell,
                STATE_STYLES.get(cell, ""),
            )
            for cell, kind, width in zip(row, kinds, found, strict=True)
        ]
        shown.add_row(*cells)
    screen.width = max(screen.width, sum(found) + columns.GAP * len(found))
    screen.print(shown)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(v) for v in value) or "-"
    return str(value) or "-"


def facts(pairs: Iterable[tuple[str, Any]]) -> None:
    """Names and values, one a line."""
    table(("", ""), [(name, value) for name, value in pairs], empty="", kinds=(Kind.FIGURE, Kind.SENTENCE))
