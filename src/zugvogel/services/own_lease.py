"""The lease of a vm whose QEMU is here, read so that an old listing ends nothing."""

from __future__ import annotations

from zugvogel.domain.lease import Lease
from zugvogel.errors import InvalidInput, NotFound, StorageError
from zugvogel.ports.hypervisor import Machine
from zugvogel.ports.storage import MountedDatastore


async def read_own(store: MountedDatastore, vm: str, epoch: int, uuid: str = "") -> Lease | None:
    """`epoch`: the last one that this host linked for the vm. None: the vm is gone from the datastore, or what has
    its name there now has another `uuid`: it was deleted, and made anew. Raises `StorageError` for
    a reading that is older than what this host did itself: a client of a network file system may show one, and it
    says nothing of now."""
    lease = await store.leases.read(vm)
    if lease is not None and lease.epoch >= epoch:
        return lease
    uuid_there = await _uuid_there(store, vm)
    is_another = bool(uuid and uuid_there and uuid_there != uuid)
    if is_another or (lease is None and uuid_there is None):
        return None
    shown = f"epoch {lease.epoch}" if lease is not None else "none"
    raise StorageError(
        f"{store.datastore.name} shows an old lease of {vm} ({shown}; this host linked epoch {epoch})",
        "it is read again; if it stays so, check that nobody removed lease files from the vm's folder",
    )


def epoch_of(machine: Machine) -> int:
    """The last one that an agent of this host noted of its vm."""
    return int(machine.tags.get("epoch", 0))


def uuid_of(machine: Machine) -> str:
    """Of the vm that it was spawned for."""
    return str((machine.tags.get("definition") or {}).get("uuid", ""))


async def _uuid_there(store: MountedDatastore, vm: str) -> str | None:
    """Of the vm whose folder it is; empty: not known. None: there is no folder."""
    try:
        return (await store.folders.read(vm)).uuid
    except NotFound:
        return None
    except InvalidInput:
        return ""
