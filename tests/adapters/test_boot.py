"""zugvogel.adapters.boot"""

from __future__ import annotations

from pathlib import Path

from zugvogel.adapters.boot import RunBoot


def test_what_one_agent_of_a_boot_noted_the_next_one_knows(tmp_path: Path) -> None:
    first = RunBoot(tmp_path / "run")
    assert not first.has_spoken
    first.speaks(True)
    second = RunBoot(tmp_path / "run")
    assert (second.id, second.has_spoken) == (first.id, True)
    second.speaks(False)
    assert not RunBoot(tmp_path / "run").has_spoken


def test_another_boot_knows_nothing_of_it(tmp_path: Path) -> None:
    one, other = RunBoot(tmp_path / "one"), RunBoot(tmp_path / "other")
    one.speaks(True)
    assert one.id != other.id
    assert not other.has_spoken


def test_a_note_that_cannot_be_made_ends_nothing(tmp_path: Path) -> None:
    boot = RunBoot(tmp_path / "run")
    (tmp_path / "run/boot-id").unlink()
    (tmp_path / "run").rmdir()
    boot.speaks(True)
    assert boot.has_spoken
