"""Each round this host looks whether the vms it runs are still its own, and lets go on what was frozen.

A vm whose lease went elsewhere is frozen, looked at once more and ended. One that was frozen because this host's
beats failed goes on when they work again and this host has linked its next epoch, else it is ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from zugvogel.core import lease_rules
from zugvogel.domain.lease import Lease
from zugvogel.domain.task import Severity
from zugvogel.domain.vm import VmState
from zugvogel.errors import ZugvogelError
from zugvogel.services.beats import BeatService
from zugvogel.services.ha.guarding import Guarding
from zugvogel.services.ha.thawing import Step, Thawing, announce
from zugvogel.services.inventory import Observation
from zugvogel.services.local_vms import Guest, LocalVms
from zugvogel.services.looks import Looks
from zugvogel.services.own_lease import read_own

log = logging.getLogger(__name__)

DISARMED_S = 2.0
"""So long after it was told to let be the guard may still have frozen a vm: in the round it was in."""
LOOK_S = 5.0
"""How often leases are looked at while high availability is off: a host may have been confirmed dead wrongly."""
WHY = "the beats of its host fail; it goes on when they work again and its lease is still this host's"


class Holding:
    """`tick` only starts work: a datastore that hangs holds up neither the loop nor the vms of others."""

    def __init__(self, vms: LocalVms, beats: BeatService, guarding: Guarding, thawing: Thawing) -> None:
        self._vms = vms
        self._beats = beats
        self._guarding = guarding
        self._thawing = thawing
        self._looks = Looks("leases of vms that run")
        """By datastore."""
        self._looked_at: float | None = None
        self._armed_at: float | None = None
        """When it was so last; None: not since this agent started, or that is long over."""
        self._works: dict[str, asyncio.Task[None]] = {}
        """By vm: what is done about one that is frozen or lost."""

    async def tick(self) -> None:
        now, is_armed = self._vms.clock.monotonic(), self._guarding.is_armed()
        self._follow_armed(is_armed, now)
        if why := self._vms.ends.namesakes.why():
            self._stand_down(why)
            return
        for guest in self._vms.guests.values():
            is_told = guest.frozen_why == WHY
            if (is_armed or is_told) and guest.machine.is_frozen:
                if self._is_current(guest):
                    self._begin(guest.name, partial(self._settle_frozen, guest))
            elif is_told and guest.machine.is_alive and self._is_current(guest):
                self._begin(guest.name, partial(self._tell_goes_on, guest))
        if is_armed or self._looked_at is None or now - self._looked_at >= LOOK_S:
            self._looked_at = now
            for datastore in {g.datastore for g in self._vms.guests.values()}:
                self._looks.begin(datastore, partial(self._look, datastore))

    def _follow_armed(self, is_armed: bool, now: float) -> None:
        """What is frozen when high availability is turned off goes on like what was frozen before: nobody else
        lets it."""
        if is_armed:
            self._armed_at = now
            self._freeze_overdue()
        elif self._armed_at is not None:
            for guest in self._vms.guests.values():
                if self._is_current(guest) and guest.machine.is_frozen:
                    self._tell_frozen(guest)
            if now - self._armed_at >= DISARMED_S:
                self._armed_at = None

    async def stop(self) -> None:
        await self._looks.stop()
        for task in self._works.values():
            task.cancel()

    def _freeze_overdue(self) -> None:
        """Should the guard fail to: what still runs past its time is frozen here."""
        limit_s = self._guarding.freeze_after_s()
        for datastore in self._beats.names():
            age_s = self._beats.own_age_s(datastore)
            if age_s is not None and age_s >= limit_s:
                self._freeze(f"no beat on {datastore} for {age_s:.1f} s", datastore)

    def _freeze(self, why: str, datastore: str = "") -> None:
        """All that runs here, or on `datastore` alone."""
        running = dict(self._vms.unclaimed)
        running |= {g.name: (g.machine, g.datastore) for g in self._vms.guests.values()}
        for name, (machine, its_datastore) in running.items():
            if datastore in {"", its_datastore} and machine.is_alive and not machine.is_frozen:
                log.warning("%s: frozen by the agent: %s", name, why)
                machine.freeze()

    def _stand_down(self, why: str) -> None:
        """Another machine has this one's name, and may release leases that are held here. A vm whose lease is gone
        is ended, so that its disks are free where it runs now."""
        self._freeze(why)
        for guest in self._vms.guests.values():
            if self._is_current(guest):
                self._tell_frozen(guest)
                self._begin(guest.name, partial(self._end_if_lost, guest))

    async def _end_if_lost(self, guest: Guest) -> None:
        store = self._vms.mounted(guest.datastore)
        lease = await read_own(store, guest.name, guest.epoch, guest.definition.uuid)
        if not lease_rules.holds(lease, self._vms.me):
            await self._settle_lost(guest)

    def _is_current(self, guest: Guest) -> bool:
        """It is still the one in care, and nobody is ending it."""
        if guest.is_handed_over or guest.busy == "killing" or guest.ended.is_set():
            return False
        return self._vms.guests.get(guest.name) is guest

    # vms that run ----------------------------------------------------------------------------------

    async def _look(self, datastore: str) -> None:
        is_usable, _ = self._beats.usable(datastore)
        if not is_usable:
            return
        store = self._vms.mounted(datastore)
        for guest in list(self._vms.guests.values()):
            if guest.datastore != datastore or not self._is_at_rest(guest):
                continue
            try:
                lease = await read_own(store, guest.name, guest.epoch, guest.definition.uuid)
                if not lease_rules.holds(lease, self._vms.me) and self._is_at_rest(guest):
                    guest.machine.freeze()
                    self._begin(guest.name, partial(self._settle_lost, guest))
            except Exception as error:
                _log_failure(guest.name, error)

    def _is_at_rest(self, guest: Guest) -> bool:
        """In a move its lease may rightly go elsewhere; the move ends this QEMU then. What is frozen is settled
        from the tick on; with high availability off only what was told as frozen: somebody may have stopped it by
        hand."""
        if (guest.busy and guest.is_in_move) or not self._is_current(guest):
            return False
        return not guest.machine.is_frozen or not (guest.frozen_why == WHY or self._guarding.is_armed())

    async def _settle_lost(self, guest: Guest) -> None:
        """It is frozen. Nobody gives a lease back to this host, so the second look must show the same; one that
        does not was no reason to end it, and then it goes on as any frozen vm."""
        try:
            lease = await read_own(
                self._vms.mounted(guest.datastore), guest.name, guest.epoch, guest.definition.uuid
            )
        except ZugvogelError:
            self._tell_frozen(guest)
            raise
        if lease_rules.holds(lease, self._vms.me):
            self._tell_frozen(guest)  # as what was frozen here it goes on, also with high availability off
            return
        if self._is_current(guest) and not guest.is_in_move:
            await self._end(guest, lease)

    # vms that are frozen ---------------------------------------------------------------------------

    async def _settle_frozen(self, guest: Guest) -> None:
        self._tell_frozen(guest)
        thaw = await self._thawing.attempt(guest.machine, guest.datastore, guest.epoch)
        if not self._is_current(guest):
            return
        if thaw.step is Step.LOST:
            await self._end(guest, thaw.lease)
        elif thaw.step is Step.GOES_ON:
            await self._tell_goes_on(guest)

    def _tell_frozen(self, guest: Guest) -> None:
        if guest.frozen_why == WHY:
            return
        guest.frozen_why = WHY
        age_s = self._beats.own_age_s(guest.datastore)
        _, cause = self._beats.usable(guest.datastore)
        self._vms.events.emit(
            "vm.frozen",
            guest.name,
            f"{guest.name} on {self._vms.host}: {WHY}",
            severity=Severity.WARNING,
            evidence={
                "datastore": guest.datastore,
                "epoch": guest.epoch,
                "beat_age_s": None if age_s is None else round(age_s, 1),
                "freeze_after_s": self._guarding.freeze_after_s(),
                "beat": cause,
            },
        )

    async def _tell_goes_on(self, guest: Guest) -> None:
        """It runs, by `guest.epoch`; nothing awaited before it is told so. Later, when QEMU was let go and did not
        answer at once."""
        guest.frozen_why = ""
        self._vms.inventory.observe(
            Observation(
                vm=guest.name, observed=VmState.RUNNING, host=self._vms.host, epoch=guest.epoch, why="thawed"
            )
        )
        told = f"{guest.name} on {self._vms.host} goes on: its lease was still this host's and was renewed"
        self._vms.events.emit("vm.thawed", guest.name, told, evidence={"epoch": guest.epoch})
        await guest.machine.set_tags(epoch=guest.epoch)
        await announce(guest.machine)

    # the end -----------------------------------------------------------------------------------------

    async def _end(self, guest: Guest, lease: Lease | None) -> None:
        """Its lease is not this host's. A move that it is in decides itself what the end of its QEMU means."""
        is_in_move = guest.is_in_move
        guest.is_handed_over = guest.is_handed_over or not is_in_move
        await guest.machine.kill()
        if is_in_move:
            return
        if lease is None:
            self._vms.inventory.observe(
                Observation(
                    vm=guest.name,
                    observed=VmState.FAILED,
                    host=self._vms.host,
                    epoch=guest.epoch,
                    why="its lease is gone from the datastore",
                    uuid=guest.definition.uuid,
                )
            )
        self._vms.events.emit(
            "vm.fenced",
            guest.name,
            f"{self._vms.host} ended its QEMU of {guest.name}: {_whose(lease)}",
            severity=Severity.WARNING,
            evidence={"epoch": guest.epoch, "lease": lease.model_dump(mode="json") if lease else None},
        )

    # work ----------------------------------------------------------------------------------------------

    def _begin(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """One at a time for each vm."""
        running = self._works.get(name)
        if running is not None and not running.done():
            return
        self._works[name] = asyncio.create_task(self._logged(name, work))

    @staticmethod
    async def _logged(name: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:
            _log_failure(name, error)


def _log_failure(name: str, error: Exception) -> None:
    is_defect = not isinstance(error, ZugvogelError)
    told = "%s: its lease was not looked at: %s"
    log.log(logging.ERROR if is_defect else logging.WARNING, told, name, error, exc_info=is_defect)


def _whose(lease: Lease | None) -> str:
    if lease is None:
        return "its lease is gone from the datastore"
    if lease.holder is None:
        return f"its lease is {lease.state} (epoch {lease.epoch}): {lease.why}"
    return f"its lease is held by {lease.holder.host} (epoch {lease.epoch})"
