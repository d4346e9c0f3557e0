"""Writes src/zugvogel/client/_sync from _async: the same client, without asyncio.

A test says that both are in step; run this after each change of _async.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).parents[1] / "src" / "zugvogel" / "client"
WORDS = (
    (r"zugvogel\.client\.transport\b", "zugvogel.client.blocking"),
    (r"\b_async\b", "_sync"),
    (r"\bAsyncGenerator\[(\w+), None\]", r"Iterator[\1]"),
    (r"\bAsyncGenerator, AsyncIterator\b", "Iterator"),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\basync (def|for|with) ", r"\1 "),
    (r"\bawait ", ""),
    (r"\b__aenter__\b", "__enter__"),
    (r"\b__aexit__\b", "__exit__"),
    (r"\basyncio\.sleep\b", "time.sleep"),
    (r"import asyncio\n", ""),
)
FIRST = '''"""The client that blocks. Written by `scripts/sync_client.py` from `_async`: change it there."""\n'''


def sync_of(text: str) -> str:
    for pattern, word in WORDS:
        text = re.sub(pattern, word, text)
    return text


def files() -> dict[Path, str]:
    """What `_sync` must hold, formatted."""
    found = {}
    for source in sorted((CLIENT / "_async").glob("*.py")):
        text = FIRST if source.name == "__init__.py" else formatted(sync_of(source.read_text()))
        found[CLIENT / "_sync" / source.name] = text
    return found


def formatted(text: str) -> str:
    """Imports sorted, lines wrapped, as in the rest of the tree."""
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check", "--quiet", "--fix", "--select", "I"], ["format", "--quiet"]):
        arguments = [*ruff, *command, "--stdin-filename", str(CLIENT / "_sync" / "x.py"), "-"]
        text = subprocess.run(arguments, input=text, capture_output=True, text=True, check=True).stdout
    return text


if __name__ == "__main__":
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
