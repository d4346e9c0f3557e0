"""The last look before the vCPUs of a vm are let go, where its memory must not be given up for a doubt.

A host that stood still between its claim and `cont` may have been counted as dead and its vm taken over meanwhile,
and its guard knows of the vm only since a moment. So that it runs only by a lease of its own it does as for a vm
that was frozen: it links the next epoch first. Of that link and the one of those who take over one wins.
"""

from __future__ import annotations

import logging

from zugvogel.core import lease_rules
from zugvogel.errors import LeaseTaken, ZugvogelError
from zugvogel.services.local_vms import Guest, LocalVms
from zugvogel.services.own_lease import read_own

log = logging.getLogger(__name__)

NEVER = float("-inf")
"""As the start of a claim: an earlier agent's, so nothing is known of this host's beats since."""
AGAIN_S = 0.2
WHY = "this host's beats had failed before it ran; now they work again"
WAITS = "the beats of its host had failed before it ran; it goes on when its lease is renewed"


async def may_go(vms: LocalVms, guest: Guest, since: float) -> bool:
    """Returns when the vm, which is in care and whose claim began at `since`, may be let go. False: it is not this
    host's any more, or its QEMU has ended. Waits while the beats fail, and for one that is frozen to be thawed."""
    while guest.machine.is_alive:
        if not guest.machine.is_frozen and vms.may_run(guest.datastore, since):
            guest.frozen_why = "" if guest.frozen_why == WAITS else guest.frozen_why
            return True
        guest.frozen_why = guest.frozen_why or WAITS
        now = vms.clock.monotonic()
        if guest.machine.is_frozen or not vms.may_run(guest.datastore, now):
            await vms.clock.sleep(AGAIN_S)
            continue
        since = now
        try:
            if not await _link(vms, guest):
                return False
        except ZugvogelError as error:
            log.warning("%s: not let go yet: %s", guest.name, error)
            await vms.clock.sleep(AGAIN_S)
            since = NEVER
    return False


async def _link(vms: LocalVms, guest: Guest) -> bool:
    """Raises where the outcome is not known, as for a claim that others were faster with."""
    store = vms.mounted(guest.datastore)
    lease = await read_own(store, guest.name, guest.epoch, guest.definition.uuid)
    if not lease_rules.holds(lease, vms.me):
        return False
    claim = lease_rules.go_on(lease, guest.name, vms.me, why=WHY, at=vms.clock.now_iso())
    if lease is not None:  # the move it came by is still going on
        claim = claim.model_copy(update={"migration_id": lease.migration_id, "is_to_resume": lease.is_to_resume})
    try:
        linked = await store.leases.claim(claim)
    except LeaseTaken:
        log.info("%s: epoch %d was linked by somebody else", guest.name, claim.epoch)
        raise
    guest.epoch = max(guest.epoch, linked.epoch)
    return True
