"""Brings the console's translations up to date: `python scripts/console_texts.py`.

Takes the texts of all templates and modules of the console into `locale/<language>/console.po`; what is translated
stays, new ones are empty, and those that no page uses any more are dropped. `--check` writes nothing and fails if
a text has no translation, or one that does not fit (tests do this).
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract
from babel.messages.pofile import read_po, write_po

CONSOLE = Path(__file__).parent.parent / "src/zugvogel/console"
LANGUAGES = ("de",)
Keywords = dict[str, tuple[int | tuple[int, str], ...] | None]
TEMPLATE_WORDS: Keywords = {"_": None, "ngettext": (1, 2), "pgettext": ((1, "c"), 2)}
PYTHON_WORDS: Keywords = {"text": None, "says": None, "texts": (1, 2), "text_of": ((1, "c"), 2), "marked": None}
NOTHING_TOLD = tuple(f'"{each}'.encode() for each in (
    "Project-Id-Version", "Report-Msgid-Bugs-To", "POT-Creation-Date", "PO-Revision-Date", "Last-Translator",
    "Language-Team", "Generated-By",
))  # fmt: skip
"""Lines of the head that would only be placeholders, or change with the day and the version of Babel."""
PLACE = re.compile(r"%\((\w+)\)s")


def texts() -> Catalog:
    """All texts of the console."""
    found = Catalog()
    for path, method, words in _sources():
        options = {"extensions": "jinja2.ext.do"} if method.startswith("jinja2") else {}
        with path.open("rb") as file:
            for _, message, _, context in extract(method, file, keywords=words, options=options):
                found.add(message, context=context, locations=[(path.relative_to(CONSOLE).as_posix(), 0)])
    return found


def _sources() -> Iterator[tuple[Path, str, Keywords]]:
    for path in sorted((CONSOLE / "templates").rglob("*.html")):
        yield path, "jinja2.ext:babel_extract", TEMPLATE_WORDS
    for path in sorted(CONSOLE.rglob("*.py")):
        yield path, "python", PYTHON_WORDS


def read(language: str) -> Catalog:
    file = CONSOLE / "locale" / language / "console.po"
    if not file.exists():
        return Catalog(locale=language)
    with file.open("rb") as stream:
        return read_po(stream, locale=language)


def updated(language: str, wanted: Catalog) -> Catalog:
    known, made = read(language), Catalog(locale=language, header_comment="", fuzzy=False)
    for message in wanted:
        if message.id:
            before = known.get(message.id, message.context)
            string = before.string if before else ("", "") if message.pluralizable else ""
            made.add(message.id, string, context=message.context, locations=message.locations)
    return made


def faults(language: str, wanted: Catalog) -> list[str]:
    """What is wrong with a language's translations, a line each."""
    known, found = read(language), []
    for message in wanted:
        if message.id:
            found += _faults(message, known.get(message.id, message.context))
    unused = [m.id for m in known if m.id and wanted.get(m.id, m.context) is None]
    return [*found, *(f"no page uses: {each!r}" for each in unused)]


def _faults(wanted: Message, known: Message | None) -> list[str]:
    ids, strings = _each(wanted.id), _each(known.string) if known else ()
    if known is None or known.fuzzy or not all(strings) or len(strings) != len(ids):
        return [f"not translated: {ids[0]!r}"]
    names = set(PLACE.findall(ids[-1]))
    return [f"other values than in English: {s!r}" for s in strings if not set(PLACE.findall(s)) <= names]


def _each(text: str | list[str] | tuple[str, ...] | None) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text or ())


def written(catalog: Catalog) -> bytes:
    stream = io.BytesIO()
    write_po(stream, catalog, width=110, omit_header=False, sort_output=True, no_location=True)
    lines = stream.getvalue().split(b"\n")
    return b"\n".join(line for line in lines if not line.startswith(NOTHING_TOLD)).lstrip()


def main(arguments: list[str]) -> int:
    wanted, is_wrong = texts(), False
    for language in LANGUAGES:
        if arguments == ["--check"]:
            for fault in faults(language, wanted):
                print(f"{language}: {fault}")
                is_wrong = True
            continue
        target = CONSOLE / "locale" / language / "console.po"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(written(updated(language, wanted)))
        print(f"{target.name} ({language}): {len(wanted)} texts, {len(faults(language, wanted))} to do")
    return 1 if is_wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
