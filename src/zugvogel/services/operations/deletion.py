"""Deleting a vm's folder so that no host starts the vm meanwhile."""

from __future__ import annotations

import logging

from zugvogel.core import lease_rules
from zugvogel.domain.lease import Lease
from zugvogel.errors import Refused, StorageError, ZugvogelError
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.operations.world import World

log = logging.getLogger(__name__)


class Deletion:
    def __init__(self, world: World) -> None:
        self._w = world
        self._deleting: set[str] = set()

    async def delete(self, store: MountedDatastore, name: str) -> None:
        """This host holds the lease while the folder goes, so that no host starts the vm meanwhile; a start that
        read the lease before loses its claim."""
        self.refuse_start(name)
        if self._w.vms.is_in_care(name):
            raise Refused(f"{name} is being started or is running on {self._w.me}", f"see: zv vm show {name}")
        self._deleting.add(name)
        try:
            with self._w.vms.being_started(name):  # in care: nobody gives the lease free for having no QEMU
                await self._delete_held(store, name)
        finally:
            self._deleting.discard(name)

    async def _delete_held(self, store: MountedDatastore, name: str) -> None:
        held = await self._hold_to_delete(store, name)
        try:
            await store.folders.delete(name)
        except (Refused, StorageError) as error:  # not where it may still go on: Unreachable
            await self._give_back(store, held, f"not deleted: {error.cause}")
            raise

    async def _hold_to_delete(self, store: MountedDatastore, name: str) -> Lease:
        lease = await store.leases.read(name)
        self._w.vms.ends.refuse_other_boot(lease, store.datastore.name)
        why = f"being deleted by {self._w.me}"
        claim = lease_rules.start(lease, name, self._w.vms.me, has_qemu=False, why=why, at=self._w.clock.now_iso())
        return await store.leases.claim(claim)

    async def _give_back(self, store: MountedDatastore, held: Lease, why: str) -> None:
        at = self._w.clock.now_iso()
        try:
            await store.leases.claim(lease_rules.release(held, held.vm, self._w.vms.me, why=why, at=at))
        except ZugvogelError as error:
            log.warning("%s: its lease stays here: %s", held.vm, error)

    def refuse_start(self, name: str) -> None:
        if name in self._deleting:
            raise Refused(f"{name} is being deleted", "see: zv task list")
