"""Finds what must not be in the tree: paths of one machine, package registries' addresses, credentials.

Looks at every text file that git knows or would add. Prints `file:line: reason: text`; exit 1 when it found
anything. The clone has to work on any machine and with any mirror, so none of them may be named.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Letters in brackets keep the patterns from finding themselves.
FORBIDDEN = {
    "a path of one machine": re.compile(
        r"(?<![\w.~$}/-])(?:/work(?:space)?/|/roo[t]/|/home/[a-z][\w-]*/|/Users/\w|/op[t]/(?:wheels|pypi)\b)"
    ),
    "a package registry's address": re.compile(
        r"\b(?:pypi[.]org|pythonhosted[.]org|deb[.]debian[.]org|(?:security|snapshot|ftp)[.](?:\w+[.])?debian[.]org"
        r"|archive[.]ubuntu[.]com|registry[.]npmjs[.]org|docker[.]io|proxy[.]golang[.]org)\b"
    ),
    "an option that names a registry": re.compile(r"^\s*--(?:extra-)?index-url\b|^\s*--find-links\b"),
    "credentials in an address": re.compile(r"\bhttps?://[^\s/@:\"'{<]+:[^\s/@\"'{<]+@"),
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s*$"),
}


def files_of_the_tree(root: Path) -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return sorted(root / name for name in set(listing.split("\0")) if name)


def findings(path: Path, root: Path) -> Iterator[str]:
    if path.is_symlink() or not path.is_file():
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return
    for number, line in enumerate(lines, start=1):
        for reason, pattern in FORBIDDEN.items():
            if pattern.search(line):
                yield f"{path.relative_to(root)}:{number}: {reason}: {line.strip()[:120]}"
        if str(root) in line:
            yield f"{path.relative_to(root)}:{number}: this checkout's own path: {line.strip()[:120]}"


def main(root: Path = ROOT) -> int:
    found = [text for path in files_of_the_tree(root) for text in findings(path, root)]
    for text in found:
        print(text)
    print(f"tree: {len(found)} findings" if found else "tree: clean")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT))
