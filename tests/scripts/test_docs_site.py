"""The docs site is built strictly, loads nothing from elsewhere, and its links, anchors and pictures are there."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINKED_ELSEWHERE = re.compile(r"https://(keepachangelog\.com|semver\.org)/")
LOADED = {"src", "srcset", "poster", "data", "action", "formaction", "background"}
LOADING_LINKS = {"stylesheet", "preload", "modulepreload", "icon", "preconnect", "dns-prefetch", "manifest"}


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("docs_site", ROOT / "scripts" / "docs_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


docs_site = _script()


class Page(HTMLParser):
    """What a page links, loads and offers as anchors, and its paragraphs' texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.classes: set[str] = set()
        self.images: list[dict[str, str]] = []
        self.paragraphs: list[str] = []
        self._is_in_paragraph = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found[name] for name in ("id", "name") if found.get(name)}
        self.classes |= set(found.get("class", "").split())
        self.loads += [found[name] for name in LOADED if name in found]
        if tag == "img":
            self.images.append(found)
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "link" and LOADING_LINKS & set(found.get("rel", "").split()):
            self.loads.append(found["href"])
        if tag == "p":
            self._is_in_paragraph = True
            self.paragraphs.append("")

    def handle_endtag(self, tag: str) -> None:
        self._is_in_paragraph = self._is_in_paragraph and tag != "p"

    def handle_data(self, data: str) -> None:
        if self._is_in_paragraph:
            self.paragraphs[-1] += data


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    told = [line for line in (built.stdout + built.stderr).splitlines() if not line.startswith("INFO")]
    assert built.returncode == 0, "\n".join(told)
    return folder


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[Path, Page]:
    # 404.html is shown at any depth, so its links begin with a slash
    return {file: read(file) for file in sorted(site.rglob("*.html")) if file.name != "404.html"}


@cache
def read(file: Path) -> Page:
    return Page(file.read_text())


# the site -----------------------------------------------------------------------------------------------


def test_every_page_of_the_docs_is_on_the_site(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").as_posix()
        folder = site / "de" if name.endswith(".de.md") else site
        built = re.sub(r"(\.de)?\.md$", ".html", name).replace("README.html", "index.html")
        assert (folder / built).is_file(), name
    for name in ("overview", "changelog", "contributing"):
        assert (site / "project" / f"{name}.html").is_file()


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    far = {f"{file.relative_to(site)}: {url}" for file, page in pages.items() for url in page.loads if is_far(url)}
    for style in site.rglob("*.css"):
        far |= {
            f"{style.name}: {url}"
            for url in re.findall(r"url\([\"']?([^)\"']+)", style.read_text())
            if is_far(url)
        }
        far |= {f"{style.name}: {rule}" for rule in re.findall(r"@import[^;]+", style.read_text())}
    for picture in site.rglob("*.svg"):
        urls = re.findall(r"(?:href|src)=\"([^\"]+)\"|url\(([^)]+)\)", picture.read_text())
        far |= {f"{picture.name}: {url}" for found in urls for url in found if url and is_far(url)}
    assert far == set()


def test_the_themes_own_scripts_have_no_reason_to_load_any(pages: dict[Path, Page]) -> None:
    """The theme loads Mermaid from elsewhere where a page has a diagram's text, and facts of a repository."""
    for page in pages.values():
        assert not {"mermaid", "md-source"} & page.classes


def test_links_elsewhere_are_few_and_known(pages: dict[Path, Page]) -> None:
    unknown = {
        url for page in pages.values() for url in page.links if is_far(url) and not LINKED_ELSEWHERE.match(url)
    }
    assert unknown == set()


def test_links_and_anchors_resolve(site: Path, pages: dict[Path, Page]) -> None:
    broken = [
        f"{file.relative_to(site)}: {link}"
        for file, page in pages.items()
        for link in [*page.links, *page.loads]
        if not is_far(link) and not resolves(file, link)
    ]
    assert broken == []


def resolves(file: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (file.parent / unquote(path.partition("?")[0])).resolve() if path else file
    if target.is_dir():
        target = target / "index.html"
    if not target.is_file():
        return False
    return not anchor or target.suffix != ".html" or anchor == "__" or unquote(anchor) in read(target).ids


def is_far(url: str) -> bool:
    return bool(re.match(r"(?:[a-z][a-z0-9+.-]*:)?//|(?:mailto|javascript):", url, re.IGNORECASE))


def test_every_picture_is_described(pages: dict[Path, Page]) -> None:
    assert [image for page in pages.values() for image in page.images if len(image.get("alt", "")) < 10] == []


def test_lists_and_tables_are_no_paragraphs(site: Path, pages: dict[Path, Page]) -> None:
    flat = [
        f"{file.relative_to(site)}: {text[:60]}"
        for file, page in pages.items()
        for text in page.paragraphs
        if re.search(r"^(?:[-*] |\d+\. |\|)", text, re.MULTILINE)
    ]
    assert flat == []


def test_each_language_leads_to_the_other(site: Path) -> None:
    english, german = read(site / "explanation" / "leases.html"), read(site / "de" / "explanation" / "leases.html")
    assert any(link.endswith("de/explanation/leases.html") for link in english.links)
    assert any(re.fullmatch(r"(\.\./)+explanation/leases\.html", link) for link in german.links)
    assert "de/index.html" in read(site / "index.html").links
    assert "../index.html" in read(site / "de" / "index.html").links


def test_german_pages_have_german_pictures(site: Path) -> None:
    page = site / "de" / "explanation" / "leases.html"
    (source,) = (image["src"] for image in read(page).images)
    assert "Die Epochs der Lease einer VM" in (page.parent / source).read_text()


# what the hook does to pages ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "link", "made"),
    [
        ("explanation/a.md", "guard.md#the-watchdog", "[x](guard.md#the-watchdog)"),
        ("explanation/a.md", "../../README.md", "[x](../project/overview.md)"),
        ("explanation/a.md", "../../src/zugvogel/x.py", "`src/zugvogel/x.py`"),
        ("project/overview.md", "docs/README.md#a", "[x](../README.md#a)"),
        ("project/overview.md", "LICENSE", "`LICENSE`"),
        ("project/overview.md", "#needs", "[x](#needs)"),
        ("README.md", "README.de.md", '<a href="de/index.html">x</a>'),
        ("adr/a.md", "../explanation/b.de.md", '<a href="../de/explanation/b.html">x</a>'),
        ("explanation/b.de.md", "b.md", '<a href="../../explanation/b.html">x</a>'),
        ("explanation/b.de.md", "c.de.md", "[x](c.de.md)"),
        ("a.md", "https://semver.org/", "[x](https://semver.org/)"),
    ],
)
def test_links_of_a_forge_become_links_of_the_site(page: str, link: str, made: str) -> None:
    assert docs_site.site_link(page, "x", link) == made


def test_anchors_into_german_pages_are_those_of_the_same_heading(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# A\n\n## The rules\n")
    (tmp_path / "a.de.md").write_text("# A\n\n```\n# no heading\n```\n\n## Größe, und Regeln?\n")
    assert docs_site.german_anchor(tmp_path, "a.md", "the-rules") == "größe-und-regeln"
    assert docs_site.german_anchor(tmp_path, "a.md", "unknown") == ""
    assert docs_site.german_anchor(tmp_path, "b.md", "the-rules") == "the-rules"
    (tmp_path / "a.de.md").write_text("# A\n")
    assert docs_site.german_anchor(tmp_path, "a.md", "the-rules") == ""


def test_blocks_get_their_blank_lines() -> None:
    text = "words:\n- one\n  more\n- two\n\nwords:\n```\ncode\n- no list\n```\nwords\n| a |\n|---|\n| b |"
    made = docs_site.blank_lines_around_blocks(text.splitlines())
    assert made[:6] == ["words:", "", "- one", "  more", "- two", ""]
    assert made[6:14] == ["words:", "", "```", "code", "- no list", "```", "", "words"]
    assert made[14:] == ["", "| a |", "|---|", "| b |"]


def test_code_is_left_as_it_is() -> None:
    text = "see [x](../../src/y.py)\n\n```\n[x](../../src/y.py)\n```\n"
    assert docs_site.for_the_site("explanation/a.md", text) == "see `src/y.py`\n\n```\n[x](../../src/y.py)\n```"


def test_pages_that_nobody_placed_are_in_the_navigation(tmp_path: Path) -> None:
    for name in ("b.md", "a.md", "a.de.md", "named.md"):
        (tmp_path / name).write_text("")
    assert docs_site._expanded(tmp_path, ["named.md", "*.md"]) == ["named.md", "a.md", "b.md"]
