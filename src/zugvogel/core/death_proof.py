"""What proves that a failed host's vms can be started elsewhere, by the kind of file system they lie on.

That a host is dead on a datastore (`core.verdicts`) says that it gave no sign of life there for the detection
time. Whether its vms there, and the writes they had under way, are over as well depends on the storage
(architecture, "Proof of death").
"""

from __future__ import annotations

from dataclasses import dataclass

from zugvogel.domain.datastore import Datastore
from zugvogel.domain.ha import Proof
from zugvogel.domain.vm import VmDefinition

_LOCKS_GO = "its image locks go with a dead host, and a start that meets a held one waits"
_CLUSTER = f"it takes a dead host out of its lock domain: {_LOCKS_GO}"
_UNKNOWN = (
    "nothing is known of its locks: the failed host's guard has frozen its vms, but a host that hangs as a whole "
    "and wakes up is only caught by a watchdog or a power fence"
)

_BY_KIND: dict[str, tuple[Proof, str]] = {
    "NFS v4": (Proof.LOCK, "its server drops the locks of a silent client after its lease time (usually 90 s)"),
    "NFS v3": (Proof.CONFIRM, "its server keeps the locks of a dead client until that client comes back"),
    "NFS v2": (Proof.CONFIRM, "its server keeps the locks of a dead client until that client comes back"),
    "GFS2": (Proof.LOCK, _CLUSTER),
    # Only with a user-space stack does the kernel offer these locks to all hosts (ocfs2_stack_supports_plocks).
    "OCFS2": (Proof.CONFIRM, "with the stack o2cb it keeps image locks to each host: no other sees them"),
    "OCFS2 (pcmk)": (Proof.LOCK, _CLUSTER),
    "Lustre": (Proof.LOCK, f"its servers evict a client that does not answer: {_LOCKS_GO}"),
    "IBM Storage Scale": (Proof.LOCK, _CLUSTER),
    "CephFS": (Proof.LOCK, f"its metadata server evicts a silent client after 300 s at most: {_LOCKS_GO}"),
    "CephFS (FUSE)": (
        Proof.LOCK,
        f"its metadata server evicts a silent client after 300 s at most: {_LOCKS_GO}",
    ),
    "GlusterFS": (Proof.LOCK, f"its bricks drop a client after network.ping-timeout (42 s): {_LOCKS_GO}"),
    "CIFS": (Proof.GUARD, _UNKNOWN),
    "SMB3": (Proof.GUARD, _UNKNOWN),
    "BeeGFS": (Proof.GUARD, _UNKNOWN),
    "FUSE on a local disk": (Proof.LOCK, "no other host reaches it"),
}
_LOCAL = (Proof.LOCK, "the kernel drops its locks with the process that held them")
_CHOSEN = {
    Proof.LOCK: "chosen for this datastore: a start that meets a held image lock waits",
    Proof.GUARD: "chosen for this datastore: the failed host's guard has frozen its vms",
    Proof.FENCE: "chosen for this datastore: the failed host's power must have been cut by its fence device",
    Proof.CONFIRM: "chosen for this datastore: somebody must vouch for the failed host",
}


def unsafe(proof: Proof, datastore: Datastore) -> str:
    """Why `proof` must not be chosen for the datastore; empty: it may be. A lock that is not known to be seen by
    every host proves nothing, nor does one that a dead host keeps."""
    own = proof_of_kind(datastore.kind, is_shared=datastore.is_shared)
    if proof is not Proof.LOCK or own.proof is Proof.LOCK:
        return ""
    if own.proof is Proof.CONFIRM:
        return f"an image lock on {datastore.name} ({datastore.kind}) tells nothing of a failed host: {own.why}"
    return (
        f"nothing is known of the image locks of {datastore.name} ({datastore.kind}): a host may not see those of "
        "others, and a vm could run twice"
    )


@dataclass(frozen=True, slots=True)
class DeathProof:
    """`why` says in a sentence what the storage does; `is_chosen`: set for this datastore, not its kind's."""

    proof: Proof
    why: str
    is_chosen: bool = False

    @property
    def needs_word(self) -> bool:
        """The verdict alone does not do: a fence device or a person must say so."""
        return self.proof in {Proof.FENCE, Proof.CONFIRM}

    def needs_word_of(self, is_guarded: bool) -> bool:
        """As `needs_word`, for one host. `is_guarded`: its last beat promised a guard. Without that promise a lock
        that is gone does not do either: storage drops the locks of a host that it hears no more, and where nothing
        freezes them the vms there run on, without their disks."""
        return self.needs_word or not is_guarded


def has_lock(definition: VmDefinition) -> bool:
    """QEMU keeps others from the disks it writes to, and from no others."""
    return any(not disk.is_readonly for disk in definition.disks)


def nothing_given_up(proof: DeathProof) -> str:
    """Why no vm of the datastore that stands still on a host without it is ended there to be started elsewhere:
    its writes may still be on their way. Empty: it may be."""
    if proof.proof in {Proof.LOCK, Proof.GUARD}:
        return ""
    return f"nothing tells when its last writes are over ({proof.why})"


def never_given_up(proof: DeathProof, definition: VmDefinition) -> str:
    """As `nothing_given_up`, of one vm."""
    return nothing_given_up(proof) or left_in_cache(definition)


def left_in_cache(definition: VmDefinition) -> str:
    """Why writes of it may be left in the memory of a host that is alive; empty: they are not."""
    cached = [disk.file for disk in definition.disks if disk.cache == "writeback" and not disk.is_readonly]
    if cached:
        return f"writes of its disk {cached[0]} may be left in that host's cache (cache mode writeback)"
    return ""


def proof_of(datastore: Datastore) -> DeathProof:
    if datastore.proof is not None:
        return DeathProof(datastore.proof, _CHOSEN[datastore.proof], is_chosen=True)
    return proof_of_kind(datastore.kind, is_shared=datastore.is_shared)


def proof_of_kind(kind: str, *, is_shared: bool = True) -> DeathProof:
    """`kind` as `core.filesystems.classify` names it. A kind that is not known and is not shared is local."""
    known = _BY_KIND.get(kind)
    if known is None and (is_shared or kind.startswith("FUSE")):
        known = (Proof.GUARD, _UNKNOWN)
    return DeathProof(*(known or _LOCAL))
