"""The heir of a live migration runs the vm already and claims its lease. Until it can it counts as the holder: it
was given the word."""

from __future__ import annotations

import logging

from zugvogel.core import lease_rules
from zugvogel.core.death_proof import never_given_up, proof_of
from zugvogel.domain.lease import Lease
from zugvogel.domain.vm import VmDefinition
from zugvogel.errors import LeaseTaken, ZugvogelError
from zugvogel.ports.hypervisor import Machine
from zugvogel.services.local_vms import LocalVms

log = logging.getLogger(__name__)

AGAIN_S = 0.5


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
    ) -> None:
        self._vms = vms
        self._machine = machine
        self._definition = definition
        self._datastore = datastore
        self._source = source
        self._migration_id = migration_id
        self._frozen_since: float | None = None
        self.why = ""
        """Why it is to be ended."""
        self.is_elsewhere = False
        """The lease was read, and is another host's."""

    async def link(self) -> Lease | None:
        """None: the vm is to be ended. An outcome that is not known is asked for again, but for one that stands
        frozen without its storage for so long that it is worth more elsewhere: its source, which asks, releases it
        then."""
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
        """As the active primary asks it of others that lost their storage (das.apdtimeout): it is not asked of an
        heir, whose claim may be linked at any moment."""
        if not self._machine.is_frozen:
            self._frozen_since = None
            return False
        now, inventory = self._vms.clock.monotonic(), self._vms.inventory
        self._frozen_since = now if self._frozen_since is None else self._frozen_since
        frozen_s, limit_s = now - self._frozen_since, inventory.number("das.apdtimeout")
        if not 0 < limit_s <= frozen_s:
            return False
        if never_given_up(proof_of(inventory.datastore(self._datastore)), self._definition):
            return False
        self.why = (
            f"{self._vms.host} lost datastore {self._datastore} before it could claim the lease, and gave it up "
            f"after {frozen_s:.0f} s (das.apdtimeout)"
        )
        return True
