"""Templates: the environment, whole pages, and the blocks of a page that live."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from zugvogel.console import figures
from zugvogel.console.fields import size_text
from zugvogel.console.i18n import LANGUAGES, Language

TEMPLATES = Path(__file__).parent / "templates"
BASE, MACROS = "base.html", "macros.html"
LIVE = "live_"
MARK = f"\x1e{secrets.token_hex(16)}"
"""Begins a row: ``<MARK><id><SEPARATOR><html>``; ends with another `MARK`. Nobody outside this process ever sees
them: texts of the API that held them could move the borders between markup and text."""
SEPARATOR = f"\x1f{secrets.token_hex(16)}"

Parts = dict[str, list[tuple[str, str]]]
"""Block -> its pieces in order: row id and HTML; the id is empty for what stands between rows."""


@lru_cache(maxsize=len(LANGUAGES))
def environment(language: Language) -> Environment:
    """One a language. Undefined variables are defects, and everything is escaped."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    # `ui` holds the macros: blocks that are rendered by themselves do not run a page's own imports.
    made.globals.update(_=language.text, ngettext=language.texts, pgettext=language.text_of, row=_row)
    made.globals.update(lang=language, languages=LANGUAGES)
    for name in ("age", "size", "rate", "duration", "moment"):
        made.filters[name] = partial(getattr(figures, name), language=language)
    made.filters["json_script"] = _json_script
    made.filters["size_text"] = size_text
    made.globals["percent"] = partial(figures.percent, language=language)
    made.filters["number"] = language.number
    made.globals["ui"] = made.get_template(MACROS).module
    return made


def whole(language: Language, template: str, variables: Mapping[str, Any]) -> str:
    text = environment(language).get_template(template).render(variables)
    return "".join(_plain(text))


class Blocks:
    """The live blocks of a page."""

    def __init__(self, language: Language, template: str) -> None:
        made = environment(language)
        self._template = made.get_template(template)
        blocks = {**made.get_template(BASE).blocks, **self._template.blocks}
        self._blocks = {name: block for name, block in blocks.items() if name.startswith(LIVE)}

    def parts(self, variables: Mapping[str, Any]) -> Parts:
        return {name: list(_parts(self._render(name, variables))) for name in self._blocks}

    def _render(self, name: str, variables: Mapping[str, Any]) -> str:
        return "".join(self._blocks[name](self._template.new_context(dict(variables))))


class Fragments:
    """What one browser was sent of a page's live blocks.

    A block whose template wraps each of its rows in ``{% call row(id) %}`` is sent row by row while the same rows
    stand in the same order.
    """

    def __init__(self) -> None:
        self._sent: Parts = {}

    def changed(self, now: Parts) -> dict[str, str]:
        """Element id -> its new inner HTML (of a block), or its new whole HTML (of a row)."""
        found: dict[str, str] = {}
        if now is self._sent:
            return found
        for name, parts in now.items():
            before = self._sent.get(name)
            if before is None or not _is_same_frame(before, parts):
                found[name] = "".join(text for _, text in parts)
            else:
                found |= {key: text for (key, text), old in zip(parts, before, strict=True) if text != old[1]}
        self._sent = now
        return found


def _is_same_frame(before: list[tuple[str, str]], parts: list[tuple[str, str]]) -> bool:
    """The same rows in the same order, and the same between them."""
    if len(before) != len(parts):
        return False
    return all(
        key == old_key and (key or text == old) for (key, text), (old_key, old) in zip(parts, before, strict=True)
    )


def _row(key: str, caller: Any) -> Markup:
    return Markup(f"{MARK}{key}{SEPARATOR}{caller()}{MARK}")


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """(row id, HTML); the id is empty for what stands between rows."""
    for part in text.split(MARK):
        key, found, rest = part.partition(SEPARATOR)
        yield (key, rest.strip()) if found else ("", part)


def _plain(text: str) -> Iterator[str]:
    return (html for _, html in _parts(text))


def _json_script(value: Any) -> Markup:
    """Data for a script of the page, safe inside ``<script type="application/json">``."""
    text = json.dumps(value, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
