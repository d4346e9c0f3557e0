"""scripts/packages.sh: what set-up finds on a machine that has nothing of it yet."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "packages.sh"
SETUP = """
say() { echo "say: $*"; }
die() { echo "die: $*"; exit 1; }
need_root() { echo "root for $1"; }
has_package_lists() { true; }
refresh_package_lists() { echo lists; }
"""
INSTALLS = 'apt() { echo "apt $*"; printf "#!/bin/sh\n" >"$HERE/chromium"; chmod +x "$HERE/chromium"; }'


def ran(text: str, here: Path | None = None) -> tuple[int, list[str]]:
    """`here`: the only folder that programs are taken from."""
    environment = {**os.environ, **({"PATH": str(here), "HERE": str(here)} if here else {})}
    said = subprocess.run(
        ["/bin/bash", "-c", f"set -euo pipefail; . {SCRIPT}; {text}"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.stderr == ""
    return said.returncode, said.stdout.splitlines()


def test_a_package_that_is_absent_ends_nothing() -> None:
    assert ran('it=$(installed_version no-such-package); echo "<$it>"') == (0, ["<>"])


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome"])
def test_a_browser_that_is_there_is_taken_and_nobody_is_asked_for_rights(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("#!/bin/sh\n")
    (tmp_path / name).chmod(0o755)
    assert ran(f"{SETUP} install_browser; installed_browser", tmp_path) == (0, [name])


def test_a_browser_is_installed_once(tmp_path: Path) -> None:
    """`apt` puts it where programs are."""
    (tmp_path / "chmod").symlink_to("/bin/chmod")
    code, said = ran(f"{SETUP} apt-get() {{ :; }}; {INSTALLS}\n install_browser; install_browser", tmp_path)
    assert code == 0
    assert said == [
        "root for installing chromium",
        "say: installing chromium: the tests of the web console look at it",
        "apt install --yes --no-install-recommends chromium",
    ]


def test_old_package_lists_are_read_anew_before_it_is_given_up(tmp_path: Path) -> None:
    code, said = ran(f"{SETUP} apt-get() {{ :; }}; apt() {{ echo tried; false; }}; install_browser", tmp_path)
    assert code == 1
    assert said[2:5] == ["tried", "lists", "tried"]
    assert said[-1].startswith("die: no chromium could be installed (see above); install one of these by hand")


def test_without_apt_the_next_step_is_said(tmp_path: Path) -> None:
    code, said = ran(f"{SETUP} install_browser", tmp_path)
    assert (code, said) == (
        1,
        ["die: no apt-get here; install a browser by hand, one of these: chromium chromium-browser google-chrome"],
    )
