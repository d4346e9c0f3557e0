"""Datastores: shared directories that hold vm folders, leases and host beats."""

from __future__ import annotations

from enum import StrEnum

from zugvogel.domain.base import HostName, Model, Name
from zugvogel.domain.ha import Proof


class Sharing(StrEnum):
    """What a file system type alone tells: `SHARED` allows simultaneous access by design, `LOCAL` never
    does, `UNKNOWN` (FUSE, exotic) is settled by the proof with beats alone."""

    SHARED = "shared"
    LOCAL = "local"
    UNKNOWN = "unknown"


class FileSystem(Model):
    """A recognised file system: `kind` in people's words ("NFS v4", "ext4")."""

    fs_type: str
    source: str
    kind: str
    sharing: Sharing


class Datastore(Model):
    """As the registry keeps it. `id` is written into ``.zugvogel/id`` on the datastore itself, so that a
    host that mounted something else at the same path is found out. `proof`: what must have happened before a
    failed host's vms are started elsewhere; None: what its kind of file system needs (`core.death_proof`)."""

    name: Name
    id: str
    path: str
    kind: str
    is_shared: bool
    added_at: str = ""
    proof: Proof | None = None

    @property
    def place(self) -> tuple[str, ...]:
        """What is mounted stays the same while this does, whatever people choose for it."""
        return self.name, self.id, self.path, self.kind, str(self.is_shared)


class Beat(Model):
    """One host's beat on one datastore. Readers look at the pair (boot_id, counter) and at how long, by
    their own monotonic clock, it stood still. `detection_time_ms` is the T the writer lives by."""

    host: HostName
    boot_id: str
    counter: int
    is_isolated: bool = False
    hears: tuple[HostName, ...] = ()
    detection_time_ms: int = 15000
    judge_round: int = 0
    """Rounds of judging this host has finished as the active primary of this datastore; 0: it is not."""
    is_guarded: bool = False
    """Should no beat follow, a guard freezes every vm of this host in time: it is armed, and knows them."""
