"""What a file system type tells about sharing, and the judgement of the sharing proof.

Types and options are those of /proc/self/mountinfo (proc(5)).
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from zugvogel.domain.base import HostName
from zugvogel.domain.datastore import FileSystem, Sharing

_SHARED = {
    "nfs4": "NFS v4",
    "cifs": "CIFS",
    "smb3": "SMB3",
    "gfs2": "GFS2",
    "ocfs2": "OCFS2",
    "ceph": "CephFS",
    "lustre": "Lustre",
    "gpfs": "IBM Storage Scale",
    "beegfs": "BeeGFS",
    "fuse.glusterfs": "GlusterFS",
    "fuse.ceph": "CephFS (FUSE)",
    "fuse.ceph-fuse": "CephFS (FUSE)",
}
_LOCAL = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "bcachefs", "f2fs", "jfs", "reiserfs", "vfat", "exfat"}
    | {"ntfs", "ntfs3", "iso9660", "squashfs", "erofs", "hfsplus", "udf"}
    | {"tmpfs", "ramfs", "devtmpfs", "rootfs", "overlay", "aufs"}
)
_KEEPS_ANSWERED_WRITES = frozenset(
    {"NFS v2", "NFS v3", "NFS v4", "CephFS", "CephFS (FUSE)", "GFS2", "OCFS2", "OCFS2 (pcmk)", "FUSE (bindfs)"}
)


def classify(fs_type: str, source: str, super_options: str) -> FileSystem:
    """The file system in people's words. A type not known here is `UNKNOWN`: the sharing proof decides."""
    kind, sharing = _kind(fs_type, super_options)
    return FileSystem(fs_type=fs_type, source=source, kind=kind, sharing=sharing)


def _kind(fs_type: str, super_options: str) -> tuple[str, Sharing]:
    if fs_type in {"nfs", "nfs4"}:
        return _nfs(fs_type, super_options), Sharing.SHARED
    if fs_type == "ocfs2" and "cluster_stack=pcmk" in super_options.split(","):
        return "OCFS2 (pcmk)", Sharing.SHARED
    if fs_type in _SHARED:
        return _SHARED[fs_type], Sharing.SHARED
    if fs_type in _LOCAL:
        return fs_type, Sharing.LOCAL
    if fs_type == "fuseblk":  # FUSE over a block device of this host (ntfs-3g)
        return "FUSE on a local disk", Sharing.LOCAL
    if fs_type == "fuse" or fs_type.startswith("fuse."):
        name = fs_type.partition(".")[2]
        return f"FUSE ({name})" if name else "FUSE", Sharing.UNKNOWN
    return fs_type, Sharing.UNKNOWN


def _nfs(fs_type: str, super_options: str) -> str:
    for option in super_options.split(","):
        key, _, value = option.partition("=")
        if key in {"vers", "nfsvers"} and value:
            return f"NFS v{value.partition('.')[0]}"
    return "NFS v4" if fs_type == "nfs4" else "NFS v3"


def keeps_answered_writes(kind: str) -> bool:
    """A write past the page cache is answered only when the servers, or the kernel below, have it: nothing of it
    is lost with this host's client. Others may keep it in a process of theirs for a while (GlusterFS's
    write-behind), and of most it is not known."""
    return kind in _KEEPS_ANSWERED_WRITES


def refusal_of(file_systems: Mapping[HostName, FileSystem], is_local_allowed: bool) -> list[str]:
    """Findings by type alone: local file systems, and hosts that mounted different types. Empty: go on
    with the proof."""
    findings = []
    for host, fs in sorted(file_systems.items()):
        if fs.sharing is Sharing.LOCAL and not is_local_allowed:
            findings.append(
                f"the path lies on {fs.kind} of {host}, which no other host can reach; mount NFS or a cluster "
                "file system there, or use --allow-local on a single host"
            )
    kinds = {fs.kind for fs in file_systems.values()}
    if len(kinds) > 1:
        each = ", ".join(f"{host}: {fs.kind}" for host, fs in sorted(file_systems.items()))
        findings.append(f"the hosts have different file systems there ({each}); mount the same one everywhere")
    return findings


def unproven_sharing(path: str, seen: Mapping[HostName, Set[HostName]]) -> list[str]:
    """Findings of the sharing proof. `seen`: host -> hosts whose probe it saw; its keys are all hosts that
    wrote one. Empty means proven: every host sees the probe of every host, its own included."""
    findings = []
    for reader in sorted(seen):
        missing = sorted(set(seen) - set(seen[reader]))
        if missing:
            findings.append(
                f"{reader} does not see at {path} what {', '.join(missing)} wrote; "
                "mount the same file system there on every host"
            )
    return findings
