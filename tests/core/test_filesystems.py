from __future__ import annotations

import pytest

from zugvogel.core.filesystems import classify, keeps_answered_writes, refusal_of, unproven_sharing
from zugvogel.domain.datastore import Sharing


@pytest.mark.parametrize(
    ("fs_type", "options", "kind", "sharing"),
    [
        ("nfs", "rw,vers=3,proto=tcp", "NFS v3", Sharing.SHARED),
        ("nfs4", "rw,vers=4.2,hard", "NFS v4", Sharing.SHARED),
        ("nfs4", "", "NFS v4", Sharing.SHARED),
        ("nfs", "", "NFS v3", Sharing.SHARED),
        ("cifs", "vers=3.1.1", "CIFS", Sharing.SHARED),
        ("smb3", "", "SMB3", Sharing.SHARED),
        ("gfs2", "", "GFS2", Sharing.SHARED),
        ("ocfs2", "rw,heartbeat=local,cluster_stack=o2cb", "OCFS2", Sharing.SHARED),
        ("ocfs2", "rw,heartbeat=none,cluster_stack=pcmk", "OCFS2 (pcmk)", Sharing.SHARED),
        ("ceph", "", "CephFS", Sharing.SHARED),
        ("fuse.glusterfs", "", "GlusterFS", Sharing.SHARED),
        ("fuse.bindfs", "", "FUSE (bindfs)", Sharing.UNKNOWN),
        ("fuse", "", "FUSE", Sharing.UNKNOWN),
        ("fuseblk", "", "FUSE on a local disk", Sharing.LOCAL),
        ("ext4", "rw", "ext4", Sharing.LOCAL),
        ("zfs", "rw", "zfs", Sharing.LOCAL),
        ("overlay", "lowerdir=/a", "overlay", Sharing.LOCAL),
        ("vxfs", "", "vxfs", Sharing.UNKNOWN),
    ],
)
def test_a_type_is_named_in_people_s_words(fs_type: str, options: str, kind: str, sharing: Sharing) -> None:
    found = classify(fs_type, "src", options)
    assert (found.kind, found.sharing) == (kind, sharing)


def test_local_and_differing_file_systems_are_refused_each_with_its_host() -> None:
    ext4, nfs = classify("ext4", "/dev/sda1", ""), classify("nfs4", "s:/v", "")
    assert refusal_of({"a": nfs, "b": nfs}, False) == []
    assert refusal_of({"a": ext4}, True) == []
    findings = refusal_of({"a": nfs, "b": ext4}, False)
    assert len(findings) == 2
    assert "ext4 of b" in findings[0]
    assert "a: NFS v4, b: ext4" in findings[1]


def test_sharing_is_proven_only_when_every_host_sees_every_host() -> None:
    assert unproven_sharing("/srv", {"a": {"a", "b"}, "b": {"a", "b"}}) == []
    (finding,) = unproven_sharing("/srv", {"a": {"a", "b"}, "b": {"b"}})
    assert finding.startswith("b does not see at /srv what a wrote")


@pytest.mark.parametrize(
    ("kind", "keeps"),
    [("NFS v4", True), ("CephFS", True), ("FUSE (bindfs)", True), ("GlusterFS", False), ("FUSE", False)],
)
def test_only_what_is_known_to_keep_answered_writes_is_said_to(kind: str, keeps: bool) -> None:
    assert keeps_answered_writes(kind) is keeps
