"""Brings the console's translations up to date: `python scripts/console_texts.py`.

Takes the texts of all templates and modules of the console into `locale/<language>/console.po`; what is translated
stays, new ones are empty, and those that no page uses any more are dropped. `--check` writes nothing and fails where a
text has no translation, or one that does not fit (tests do this).
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
TEMPLATE_WORDS = {"_": None, "ngettext": (1, 2)}
PYTHON_WORDS = {"text": None, "texts": (1, 2), "marked": None}
PLACE = re.compile(r"%\((\w+)\)s")


def texts() -> Catalog:
    """All texts of the console."""
    found = Catalog()
    for path, method, words in _sources():
        options = {"extensions": "jinja2.ext.do"} if method.startswith("jinja2") else {}
        with path.open("rb") as file:
            for _, message, _, _ in extract(method, file, keywords=words, options=options):
                found.add(message, locations=[(path.relative_to(CONSOLE).as_posix(), 0)])
    return found


def _sources() -> Iterator[tuple[Path, str, dict[str, tuple[int, ...] | None]]]:
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
    known, made = read(language), Catalog(locale=language, project="Zugvogel", fuzzy=False)
    for message in wanted:
        if message.id:
            before = known.get(message.id)
            string = before.string if before else ("", "") if message.pluralizable else ""
            made.add(message.id, string, locations=message.locations)
    return made


def faults(language: str, wanted: Catalog) -> list[str]:
    """What is wrong with a language's translations, a line each."""
    known, found = read(language), []
    for message in wanted:
        if message.id:
            found += _faults(message, known.get(message.id))
    unused = [m.id for m in known if m.id and m.id not in wanted]
    return [*found, *(f"no page uses: {each!r}" for each in unused)]


def _faults(wanted: Message, known: Message | None) -> list[str]:
    ids = wanted.id if isinstance(wanted.id, tuple) else (wanted.id,)
    strings = () if known is None else known.string if isinstance(known.string, tuple) else (known.string,)
    if known is None or known.fuzzy or not all(strings) or len(strings) != len(ids):
        return [f"not translated: {ids[0]!r}"]
    names = set(PLACE.findall(ids[-1]))
    return [f"other values than in English: {s!r}" for s in strings if not set(PLACE.findall(s)) <= names]


def written(catalog: Catalog) -> bytes:
    stream = io.BytesIO()
    write_po(stream, catalog, width=110, omit_header=False, sort_output=True, no_location=True)
    lines = stream.getvalue().split(b"\n")
    return b"\n".join(line for line in lines if not line.startswith((b'"POT-Creation', b'"PO-Revision', b"# ")))


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
