"""Languages of the console: English in the templates, others in `locale/<language>/console.po`.

What the API tells (causes, evidence, the reason of a setting) is English and stays so.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from babel import negotiate_locale
from babel.dates import format_datetime
from babel.messages.pofile import read_po
from babel.numbers import format_decimal

LOCALES = Path(__file__).parent / "locale"
LANGUAGES = {"en": "English", "de": "Deutsch"}
DEFAULT = "en"
MOMENTS = {"en": "y-MM-dd HH:mm:ss", "de": "dd.MM.y HH:mm:ss"}


@cache
def catalog(language: str) -> dict[str, str | tuple[str, ...]]:
    """Message -> its translation; for plurals a tuple. Untranslated ones are left out."""
    if language == DEFAULT:
        return {}
    with (LOCALES / language / "console.po").open("rb") as file:
        read = read_po(file, locale=language)
    found: dict[str, str | tuple[str, ...]] = {}
    for message in read:
        forms = (message.string,) if isinstance(message.string, str) else tuple(message.string or ())
        if message.id and forms and all(forms) and not message.fuzzy:
            key = message.id if isinstance(message.id, str) else message.id[0]
            found[_key(message.context, key)] = forms[0] if isinstance(message.id, str) else forms
    return found


def _key(context: str | None, message: str) -> str:
    return f"{context}\x04{message}" if context else message


class Language:
    """Texts, numbers and times of one language."""

    def __init__(self, code: str) -> None:
        self.code = code

    def text(self, message: str, **values: object) -> str:
        """`message` with ``%(name)s`` filled in."""
        translated = catalog(self.code).get(message, message)
        chosen = translated if isinstance(translated, str) else translated[0]
        return chosen % values if values else chosen

    def text_of(self, context: str, message: str) -> str:
        """`message`, where it means something else than elsewhere: a host that failed, and a task that failed."""
        translated = catalog(self.code).get(_key(context, message), message)
        return translated if isinstance(translated, str) else translated[0]

    def texts(self, one: str, many: str, count: int, **values: object) -> str:
        """`one` or `many` by `count`, which the text calls ``%(count)s``."""
        translated = catalog(self.code).get(one)
        forms = translated if isinstance(translated, tuple) else (one, many)
        return forms[0 if count == 1 else 1] % {"count": self.number(count), **values}

    def number(self, value: float, digits: int = 0) -> str:
        pattern = "#,##0" + ("." + "0" * digits if digits else "")
        return format_decimal(value, format=pattern, locale=self.code)

    def moment(self, instant: datetime) -> str:
        """In UTC, as the API and the CLI tell it."""
        return format_datetime(instant, MOMENTS[self.code], tzinfo=UTC, locale=self.code)


def marked(message: str) -> str:
    """`message` itself: it is translated where it is shown, and found by `scripts/console_texts.py` here."""
    return message


@cache
def language(code: str) -> Language:
    return Language(code if code in LANGUAGES else DEFAULT)


def chosen(cookie: str, accepted: str) -> Language:
    """What the person chose, else the best of what the browser accepts (an Accept-Language header)."""
    if cookie in LANGUAGES:
        return language(cookie)
    wanted = sorted((_wish(part) for part in accepted.split(",")), key=lambda wish: -wish[1])
    found = negotiate_locale([name for name, weight in wanted if weight and name], list(LANGUAGES))
    return language((found or DEFAULT).split("_")[0])


def _wish(part: str) -> tuple[str, float]:
    """Of ``de-AT;q=0.8``: the locale and its weight; 0: not wanted, or not understood."""
    name, _, weight = part.partition(";")
    try:
        return name.strip().replace("-", "_"), float(weight.strip().removeprefix("q=") or 1)
    except ValueError:
        return "", 0.0
