"""What lies on a shared datastore, the same for all hosts: leases, folders, notes, beats, orders, saved memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from zugvogel.domain.datastore import Beat, Datastore
from zugvogel.domain.lease import KEPT_EPOCHS, Lease
from zugvogel.domain.memory import Manifest
from zugvogel.domain.vm import VmDefinition
from zugvogel.errors import LeaseTaken, NotFound

GIB = 1 << 30

Linked = Callable[[str, Lease | None, Lease], None]
"""(host, the lease before, the one it linked)"""


@dataclass(slots=True)
class LeaseChain:
    """``lease.1`` to ``lease.<highest>`` of one vm or role; `top` is the last."""

    by_epoch: dict[int, Lease] = field(default_factory=dict)
    highest: int = 0
    top: Lease | None = None

    def link(self, claim: Lease) -> Lease | None:
        """As link(2) of a file that must not exist yet. Returns the lease before, when this call linked it; the
        same claim again changes nothing and returns itself. Raises LeaseTaken."""
        top = self.top
        if self.highest >= claim.epoch:
            if top == claim:
                return claim
            raise LeaseTaken(
                f"another claim on {claim.vm} won epoch {self.highest}",
                "read the lease again before deciding",
                epoch=self.highest,
            )
        self.by_epoch[claim.epoch] = self.top = claim
        self.highest = claim.epoch
        for old in [e for e in self.by_epoch if e <= claim.epoch - KEPT_EPOCHS]:
            del self.by_epoch[old]
        return top


@dataclass(slots=True)
class MemoryFile:
    """``memory.<id>.ram``. `length` is what is durable; `token` names the guest whose memory it is, once it is
    whole."""

    length: int = 0
    token: str = ""
    is_whole: bool = False


@dataclass(slots=True)
class Folder:
    """A vm's folder. `disk_version` changes whenever the vm runs, as its disks' times do."""

    definition: VmDefinition
    notes: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    memory: dict[str, MemoryFile] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    disk_version: int = 0


@dataclass(slots=True)
class OrderBox:
    """Orders of one kind: host -> vm -> order, and the answers."""

    orders: dict[str, dict[str, bytes]] = field(default_factory=dict)
    answers: dict[tuple[str, str], bytes] = field(default_factory=dict)


class SharedFiles:
    """One datastore. `on_claim(host, claim)` is told when the writing of a claim begins,
    `on_link(host, before, linked)` and `on_beat(host)` when it was done.

    `has_locks`: QEMU's image locks are kept. They go with their process; those of a host that lost its power go
    after `lock_lease_s`, those of one that lost its path here after a minute at least, those of a host that hangs
    as a whole stay.
    `holds_killed`: a process that is killed while its storage hangs stays in the kernel until that answers."""

    def __init__(
        self,
        datastore: Datastore,
        *,
        has_locks: bool,
        lock_lease_s: float = 90.0,
        holds_killed: bool = False,
        size_bytes: int = 1024 * GIB,
    ) -> None:
        self.datastore = datastore
        self.has_locks = has_locks
        self.lock_lease_s = lock_lease_s
        self.holds_killed = holds_killed
        self.size_bytes = size_bytes
        self.folders: dict[str, Folder] = {}
        self.saved: set[str] = set()
        """Vms that may have files of saved memory."""
        self.leases: dict[str, LeaseChain] = {}
        self.roles: dict[str, LeaseChain] = {}
        self.beats: dict[str, Beat] = {}
        self.boxes: dict[str, OrderBox] = {}
        self.locks: dict[str, object] = {}
        """vm -> the process that has its images open for writing."""
        self.on_claim: Callable[[str, Lease], None] = lambda host, claim: None
        self.on_link: Linked = lambda host, before, linked: None
        self.on_role: Linked = lambda host, before, linked: None
        self.on_beat: Callable[[str, Beat], None] = lambda host, beat: None

    @property
    def name(self) -> str:
        return self.datastore.name

    def folder(self, vm: str) -> Folder:
        found = self.folders.get(vm)
        if found is None:
            raise NotFound(f"there is no vm {vm} on {self.name}")
        return found

    def claim(self, host: str, lease: Lease) -> Lease:
        self.folder(lease.vm)
        chain = self.leases.setdefault(lease.vm, LeaseChain())
        before = chain.link(lease)
        if before is not lease:
            self.on_link(host, before, lease)
        return lease

    def claim_role(self, host: str, lease: Lease) -> Lease:
        before = self.roles.setdefault(lease.vm, LeaseChain()).link(lease)
        if before is not lease:
            self.on_role(host, before, lease)
        return lease

    def free_bytes(self) -> int:
        folders = (self.folders[vm] for vm in self.saved if vm in self.folders)
        return self.size_bytes - sum(file.length for folder in folders for file in folder.memory.values())
