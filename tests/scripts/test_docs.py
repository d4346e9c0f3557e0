"""The documentation holds together: links lead somewhere, and commands in it exist with their options."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zugvogel.domain.event_kinds import EVENT_KINDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL_WORDS = {"|", "&&", ";", ">", "<", "·", "||", "2>"}


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """As GitHub makes them: lower case, signs dropped, spaces to dashes."""
    text = FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_reached_from_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    reached, left = {index}, [index]
    while left:
        page = left.pop()
        for link in LINK.findall(page.read_text()):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.exists() and target not in reached:
                reached.add(target)
                left.append(target)
    unreached = set((ROOT / "docs").rglob("*.md")) - reached
    assert sorted(map(name, unreached)) == []


def test_every_kind_of_event_is_in_the_reference() -> None:
    emitted = set()
    for file in (ROOT / "src" / "zugvogel" / "services").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "emit":
                emitted |= {c.value for c in ast.walk(node.args[0]) if isinstance(c, ast.Constant)}
    told = set(re.findall(r"`([a-z]+\.[a-z-]+)`", (ROOT / "docs" / "reference" / "events.md").read_text()))
    assert emitted - told == set()
    assert told - emitted <= {"vm.migrated", "vm.migration-ended"}, "told by a variable, in live_migration"
    assert told == EVENT_KINDS


# commands -----------------------------------------------------------------------------------------------


def _root_command() -> Any:
    spec = importlib.util.spec_from_file_location("cli_reference", ROOT / "scripts" / "cli_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.commands()


def commands_in(text: str) -> Iterator[list[str]]:
    """Words after `zv` in code blocks and in code spans; what follows a pipe or a sign is not part of it."""
    spans = re.findall(r"`(zv [^`\n]+)`", FENCE.sub("", text))
    lines = [line for block in FENCE.findall(text) for line in block.splitlines()]
    for line in (*spans, *lines):
        found = re.match(r"^(?:[#$] )?(?:sudo )?zv ([a-z-].*)$", line.strip())
        if not found:
            continue
        try:
            words = shlex.split(found[1], comments=True)
        except ValueError:
            continue
        end = next((i for i, word in enumerate(words) if word in SHELL_WORDS), len(words))
        yield words[:end]


def fault_of(root: Any, words: list[str]) -> str:
    """What is wrong with a command line, empty when nothing is. Values are not looked at, nor is what follows a
    command that is filled in (X)."""
    command, rest = root, list(words)
    while rest and getattr(command, "commands", None):
        if rest[0].startswith("-"):
            break
        word = rest.pop(0)
        if word in {"...", "COMMAND", "X"}:
            return ""
        if word not in command.commands:
            return f"no command {word!r}"
        command = command.commands[word]
    known = {option for param in command.params for option in (*param.opts, *param.secondary_opts)} | {"--help"}
    given = rest[: rest.index("--")] if "--" in rest else rest
    unknown = [word for word in given if word.startswith("-") and word != "-" and word.split("=")[0] not in known]
    return f"no option {unknown[0]}" if unknown else ""


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "cli.md"], ids=name)
def test_commands_exist_with_their_options(page: Path) -> None:
    root = _root_command()
    faults = [
        f"zv {' '.join(words)}: {fault}"
        for words in commands_in(page.read_text())
        if (fault := fault_of(root, words))
    ]
    assert faults == []


def test_commands_that_messages_name_exist() -> None:
    root = _root_command()
    faults = {f"zv {text}" for text in commands_in_messages() if fault_of(root, text.split())}
    assert faults == set()


def commands_in_messages() -> Iterator[str]:
    """Commands in the texts of the program, with X for what is filled in; up to the end of their words."""
    for file in (ROOT / "src" / "zugvogel").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(v.value) if isinstance(v, ast.Constant) else "X" for v in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value[-1:] != " ":
                text = node.value
            else:
                continue
            for found in re.findall(r"\bzv ([a-z][^`,;:()\[\]\n·]*)", text):
                yield re.split(r"  |\. | on | and ", found)[0].strip()


def test_a_wrong_command_would_be_found() -> None:
    root = _root_command()
    assert fault_of(root, ["vm", "fly", "web1"]) == "no command 'fly'"
    assert fault_of(root, ["vm", "stop", "web1", "--hard"]) == "no option --hard"
    assert fault_of(root, ["vm", "stop", "web1", "--timeout", "5"]) == ""
