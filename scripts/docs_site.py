"""What the docs site needs and a forge does not: the hook of ``mkdocs.yml``, called by MkDocs while it builds.

Pages are written for a forge: they link files beside ``docs/``, begin lists without a blank line, and link German
pages by their file names. Here such pages are made fit for MkDocs, in memory; no file is changed.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
PROJECT_PAGES = {  # files beside docs/ that are pages of the site as well
    "README.md": "project/overview.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
}
SOURCES = {page: source for source, page in PROJECT_PAGES.items()}

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *(```|~~~)")
ITEM = re.compile(r"^(?:[-*+]|\d+[.)]) ")
GERMAN = ".de.md"


# text ---------------------------------------------------------------------------------------------------


def blank_lines_around_blocks(lines: list[str]) -> list[str]:
    """Python-Markdown takes a list, a table or code beside a paragraph for a part of it; forges do not."""
    out: list[str] = []
    is_code, before = False, ""
    for line in lines:
        is_fence = bool(FENCE.match(line))
        if (
            before.strip()
            and not is_code
            and (_begins_block(line, before) or FENCE.match(before))
            and line.strip()
        ):
            out.append("")
        out.append(line)
        is_code = is_code != is_fence
        before = line
    return out


def _begins_block(line: str, before: str) -> bool:
    if line.startswith("|"):
        return not before.startswith("|")
    if line.startswith("```"):
        return True
    return bool(ITEM.match(line)) and not ITEM.match(before) and not before.startswith((" ", "\t"))


def outside_fences(text: str, change: Callable[[str], str], code: str | None = None) -> str:
    """``change`` applied to each run of lines that is no code; code itself stays, or becomes ``code``."""
    parts = re.split(r"(^```.*?^```[^\n]*$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join((part if code is None else code) if part.startswith("```") else change(part) for part in parts)


# links --------------------------------------------------------------------------------------------------


def anchors(page: Path) -> list[str]:
    """Of the page's headings, in their order, as forges and the site make them."""
    text = outside_fences(page.read_text(), lambda part: part, code="")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def german_anchor(docs: Path, inside: str, anchor: str) -> str:
    """An English page that is read in the German site links German pages: the heading at the same place there."""
    german = docs / (inside.removesuffix(".md") + GERMAN)
    if not anchor or not german.exists():
        return anchor
    here, there = anchors(docs / inside), anchors(german)
    return there[here.index(anchor)] if anchor in here and len(here) == len(there) else ""


def site_link(page: str, text: str, link: str, language: str = "en") -> str:
    """The Markdown (or HTML) of one link of the page ``page`` (its path in the site's sources)."""
    path, _, anchor = link.partition("#")
    if not path or re.match(r"[a-z]+:", link):
        return f"[{text}]({link})"
    folder = posixpath.dirname(SOURCES.get(page) or f"docs/{page}")
    target = posixpath.normpath(posixpath.join(folder, path))
    if target not in PROJECT_PAGES and not target.startswith("docs/"):
        return f"`{target}`"  # a file of the source tree: not on the site
    inside = PROJECT_PAGES.get(target) or target.removeprefix("docs/")
    if language == "de" and not page.endswith(GERMAN):
        anchor = german_anchor(ROOT / "docs", inside, anchor)
    tail = f"#{anchor}" if anchor else ""
    if other := _in_the_other_language(page, inside):
        return f'<a href="{other}{tail}">{text}</a>'
    return f"[{text}]({posixpath.relpath(inside, posixpath.dirname(page) or '.')}{tail})"


def _in_the_other_language(page: str, inside: str) -> str:
    """Where the built page is when the link crosses from one language's site to the other's; else empty. MkDocs
    builds each by itself and knows no page of the other."""
    built = re.sub(r"\bREADME\.html$", "index.html", inside.removesuffix(GERMAN).removesuffix(".md") + ".html")
    if inside.endswith(GERMAN) and not page.endswith(GERMAN):
        return posixpath.relpath(f"de/{built}", posixpath.dirname(page) or ".")
    if page.endswith(GERMAN) and inside == page.removesuffix(GERMAN) + ".md":
        return posixpath.relpath(built, posixpath.join("de", posixpath.dirname(page)))
    return ""


def site_image(page: str, alt: str, link: str) -> str:
    """A picture that opens by itself when it is clicked: on a narrow screen its words are small."""
    folder = posixpath.dirname(SOURCES.get(page) or f"docs/{page}")
    inside = posixpath.normpath(posixpath.join(folder, link)).removeprefix("docs/")
    way = posixpath.relpath(inside, posixpath.dirname(page) or ".")
    return f"[![{alt}]({way})]({way})"


def for_the_site(page: str, text: str, language: str = "en") -> str:
    def change(part: str) -> str:
        part = LINK.sub(lambda m: site_link(page, m[1], m[2], language), part)
        part = IMAGE.sub(lambda m: site_image(page, m[1], m[2]), part)
        return part.replace("<details>", '<details markdown="1">')

    return outside_fences("\n".join(blank_lines_around_blocks(text.splitlines())), change)


# hooks of MkDocs ----------------------------------------------------------------------------------------


@event_priority(100)
def on_config(config: Any) -> Any:
    """Each ``*`` in the navigation becomes the pages of that folder which are not named beside it."""
    docs = Path(config.docs_dir)
    config.nav = [{title: _expanded(docs, pages) for title, pages in section.items()} for section in config.nav]
    return config


def _expanded(docs: Path, pages: list[Any]) -> list[Any]:
    out: list[Any] = []
    for page in pages:
        if isinstance(page, str) and "*" in page:
            found = sorted(path.relative_to(docs).as_posix() for path in docs.glob(page))
            out += [name for name in found if not name.endswith(GERMAN) and name not in pages]
        else:
            out.append(page)
    return out


@event_priority(-200)  # after i18n, which would look for these files below docs/
def on_files(files: Any, config: Any) -> Any:
    language = config.plugins["i18n"].current_language
    for name, page in PROJECT_PAGES.items():
        file: Any = File.generated(config, page, abs_src_path=str(ROOT / name))
        if language != "en":
            file.dest_uri = f"{language}/{file.dest_uri}"
        files.append(file)
    return files


@event_priority(100)
def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    return for_the_site(page.file.src_uri, markdown, config.plugins["i18n"].current_language)
