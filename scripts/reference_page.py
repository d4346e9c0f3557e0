"""A page of the reference that a script beside this one writes from the program itself, or checks (`--check`)."""

from __future__ import annotations

import sys
from pathlib import Path


def keep(page: Path, text: str) -> int:
    """The exit code: with `--check` nothing is written, and 1 says that the page is not up to date."""
    if "--check" not in sys.argv[1:]:
        page.write_text(text)
        return 0
    if page.exists() and page.read_text() == text:
        return 0
    print(f"{page.name} is not up to date: run python scripts/{Path(sys.argv[0]).name}", file=sys.stderr)
    return 1
