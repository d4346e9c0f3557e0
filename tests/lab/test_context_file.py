"""The contexts file: private, the former context comes back, another lab's stays."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest

from zugvogel.lab import context_file


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config" / "contexts.toml"
    monkeypatch.setenv("ZUGVOGEL_CONTEXTS", str(path))
    return path


def add(ca_file: str = "/lab/ca.crt") -> None:
    context_file.add("lab", urls=["https://192.0.2.11:7440"], token="a.b", ca_file=ca_file, netns="zvl-client")


def test_written_for_the_user_alone_and_current(file: Path) -> None:
    add()
    data = tomllib.loads(file.read_text())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert data["current"] == "lab"
    assert data["contexts"]["lab"]["netns"] == "zvl-client"


def test_removal_brings_the_former_context_back(file: Path) -> None:
    file.parent.mkdir()
    file.write_text('current = "office"\n[contexts.office]\nurls = ["https://a:7440"]\n')
    add()
    context_file.remove("lab", owner="/lab/ca.crt")
    assert tomllib.loads(file.read_text()) == {
        "current": "office",
        "contexts": {"office": {"urls": ["https://a:7440"]}},
    }


def test_the_last_context_takes_the_file_with_it(file: Path) -> None:
    add()
    context_file.remove("lab", owner="/lab/ca.crt")
    assert not file.exists()


def test_another_labs_context_stays(file: Path) -> None:
    add("/other/ca.crt")
    context_file.remove("lab", owner="/lab/ca.crt")
    assert "lab" in tomllib.loads(file.read_text())["contexts"]
