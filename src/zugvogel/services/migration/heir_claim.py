"""The heir of a live migration runs the vm already and claims its lease. Until it can it counts as the holder: it
was given the word."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from zugvogel.core import lease_rules
from zugvogel.core.death_proof import never_given_up, proof_of
from zugvogel.domain.lease import Lease
from zugvogel.domain.vm import VmDefinition
from zugvogel.errors import LeaseTaken, ZugvogelError
from zugvogel.ports.hypervisor import Machine
from zugvogel.services.local_vms import LocalVms

log = logging.getLogger(__name__)

AGAIN_S = 0.5
WANTED_FOR_S = 15.0
"""Where the storage works again for all at once, this host needs a moment more than the one that asks."""
ASKED_WITHIN_S = 75.0
"""The active primary asks again after a minute at the latest."""


@dataclass(slots=True)
class Wanted:
    """How long a host that reaches the datastore has been asking for the vm, by this host's clock."""

    since: float | None = None
    last: float = 0.0

    def note(self, reaches_datastore: bool, now: float) -> None:
        """An ask, of one that does so now or does not."""
        if not reaches_datastore:
            self.since = None
        elif self.since is None or now - self.last > ASKED_WITHIN_S:
            self.since = now
        self.last = now

    def is_long(self, now: float) -> bool:
        return self.since is not None and now - self.since >= WANTED_FOR_S and now - self.last <= ASKED_WITHIN_S


class HeirClaim:
    """Of one vm that `machine` runs."""

    def __init__(
        self,
        vms: LocalVms,
        machine: Machine,
        definition: VmDefinition,
        datastore: str,
        source: str,
        migration_id: str,
        wanted: Wanted,
    ) -> None:
        self._vms = vms
        self._machine = machine
        self._definition = definition
        self._datastore = datastore
        self._source = source
        self._migration_id = migration_id
        self._wanted = wanted
        self._frozen_since: float | None = None
        self.why = ""
        """Why it is to be ended."""
        self.is_elsewhere = False
        """The lease was read, and is another host's."""

    async def link(self) -> Lease | None:
        """None: the vm is to be ended. An outcome that is not known is asked for again, but for one that stands
        frozen without its storage for so long that it is worth more elsewhere: who asks for it, its source or the
        active primary, releases the lease then."""
        vm = self._machine.vm
        why, at = f"live migration from {self._source}", self._vms.clock.now_iso()
        while not self._is_given_up():
            try:
                leases = self._vms.mounted(self._datastore).leases
                current = await leases.read(vm)
                if current is not None and current.holder == self._vms.me:
                    return current
                if current is not None and current.heir != self._vms.host:
                    log.error("%s: it runs here, but its lease is %s", vm, current)
                    self.is_elsewhere, self.why = True, "its lease was taken over by another host"
                    return None
                claim = lease_rules.take_over_by_heir(
                    current, vm, self._vms.me, self._migration_id, why=why, at=at
                )
                return await leases.claim(claim)
            except LeaseTaken:
                continue  # perhaps our own claim, linked late: the next reading tells
            except ZugvogelError as error:
                log.warning("%s: the heir's claim is not written yet: %s", vm, error)
                await self._vms.clock.sleep(AGAIN_S)
        return None

    def _is_given_up(self) -> bool:
        """As others that lost their storage do when the active primary asks them to (das.apdtimeout), and like
        these only where another host reaches it."""
        if not self._machine.is_frozen:
            self._frozen_since = None
            return False
        now, inventory = self._vms.clock.monotonic(), self._vms.inventory
        self._frozen_since = now if self._frozen_since is None else self._frozen_since
        frozen_s, limit_s = now - self._frozen_since, inventory.number("das.apdtimeout")
        if not 0 < limit_s <= frozen_s or not self._wanted.is_long(now):
            return False
        if never_given_up(proof_of(inventory.datastore(self._datastore)), self._definition):
            return False
        self.why = (
            f"{self._vms.host} lost datastore {self._datastore} before it could claim the lease, and gave it up "
            f"after {frozen_s:.0f} s (das.apdtimeout)"
        )
        return True
