"""How a frozen vm goes on: the beat works, the guard lets go, this host links the next epoch; only then SIGCONT.

Looking at the lease is not enough: somebody else may be about to take it over. Of the two links one wins.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum

from zugvogel.core import lease_rules
from zugvogel.domain.lease import Lease
from zugvogel.errors import LeaseTaken, ZugvogelError
from zugvogel.ports.hypervisor import Machine
from zugvogel.services.beats import BeatService
from zugvogel.services.ha.guarding import Guarding
from zugvogel.services.local_vms import LocalVms
from zugvogel.services.own_lease import read_own, uuid_of

log = logging.getLogger(__name__)

FRESH_PART = 0.75
"""Of the time to the freezing: a beat that is older is too old to let anything go on by."""
LET_GO_S = 0.5
POLL_S = 0.05
WHY = "this host's beats failed and it was frozen; now they work again"


class Step(StrEnum):
    GOES_ON = "goes on"
    LOST = "lost"
    WAITS = "waits"


@dataclass(frozen=True, slots=True)
class Thaw:
    """`lease`: the one linked (goes on), or the one that is not this host's any more (lost)."""

    step: Step
    lease: Lease | None = None


WAITS = Thaw(Step.WAITS)


class Thawing:
    def __init__(self, vms: LocalVms, beats: BeatService, guarding: Guarding) -> None:
        self._vms = vms
        self._clock = vms.clock
        self._beats = beats
        self._guarding = guarding

    async def attempt(self, machine: Machine, datastore: str, epoch: int) -> Thaw:
        """One try; nothing runs unless it `goes on`. `epoch`: the last one this host linked for the vm. Raises for
        a datastore that fails, or shows an older lease, as `waits`; and where QEMU was let go but does not
        answer."""
        name, store = machine.vm, self._vms.mounted(datastore)
        if not self._is_fresh(datastore):
            return WAITS
        self._guarding.tell()
        if not await self._is_let_go(name):
            return WAITS
        lease = await read_own(store, name, epoch, uuid_of(machine))
        if not lease_rules.holds(lease, self._vms.me):
            return Thaw(Step.LOST, lease)
        claim = lease_rules.go_on(lease, name, self._vms.me, why=WHY, at=self._clock.now_iso())
        since = self._clock.monotonic()
        try:
            linked = await store.leases.claim(claim)
        except LeaseTaken:  # by others, or by a claim of our own that was on its way: the next look tells
            return WAITS
        self._note(machine, linked)
        if not (self._is_fresh(datastore) and self._guarding.may_run(datastore, since)):
            return WAITS  # the link took long, or the agent stood still: others may have taken over again
        await machine.thaw()
        return Thaw(Step.GOES_ON, linked)

    def _note(self, machine: Machine, linked: Lease) -> None:
        """At once: what comes after it may fail."""
        guest = self._vms.guests.get(machine.vm)
        if guest is not None and guest.machine is machine:
            guest.epoch = max(guest.epoch, linked.epoch)

    def _is_fresh(self, datastore: str) -> bool:
        age_s = self._beats.own_age_s(datastore)
        is_usable, _ = self._beats.usable(datastore)
        return is_usable and age_s is not None and age_s < FRESH_PART * self._guarding.freeze_after_s()

    async def _is_let_go(self, name: str) -> bool:
        """The guard has read that the beat works; before that it would stop the vm again."""
        deadline = self._clock.monotonic() + LET_GO_S
        while self._guarding.has_frozen(name):
            if self._clock.monotonic() >= deadline:
                return False
            await self._clock.sleep(POLL_S)
        return True


async def announce(machine: Machine) -> None:
    """It was silent for a while: switches may have forgotten it."""
    try:
        await machine.announce()
    except ZugvogelError as error:
        log.info("%s: not announced: %s", machine.vm, error)
