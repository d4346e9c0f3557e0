"""Draws the sequences of the docs: those whose source changed; with ``--check`` it only names them.

Each ``docs/pictures/sequences/NAME.mmd`` is Mermaid's text and becomes ``NAME.svg`` beside it, by Mermaid in a
Chromium without a window. Its look is ``style.css``, for light and dark. Needs npm (for Mermaid, once)
and Chromium.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "pictures" / "sequences"
MERMAID = "12.3.0"
CACHE = ROOT / ".cache" / f"mermaid-{MERMAID}"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BAND = 0.6  # a note over so much of the width parts the sequence: it tells the time, or where one is

DRAW = """async ([theme, source, band]) => {
    mermaid.initialize({startOnLoad: false, ...theme});
    const holder = document.createElement('div');
    document.body.replaceChildren(holder);
    holder.innerHTML = (await mermaid.render('sequence', source)).svg;
    const svg = holder.querySelector('svg');
    const [x, y, width, height] = svg.getAttribute('viewBox').split(' ').map(Number);
    svg.setAttribute('width', width);
    svg.setAttribute('height', height);
    svg.removeAttribute('style');
    svg.querySelectorAll('symbol').forEach(symbol => symbol.closest('defs').remove());
    svg.querySelectorAll('filter, linearGradient').forEach(unused => unused.remove());
    svg.querySelectorAll('.actor-line').forEach(line => line.setAttribute('y2', y + height));
    svg.querySelectorAll('rect.note').forEach(note => {
        if (note.getAttribute('width') > band * width) note.parentElement.classList.add('band');
    });
    svg.querySelectorAll('[style]').forEach(styled => styled.style.removeProperty('font-family'));
    return new XMLSerializer().serializeToString(svg);
}"""


def digest(source: Path) -> str:
    """Of all a picture is made from."""
    parts = [MERMAID, DRAW, *(file.read_text() for file in (FOLDER / "theme.json", FOLDER / "style.css", source))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def mark(source: Path) -> str:
    return f"<!-- drawn from {source.name}, sha256 {digest(source)} -->\n"


def sources() -> list[Path]:
    return sorted(FOLDER.glob("*.mmd"))


def stale() -> list[Path]:
    """Sources whose picture is missing or was drawn from something else."""
    pictures = {source: source.with_suffix(".svg") for source in sources()}
    return [
        s for s, picture in pictures.items() if not picture.exists() or not picture.read_text().startswith(mark(s))
    ]


def mermaid() -> Path:
    """Mermaid as published, from npm's registry or cache."""
    script = CACHE / "package" / "dist" / "mermaid.min.js"
    if not script.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        packed = subprocess.run(
            ["npm", "pack", "--silent", f"mermaid@{MERMAID}"],
            cwd=CACHE,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()[-1]
        with tarfile.open(CACHE / packed) as archive:
            archive.extractall(CACHE, filter="data")
    return script


def with_look(svg: str) -> str:
    """Our style in place of Mermaid's, whose colours are of one scheme."""
    style = re.sub(r"\s+", " ", (FOLDER / "style.css").read_text()).strip()
    return re.sub(r"<style[^>]*>.*?</style>", lambda _: f"<style>{style}</style>", svg, count=1, flags=re.DOTALL)


def draw(wanted: Iterable[Path]) -> None:
    from playwright.sync_api import sync_playwright  # only who draws needs it

    browser_path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser_path is None:
        raise SystemExit(f"no browser found: install one of {', '.join(BROWSERS)}")
    theme = json.loads((FOLDER / "theme.json").read_text())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page: Any = browser.new_page()
        page.set_content("<body></body>")
        page.add_script_tag(path=str(mermaid()))
        for source in wanted:
            svg = with_look(page.evaluate(DRAW, [theme, source.read_text(), BAND]))
            source.with_suffix(".svg").write_text(mark(source) + svg + "\n")
            print(f"drawn: {source.with_suffix('.svg').relative_to(ROOT)}")
        browser.close()


def main() -> int:
    wanted = stale()
    if "--check" in sys.argv[1:]:
        for source in wanted:
            print(f"{source.relative_to(ROOT)} is newer than its picture: run `make pictures`", file=sys.stderr)
        return 1 if wanted else 0
    if wanted:
        draw(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
