from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from zugvogel.agent.systemd import unit_text, user_command


def test_the_unit_quotes_percent_signs() -> None:
    assert "ExecStart=/opt/50%%/zv agent run\n" in unit_text(["/opt/50%/zv"])


@pytest.mark.skipif(os.getuid() != 0, reason="useradd needs root")
def test_the_user_is_made_as_a_system_user_without_a_shell(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\nkvm:x:104:\n")
    (tmp_path / "etc/shadow").touch()
    command, *rest = user_command(740)
    subprocess.run([command, "--prefix", str(tmp_path), *rest], check=True, capture_output=True)
    made = (tmp_path / "etc/passwd").read_text().splitlines()[-1]
    assert made == "zugvogel:x:740:740::/nonexistent:/usr/sbin/nologin"


def test_without_a_number_useradd_chooses() -> None:
    assert "--uid" not in user_command()
    assert user_command()[-1] == "zugvogel"
