"""scripts/packages.sh: what set-up finds on a machine that has nothing of it yet."""

from __future__ import annotations

import subprocess
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "packages.sh"


def test_a_package_that_is_absent_ends_nothing() -> None:
    said = subprocess.run(
        ["bash", "-c", f'set -euo pipefail; . {SCRIPT}; it=$(installed_version no-such-package); echo "<$it>"'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (said.returncode, said.stdout) == (0, "<>\n")
