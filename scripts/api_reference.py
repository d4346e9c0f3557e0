"""Writes the table of operations in docs/reference/rest-api.md from the API's own OpenAPI document:
`python scripts/api_reference.py`.

With `--check` it writes nothing and ends with 1 when the page is not up to date. With `--openapi FILE` it writes
the document itself to FILE, for sites and generators.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

from zugvogel.api.app import create_app
from zugvogel.ports.backend import Backend

TARGET = Path(__file__).resolve().parent.parent / "docs" / "reference" / "rest-api.md"
BEGIN = "<!-- Written by scripts/api_reference.py from the program itself, up to the next such line. -->\n"
END = "<!-- Here it ends. -->\n"
PREFIX = "/api/v1"


def document() -> dict[str, Any]:
    return create_app(cast(Backend, None)).openapi()  # nobody is asked


def table() -> str:
    told = document()
    parts = []
    for tag in told["tags"]:
        rows = [
            _row(method, path, operation)
            for path, methods in told["paths"].items()
            for method, operation in methods.items()
            if operation["tags"] == [tag["name"]]
        ]
        heading = tag["name"][:1].upper() + tag["name"][1:]
        head = "| operation | role | what it does | in Python |\n|---|---|---|---|\n"
        parts.append(f"### {heading}\n{tag['description']}\n\n{head}" + "".join(rows))
    return "\n".join(parts)


def _row(method: str, path: str, operation: dict[str, Any]) -> str:
    needed = [role for scheme in operation.get("security", ()) for role in next(iter(scheme.values()))]
    inner = path.removeprefix(PREFIX) if path.startswith(PREFIX) else f"{path} (not below {PREFIX})"
    shown, _, remark = inner.partition(" ")
    place = f"`{method.upper()} {shown}`" + (f" {remark}" if remark else "")
    role = needed[0] if needed else "–"
    return f"| {place} | {role} | {operation['summary']} | `{operation['operationId']}` |\n"


def page(now: str) -> str:
    """`now` with the table in its place."""
    before, _, rest = now.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


def main(arguments: list[str]) -> int:
    if "--openapi" in arguments:
        Path(arguments[arguments.index("--openapi") + 1]).write_text(json.dumps(document(), indent=1) + "\n")
        return 0
    now = TARGET.read_text()
    if "--check" not in arguments:
        TARGET.write_text(page(now))
        return 0
    if page(now) == now:
        return 0
    print(f"{TARGET.name} is not up to date: run python scripts/api_reference.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
