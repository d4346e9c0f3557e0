"""The heir of a live migration runs the vm already and claims its lease. Until it can it counts as the holder: it
was given the word."""

from __future__ import annotations

import logging

from zugvogel.core import lease_rules
from zugvogel.core.death_proof import never_given_up, proof_of
from zugvogel.domain.lease import Lease
from zugvogel.errors import LeaseTaken, ZugvogelError
from zugvogel.ports.hypervisor import Machine
from zugvogel.services.local_vms import LocalVms
from zugvogel.services.migration.incoming_session import Session

log = logging.getLogger(__name__)

AGAIN_S = 0.5


class HeirClaim:
    """Of one vm that `machine` runs."""

    def __init__(self, vms: LocalVms, session: Session, machine: Machine) -> None:
        self._vms = vms
        self._session = session
        self._machine = machine
        self._frozen_since: float | None = None
        self.why = ""
        """Why it is to be ended."""
        self.is_elsewhere = False
        """The lease was read, and is another host's."""

    async def link(self) -> Lease | None:
        """None: the vm is to be ended. An outcome that is not known is asked for again, but for one that stands
        frozen without its storage for so long that it is worth more elsewhere: who asks for it, its source or the
        active primary, releases the lease then."""
        session, vm = self._session, self._session.vm
        why, at = f"live migration from {session.source}", self._vms.clock.now_iso()
        while not self._is_given_up():
            try:
                leases = self._vms.mounted(session.datastore).leases
                current = await leases.read(vm)
                if current is not None and current.holder == self._vms.me:
                    return current
                if current is not None and current.heir != self._vms.host:
                    log.error("%s: it runs here, but its lease is %s", vm, current)
                    self.is_elsewhere, self.why = True, "its lease was taken over by another host"
                    return None
                claim = lease_rules.take_over_by_heir(current, vm, self._vms.me, session.id, why=why, at=at)
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
        session, inventory, now = self._session, self._vms.inventory, self._vms.clock.monotonic()
        self._frozen_since = now if self._frozen_since is None else self._frozen_since
        frozen_s, limit_s = now - self._frozen_since, inventory.number("das.apdtimeout")
        if not 0 < limit_s <= frozen_s or not session.wanted.is_long(now):
            return False
        if never_given_up(proof_of(inventory.datastore(session.datastore)), session.definition):
            return False
        self.why = (
            f"{self._vms.host} lost datastore {session.datastore} before it could claim the lease, and gave it up "
            f"after {frozen_s:.0f} s (das.apdtimeout)"
        )
        return True
