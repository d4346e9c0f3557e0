"""Writes docs/reference/cli.md from the command tree itself: `python scripts/cli_reference.py`.

With `--check` it writes nothing and ends with 1 when the file is not up to date. Texts are those of `--help`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from zugvogel.cli.main import build

TARGET = Path(__file__).resolve().parent.parent / "docs" / "reference" / "cli.md"
HEAD = """\
# Commands of `zv`

<!-- Written by scripts/cli_reference.py from the program itself. Change the help texts, not this page. -->

`zv` is short for `zugvogel`; both are the same program. Every command has `--help`. Standard output carries the
result alone (with `--json` one JSON value), standard error everything else. Exit codes: [exit codes and
errors](exit-codes-and-errors.md). `<int range>` and the like name what is expected; `2G` means 2 GiB.
"""


def commands() -> Any:
    """The root command with everything in it, the lab and the demo too. Typer's own class."""
    return get_command(build(["lab", "demo", "sim"]))


def children(command: Any) -> dict[str, Any]:
    """Visible subcommands by name; empty for a command that does something itself."""
    found: dict[str, Any] = getattr(command, "commands", {})
    return {name: child for name, child in found.items() if not child.hidden}


def reference() -> str:
    """The whole page."""
    root = commands()
    context = root.context_class(root, info_name="zv")
    parts = [HEAD, *_section(root, context, "## Options of `zv` itself", with_usage=False)]
    for name, child in children(root).items():
        inner = child.context_class(child, info_name=name, parent=context)
        if not children(child):
            parts += _section(child, inner, f"## zv {name}")
            continue
        parts.append(f"## zv {name}\n\n{_plain(child.help)}\n")
        for verb, leaf in children(child).items():
            deepest = leaf.context_class(leaf, info_name=verb, parent=inner)
            parts += _section(leaf, deepest, f"### zv {name} {verb}")
    return "\n".join(parts)


def _section(command: Any, context: Any, heading: str, *, with_usage: bool = True) -> Iterator[str]:
    yield f"{heading}\n\n{_plain(command.help)}\n"
    if with_usage:
        yield f"```\n{' '.join([context.command_path, *_usage(command)])}\n```\n"
    rows = [row for param in command.params if (row := _row(param, context))]
    if rows:
        yield "| | |\n|---|---|\n" + "\n".join(rows) + "\n"
    if command.epilog and with_usage:
        yield f"{_plain(command.epilog)}\n"


def _usage(command: Any) -> Iterator[str]:
    """Arguments and required options; a word with a choice shows the choice."""
    visible = [p for p in command.params if not getattr(p, "hidden", False)]
    for param in visible:
        if param.param_type_name == "argument":
            word = _argument(param) + ("..." if param.nargs != 1 and "..." not in _argument(param) else "")
            yield word if param.required else f"[{word}]"
        elif param.required:
            yield f"{param.opts[0]} {_choice(param) or param.name.upper()}"
    if any(p.param_type_name == "option" and not p.required for p in visible):
        yield "[OPTIONS]"


def _argument(param: Any) -> str:
    return str(param.metavar or _choice(param) or param.name.upper())


def _choice(param: Any) -> str:
    return "|".join(str(choice) for choice in param.type_descriptor.choices or ())


def _row(param: Any, context: Any) -> str:
    record = None if getattr(param, "hidden", False) else param.get_help_record(context)
    if record is None:
        return ""
    name, text = record
    if param.param_type_name == "argument":
        if not param.help:  # the usage line says all there is
            return ""
        name = _argument(param)
    return f"| `{_cell(name)}` | {_cell(_plain(text))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _plain(text: str | None) -> str:
    return " ".join((text or "").replace("<=", "≤").replace(">=", "≥").split())


if __name__ == "__main__":
    import reference_page

    sys.exit(reference_page.keep(TARGET, reference()))
