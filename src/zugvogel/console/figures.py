"""How figures are written on pages: sizes, rates, durations, instants."""

from __future__ import annotations

from datetime import UTC, datetime

from zugvogel.console.i18n import Language

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
MISSING = "–"


def size(value: float | None, language: Language) -> str:
    """Bytes in the largest unit that leaves at least one whole: ``1.5 GiB``."""
    if value is None:
        return MISSING
    left, unit = float(value), 0
    while abs(left) >= 1023.5 and unit < len(UNITS) - 1:
        left, unit = left / 1024, unit + 1
    digits = 0 if unit == 0 or left >= 100 or left == int(left) else 1
    return f"{language.number(left, digits)} {UNITS[unit]}"


def rate(value: float | None, language: Language) -> str:
    return MISSING if value is None else f"{size(value, language)}/s"


def duration(seconds: float | None, language: Language) -> str:
    """``0.4 ms``, ``12 ms``, ``3.4 s``, ``5 min 20 s``, ``3 h 5 min``, ``2 d 4 h``."""
    if seconds is None:
        return MISSING
    if seconds < 1:
        ms = seconds * 1000
        return f"{language.number(ms, 1 if 0 < ms < 10 else 0)} ms"
    if seconds < 60:
        return f"{language.number(seconds, 1 if seconds < 10 else 0)} s"
    whole = round(seconds)
    for name, length, smaller, unit in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= length:
            rest = whole % length // unit
            return f"{whole // length} {name}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def age(seconds: float | None, language: Language) -> str:
    """Of a sign of life, in whole seconds: tenths would change each time one looks, and tell nothing."""
    if seconds is None:
        return MISSING
    if seconds < 2:
        return "< 2 s"
    return f"{round(seconds)} s" if seconds < 59.5 else duration(seconds, language)


def moment(text: str | None, language: Language) -> str:
    """An instant of the API (ISO 8601, UTC)."""
    parsed = instant(text)
    return MISSING if parsed is None else language.moment(parsed)


def instant(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def percent(part: float, whole: float, language: Language) -> str:
    return f"{language.number(100 * part / whole if whole else 0)} %"
