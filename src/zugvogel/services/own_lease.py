"""The lease of a vm whose QEMU is here, read so that an old listing ends nothing."""

from __future__ import annotations

from zugvogel.domain.lease import Lease
from zugvogel.errors import InvalidInput, NotFound, StorageError
from zugvogel.ports.storage import MountedDatastore


async def read_own(store: MountedDatastore, vm: str, epoch: int) -> Lease | None:
    """`epoch`: the last one that this host linked for the vm. None: the vm is gone from the datastore. Raises
    `StorageError` for a reading that is older than what this host did itself: a client of a network file system
    may show one, and it says nothing of now."""
    lease = await store.leases.read(vm)
    if lease is not None and lease.epoch >= epoch:
        return lease
    if lease is None and not await _has_folder(store, vm):
        return None
    shown = f"epoch {lease.epoch}" if lease is not None else "none"
    raise StorageError(
        f"{store.datastore.name} shows an old lease of {vm} ({shown}; this host linked epoch {epoch})",
        "it is read again; if it stays so, check that nobody removed lease files from the vm's folder",
    )


async def _has_folder(store: MountedDatastore, vm: str) -> bool:
    try:
        await store.folders.read(vm)
    except NotFound:
        return False
    except InvalidInput:
        return True
    return True
