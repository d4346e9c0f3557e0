"""The end of a vm: its lease is given back, and the end is told once, as a stop or as a failure."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from zugvogel.core import lease_rules
from zugvogel.domain.lease import Holder, Lease
from zugvogel.domain.task import Severity
from zugvogel.domain.vm import VmState
from zugvogel.errors import LeaseTaken, NotFound, Unreachable, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.events import EventLog
from zugvogel.services.inventory import Inventory, Observation
from zugvogel.services.namesakes import Namesakes

log = logging.getLogger(__name__)


class VmEnds:
    def __init__(
        self,
        me: Holder,
        inventory: Inventory,
        mounted: Callable[[str], MountedDatastore],
        events: EventLog,
        clock: Clock,
    ) -> None:
        self.me = me
        self.host = me.host
        self.inventory = inventory
        self.mounted = mounted
        self.events = events
        self.clock = clock
        self.namesakes = Namesakes(me.host, "", list, clock)
        """Set by whoever puts the services together, who knows when this machine joined and what its beats see."""
        self.is_alone_on: Callable[[str], bool] = lambda datastore: True
        """Nobody else beats on that datastore under this host's name."""

    def refuse_other_boot(self, lease: Lease | None, datastore: str) -> None:
        """Raises where a lease of this host, held by another boot, may be another machine's."""
        if lease is None or lease.holder is None:
            return
        if lease.holder.host != self.host or lease.holder.boot_id == self.me.boot_id:
            return
        self.namesakes.refuse()
        if not self.is_alone_on(datastore):
            raise Unreachable(
                f"the lease of {lease.vm} is of another boot of {self.host}, and it is not known yet whether that "
                f"one still beats on datastore {datastore}",
                "try again in a few seconds",
            )

    async def release(
        self,
        store: MountedDatastore,
        name: str,
        is_failure: bool,
        why: str,
        *,
        is_heir_excluded: bool = False,
        is_own_failure: bool = False,
    ) -> Lease | None:
        """Release the lease this host holds, at whatever epoch; returns it as linked. None: it is not ours, or
        names an heir that may run the vm (the settling of moves goes on from there)."""
        at = self.clock.now_iso()
        while True:
            current = await store.leases.read(name)
            if current is None or current.holder is None or current.holder.host != self.host:
                return None
            self.refuse_other_boot(current, store.datastore.name)
            if current.heir and not is_heir_excluded:
                log.error("%s: its lease names %s heir: not released here", name, current.heir)
                return None
            released = lease_rules.release(
                current,
                name,
                self.me,
                is_heir_excluded=True,
                is_failure=is_failure,
                is_own_failure=is_own_failure,
                why=why,
                at=at,
            )
            try:
                return await store.leases.claim(released)
            except LeaseTaken:
                again = await store.leases.read(name)
                if again == released:  # our own claim, linked late
                    return again

    async def release_until_done(
        self,
        datastore: str,
        name: str,
        is_failure: bool,
        why: str,
        *,
        is_heir_excluded: bool,
        is_own_failure: bool = False,
    ) -> Lease | None:
        """As `release`, waiting out a datastore that does not answer: a lease of ours without a QEMU blocks
        the vm, so it is given back as soon as the datastore lets us."""
        while True:
            try:
                store = self.mounted(datastore)
                return await self.release(
                    store,
                    name,
                    is_failure,
                    why,
                    is_heir_excluded=is_heir_excluded,
                    is_own_failure=is_own_failure,
                )
            except NotFound:
                return None
            except ZugvogelError as error:
                if self.namesakes.why():
                    log.warning("%s: lease not released: %s", name, error)
                    return None
                log.warning("%s: lease not released yet: %s", name, error)
                await self.clock.sleep(1.0)

    async def link(self, datastore: str, released: Lease, evidence: dict[str, Any] | None = None) -> None:
        """Link `released` and report the end of its vm; nothing if somebody else was first."""
        try:
            linked = await self.mounted(datastore).leases.claim(released)
        except LeaseTaken:
            return
        self.tell(linked, evidence or {})

    def tell(self, lease: Lease, evidence: dict[str, Any]) -> None:
        """`lease` is the released one that this host linked."""
        name, is_failure = lease.vm, lease.is_failure
        self.inventory.observe(
            Observation(
                vm=name,
                observed=VmState.FAILED if is_failure else VmState.STOPPED,
                host=self.host,
                epoch=lease.epoch,
                why=lease.why,
                wanted="" if is_failure else "stopped",
            )
        )
        self.events.emit(
            "vm.failed" if is_failure else "vm.stopped",
            name,
            f"{name} on {self.host}: {lease.why}",
            severity=Severity.ERROR if is_failure else Severity.INFO,
            evidence={"epoch": lease.epoch, **evidence},
        )
