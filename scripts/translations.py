"""Says which German page no longer follows its English source: `python scripts/translations.py`, exit 1 if any.

`leases.de.md` is the translation of `leases.md` beside it; its last line names the English text it was made from.
Once it is up to date again, `python scripts/translations.py --mark docs/explanation/leases.de.md` renews it.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"<!-- translation of (\S+), sha256 ([0-9a-f]{12}) -->\s*\Z")
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"^!\[[^\]]*\]\(([^)\s]+)\)\s*$\n?", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
DRAWN = re.compile(r"\A |[─│═▶◀]")  # columns that begin with a space, or arrows


def translations(root: Path = ROOT) -> list[Path]:
    return sorted((root / "docs").rglob("*.de.md"))


def source_of(german: Path) -> Path:
    return german.with_name(german.name.removesuffix(".de.md") + ".md")


def digest(english: str) -> str:
    """Of the words: a picture that is added to both pages makes no translation older."""
    words = " ".join(PICTURE.sub("", english).split())
    return hashlib.sha256(words.encode()).hexdigest()[:12]


def mark(german: Path) -> None:
    source = source_of(german)
    line = f"<!-- translation of {source.name}, sha256 {digest(source.read_text())} -->\n"
    german.write_text(MARK.sub("", german.read_text()).rstrip() + "\n\n" + line)


def faults(german: Path) -> list[str]:
    """What the page lacks against its source, in the order in which it would be mended."""
    source = source_of(german)
    if not source.exists():
        return [f"its English page {source.name} is gone"]
    text, english = german.read_text(), source.read_text()
    found = [
        f"{what} differ: English {there}, German {here}"
        for what, there, here in (
            ("headings", _levels(english), _levels(text)),
            ("table rows", _rows(english), _rows(text)),
            ("pictures", _pictures(english), _pictures(text)),
        )
        if there != here
    ]
    found += _blocks_that_differ(english, text)
    found += [f"`{span}` is missing" for span in sorted(_spans(english) - _spans(text))]
    found += _links_that_differ(source, english, text)
    stands = MARK.search(text)
    if not stands or stands[2] != digest(english):
        found.append("older than its source: update it, then scripts/translations.py --mark it")
    return found


def _prose(text: str) -> str:
    return FENCE.sub("", text)


def _levels(text: str) -> list[int]:
    return [len(signs) for signs in re.findall(r"^(#+) ", _prose(text), re.MULTILINE)]


def _rows(text: str) -> int:
    return len(re.findall(r"^\|", _prose(text), re.MULTILINE))


def _pictures(text: str) -> list[str]:
    return [picture.replace(".de.svg", ".svg") for picture in PICTURE.findall(text)]


def _spans(text: str) -> set[str]:
    return {" ".join(span.split()) for span in re.findall(r"`([^`]+)`", _prose(text))}


def _blocks_that_differ(english: str, german: str) -> list[str]:
    """Commands are the same, their comments may be German; of a drawing only that it is there."""
    there, here = FENCE.findall(english), FENCE.findall(german)
    if len(there) != len(here):
        return [f"code blocks differ: English {len(there)}, German {len(here)}"]
    return [
        f"code block {number} differs"
        for number, (one, other) in enumerate(zip(there, here, strict=True), start=1)
        if not (DRAWN.search(one) and DRAWN.search(other)) and _commands(one) != _commands(other)
    ]


def _commands(block: str) -> list[str]:
    return [re.sub(r"\s+# .*", "", line).rstrip() for line in block.splitlines()]


def _links_that_differ(source: Path, english: str, german: str) -> list[str]:
    """The same pages in whatever order, in German where they exist in German. The two may link each other."""
    there = Counter(_in_german(source, link) for link in LINK.findall(_prose(english)))
    here = Counter(link.partition("#")[0] for link in LINK.findall(_prose(german)))
    del there[source.stem + ".de.md"], here[source.name]
    return [
        *(f"no link to {link or 'the page itself'}" for link in sorted(there - here)),
        *(f"a link to {link or 'the page itself'} more" for link in sorted(here - there)),
    ]


def _in_german(source: Path, link: str) -> str:
    path = link.partition("#")[0]
    german = path.removesuffix(".md") + ".de.md"
    return german if path.endswith(".md") and (source.parent / german).exists() else path


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--mark"]:
        for name in arguments[1:]:
            mark(Path(name))
        return 0
    count = 0
    for page in translations():
        for fault in faults(page):
            print(f"{page.relative_to(ROOT)}: {fault}")
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
