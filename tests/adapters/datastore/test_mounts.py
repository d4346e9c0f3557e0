from __future__ import annotations

from pathlib import Path

import pytest

from zugvogel.adapters.datastore.mounts import find_mount, recognise
from zugvogel.domain.datastore import Sharing
from zugvogel.errors import Refused

MOUNTINFO = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:50 / /srv rw - tmpfs tmpfs rw
31 30 0:51 / /srv/vm\040store rw shared:7 master:2 - nfs4 filer:/vol\0401 rw,vers=4.2
32 30 0:52 / /srv/vm rw - nfs filer:/old rw,vers=3
33 30 0:53 / /srv/vm rw - ocfs2 /dev/sdb rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home", "ext4"),
        ("/srv/x", "tmpfs"),
        ("/srv/vm store/web", "NFS v4"),
        ("/srv/vm", "OCFS2"),
        ("/srv/vms", "tmpfs"),
    ],
)
def test_the_longest_and_latest_mount_counts(path: str, kind: str) -> None:
    assert find_mount(MOUNTINFO, path).kind == kind


def test_escapes_are_undone() -> None:
    assert find_mount(MOUNTINFO, "/srv/vm store").source == "filer:/vol 1"


def test_the_real_table_is_read(tmp_path: Path) -> None:
    assert recognise("/proc").fs_type == "proc"
    assert recognise(str(tmp_path)).sharing is Sharing.LOCAL


def test_only_folders_are_recognised(tmp_path: Path) -> None:
    for path in (str(tmp_path / "none"), "relative"):
        with pytest.raises(Refused):
            recognise(path)
