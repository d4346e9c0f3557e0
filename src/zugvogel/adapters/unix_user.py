"""The unprivileged user that QEMU runs as and that owns the vms' files."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass

from zugvogel.errors import Refused

DEFAULT_USER = "zugvogel"


@dataclass(frozen=True, slots=True)
class UnixUser:
    name: str
    uid: int
    gid: int


def qemu_user(name: str = "") -> UnixUser:
    """`name` empty: $ZUGVOGEL_QEMU_USER or "zugvogel". Raises Refused when there is no such user."""
    wanted = name or os.environ.get("ZUGVOGEL_QEMU_USER", DEFAULT_USER)
    try:
        entry = pwd.getpwnam(wanted)
    except KeyError:
        raise Refused(
            f"there is no user {wanted} for QEMU to run as",
            f"make it: useradd --system --no-create-home {wanted} (zv agent install does so)",
        ) from None
    return UnixUser(entry.pw_name, entry.pw_uid, entry.pw_gid)
