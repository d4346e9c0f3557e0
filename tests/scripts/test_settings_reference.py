"""The committed reference of the settings is what the program says of itself today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from zugvogel.domain.settings import ISOLATION_ADDRESSES, SETTINGS

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "settings_reference.py"
PAGE = ROOT / "docs" / "reference" / "settings.md"


def test_the_page_is_up_to_date() -> None:
    command = [sys.executable, str(SCRIPT), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_every_setting_is_on_the_page_with_its_reason() -> None:
    text = PAGE.read_text()
    for setting in SETTINGS.values():
        assert f"`{setting.name}`" in text or setting.name in ISOLATION_ADDRESSES
        assert setting.reason in text
