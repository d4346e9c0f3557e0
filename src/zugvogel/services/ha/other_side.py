"""Of a live migration one side is dead: the other is asked to make sure that it runs nothing and never will.

Both return only with that certainty and raise otherwise. The heir runs a vm on the holder's word alone, so one
that has given its QEMU up, or never had one, is past; one that runs it stays the vm's host, and claims the lease
itself. The holder has nothing to run any more once it handed the vm over, and ends its QEMU.
"""

from __future__ import annotations

from zugvogel.domain.lease import Lease
from zugvogel.domain.migration import IncomingStatus, TargetPhase
from zugvogel.errors import Refused
from zugvogel.services.ha.restart_orders import Caller

ABORT_S = 15.0
GIVE_UP_S = 45.0
"""Its agent may look at what it has for 10 s, and give its QEMU 20 s to end."""


async def heir_never_runs(call: Caller, lease: Lease) -> str:
    """Why it does not, as the heir says."""
    vm, heir = lease.vm, str(lease.heir)
    id, why = lease.migration_id, "the source is dead"
    payload = {"migration_id": id, "vm": vm, "why": why, "reaches_datastore": True}
    status = IncomingStatus.model_validate(await call(heir, "migration.abort", payload, timeout_s=ABORT_S))
    if status.phase is not TargetPhase.GONE:
        raise Refused(f"{heir} has taken {vm} over and is about to claim its lease", f"see: zv vm show {vm}")
    return status.why


async def holder_gives_up(call: Caller, lease: Lease, dead_heir: str = "") -> None:
    """`dead_heir` empty: not in a migration; it has lost the vm's datastore."""
    assert lease.holder is not None
    payload = {"vm": lease.vm, "epoch": lease.epoch, "dead_heir": dead_heir}
    await call(lease.holder.host, "ha.give_up", payload, timeout_s=GIVE_UP_S)
