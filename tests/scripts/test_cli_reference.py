"""The committed reference of the command line is what the program says of itself today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "cli_reference.py"
PAGE = ROOT / "docs" / "reference" / "cli.md"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


def test_the_page_is_up_to_date() -> None:
    result = run("--check")
    assert (result.returncode, result.stderr) == (0, "")


def test_the_page_tells_usage_options_and_choices() -> None:
    text = PAGE.read_text()
    assert "\nzv vm create NAME --memory MEMORY [OPTIONS]\n" in text
    assert "\nzv lab storage HOST cut|hang|heal\n" in text
    assert "| `--max-downtime <int range>` | Longest switchover in ms" in text


def test_hidden_options_are_not_told() -> None:
    assert "--no-cluster" not in PAGE.read_text()
