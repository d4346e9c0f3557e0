"""What people write into forms, as the API takes it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from zugvogel.console.i18n import marked
from zugvogel.errors import InvalidInput

_SIZE = re.compile(r"^(\d+(?:[.,]\d+)?)\s*([kmgt]?)(?:i?b)?$", re.IGNORECASE)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def size_bytes(text: str) -> int:
    """Of ``2 GiB``, ``2g``, ``1,5 GB``, ``512M``; units are binary. Raises InvalidInput."""
    match = _SIZE.match(text.strip())
    if not match:
        raise InvalidInput(f"“{text}” is no size", marked("write for example 512 MiB or 20 GiB"))
    return int(float(match[1].replace(",", ".")) * _UNITS[match[2].lower()])


def sizes_bytes(text: str) -> list[int]:
    """Of ``20 GiB, 100 GiB``. A comma between digits is a decimal one."""
    return [size_bytes(part) for part in re.split(r"[;\n]|,(?!\d)", text) if part.strip()]


def whole(text: str, what: str) -> int:
    """Raises InvalidInput."""
    if not text.strip().isdecimal():
        raise InvalidInput(f"“{text}” is no number ({what})", marked("write a whole number, for example 2"))
    return int(text)


def part(text: str) -> str:
    """As one part of the API's paths, whatever was written."""
    return quote(text, safe="")


def size_text(value: int) -> str:
    """As a form shows it and `size_bytes` reads it again, to the byte."""
    for unit, length in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= length and value % length == 0:
            return f"{value // length} {unit}"
    return str(value)


def chosen(values: Iterable[str]) -> list[str]:
    """Those of several equal fields that were filled in, each once, in their order."""
    return list(dict.fromkeys(value for value in values if value))
