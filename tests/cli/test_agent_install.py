"""`zv agent install` with a systemctl and a useradd that only note what they were asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Zv
from zugvogel.adapters import unix_user
from zugvogel.cli import commands_agent


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of notes; the unit goes beside it."""
    notes, tools = tmp_path / "notes", tmp_path / "bin"
    tools.mkdir()
    notes.touch()
    for name in ("systemctl", "useradd"):
        (tools / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{notes}\n')
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setattr(commands_agent, "UNIT", tmp_path / "zugvogel.service")
    return notes


def test_print_prints_only(bare_zv: Zv, noted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix_user, "DEFAULT_USER", "no-such-user")
    ran = bare_zv("agent", "install", "--print")
    assert (ran.code, ran.err) == (0, "")
    assert "[Service]" in ran.out
    assert (noted.read_text(), commands_agent.UNIT.exists()) == ("", False)


def test_a_missing_user_is_made_first(bare_zv: Zv, noted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix_user, "DEFAULT_USER", "no-such-user")
    ran = bare_zv("agent", "install", "--uid", "740")
    assert ran.code == 0, ran.err
    made, *rest = noted.read_text().splitlines()
    assert made.startswith("useradd --system")
    assert "--uid 740" in made
    assert rest == ["systemctl daemon-reload", "systemctl enable --now zugvogel.service"]


def test_a_user_that_is_there_stays_as_it_is(bare_zv: Zv, noted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix_user, "DEFAULT_USER", "nobody")
    assert bare_zv("agent", "install").code == 0
    assert "useradd" not in noted.read_text()
    ran = bare_zv("agent", "install", "--uid", "740")
    assert ran.code == 1
    assert "the user nobody is there already, with uid 65534, not 740" in ran.err
