"""The unprivileged user of QEMU. Where the machine lacks it, lab hosts see account files that have it, so that
the machine's own files stay as they are and `down` leaves nothing."""

from __future__ import annotations

import grp
import pwd
from pathlib import Path

USER = "zugvogel"
_FIRST_ID = 64740


def write_files(root: Path) -> None:
    """Makes ``passwd`` and ``group`` in the lab's root, unless the machine has the user."""
    try:
        pwd.getpwnam(USER)
        return
    except KeyError:
        pass
    taken = {entry.pw_uid for entry in pwd.getpwall()} | {entry.gr_gid for entry in grp.getgrall()}
    number = next(n for n in range(_FIRST_ID, _FIRST_ID + 256) if n not in taken)
    (root / "passwd").write_text(
        Path("/etc/passwd").read_text() + f"{USER}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin\n"
    )
    (root / "group").write_text(_groups(number))


def _groups(number: int) -> str:
    lines = Path("/etc/group").read_text().splitlines()
    for index, line in enumerate(lines):
        if line.startswith("kvm:"):
            lines[index] = line + ("" if line.endswith(":") else ",") + USER
    return "\n".join([*lines, f"{USER}:x:{number}:"]) + "\n"
