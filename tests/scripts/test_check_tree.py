"""scripts/check_tree.py against real little git trees; bad texts are glued here so that this file is clean."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_tree.py"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    return tmp_path


def run(tree: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), str(tree)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("see /" + "home/anna/notes", "a path of one machine"),
        ("cp /" + "work/x .", "a path of one machine"),
        ("https://pypi." + "org/simple", "a package registry's address"),
        ("--index" + "-url x", "an option that names a registry"),
        ("git clone https://me:" + "secret@example.com/r", "credentials in an address"),
    ],
)
def test_names_file_line_and_reason(tree: Path, text: str, reason: str) -> None:
    (tree / "notes.md").write_text(f"fine\n{text}\n")
    result = run(tree)
    assert result.returncode == 1
    assert f"notes.md:2: {reason}: " in result.stdout


def test_the_checkouts_own_path_is_found(tree: Path) -> None:
    (tree / "notes.md").write_text(f"{tree}\n")
    assert "this checkout's own path" in run(tree).stdout


def test_ignored_files_and_files_of_a_host_are_fine(tree: Path) -> None:
    (tree / ".gitignore").write_text("out/\n")
    (tree / "out").mkdir()
    (tree / "out" / "log").write_text("/" + "home/anna/notes\n")
    (tree / "a.md").write_text("/var/lib/zugvogel, /srv/shared, https://host1:7440, framework/x\n")
    result = run(tree)
    assert (result.returncode, result.stdout) == (0, "tree: clean\n")
