"""The pinned requirements: complete, hashed, without addresses, and the same in both files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(file: str) -> dict[str, str]:
    text = (ROOT / "requirements" / file).read_text()
    return {plain(name): version for name, version in PIN.findall(text)}


def names(wanted: list[str]) -> set[str]:
    return {plain(re.split(r"[<>=!~;\[ ]", text, maxsplit=1)[0]) for text in wanted}


def test_every_dependency_of_the_project_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert names(project["project"]["dependencies"]) <= pins("runtime.txt").keys()
    assert names(project["dependency-groups"]["dev"]) | {"hatchling", "editables"} <= pins("dev.txt").keys()


def test_development_runs_on_the_very_versions_users_get() -> None:
    assert pins("runtime.txt").items() <= pins("dev.txt").items()


@pytest.mark.parametrize("file", ["runtime.txt", "dev.txt"])
def test_every_pin_has_a_hash_and_no_line_an_address(file: str) -> None:
    text = (ROOT / "requirements" / file).read_text()
    assert "://" not in text
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
