"""What the guard of this host is told, and what its ticking allows: no guard tick, no beat.

The guard keeps what it was told when the agent dies, so a new agent goes on from there: what it does not know
itself yet (beats, vms not in care, whether high availability is on) stays as the earlier one told it.
"""

from __future__ import annotations

import logging
import math

from zugvogel.core.verdicts import FROZEN_AFTER
from zugvogel.domain.guard import GuardedVm, GuardOrders, GuardReport
from zugvogel.ports.guard import Guard
from zugvogel.ports.hypervisor import Machine
from zugvogel.services.beats import BeatService
from zugvogel.services.heartbeats import HeartbeatService
from zugvogel.services.local_vms import LocalVms

log = logging.getLogger(__name__)

STALE_S = 1.0
"""Ten of the guard's rounds: one that is older does not count as running."""


class Guarding:
    """`tell` after each good beat and before a new vm runs; `tick` each interval."""

    def __init__(self, vms: LocalVms, beats: BeatService, heartbeats: HeartbeatService, guard: Guard) -> None:
        self._vms = vms
        self._clock = vms.clock
        self._beats = beats
        self._heartbeats = heartbeats
        self._guard = guard
        self._before = guard.told()
        self._good_at = dict(self._before.good_at) if self._before is not None else {}
        self._left = list(self._before.vms) if self._before is not None else []
        """What an earlier agent had and this one has not in hand yet."""
        self._known: dict[str, tuple[Machine, GuardedVm]] = {}
        self._all_known: tuple[GuardedVm, ...] = ()
        self._in_use: frozenset[str] = frozenset()
        """Datastores of `_all_known`."""
        self._orders = GuardOrders(is_armed=False, freeze_after_s=0.0)
        self._has_told = False
        self._was_armed = self._before is not None and self._before.is_armed
        self._armed_at: float | None = None
        """When this agent told it so first; None: it is not armed, or was not told by this agent yet."""
        self._was_ticking = True
        self._trouble = ""

    # telling ---------------------------------------------------------------------------------------

    async def tick(self) -> None:
        is_armed, report = self.is_armed(), self._guard.report()
        is_ticking = self._is_recent(report)
        if is_armed and not is_ticking:
            if self._was_ticking:
                beats = "; no beat is written before it does" if self.is_enabled() else ""
                log.warning("the guard does not tick: it is started%s", beats)
            self._guard.ensure_running()
        elif is_armed and not self._was_ticking:
            log.info("the guard ticks")
        self._was_ticking = is_ticking or not is_armed
        trouble = report.trouble if report is not None else ""
        if trouble and trouble != self._trouble:
            log.warning("guard: %s", trouble)
        self._trouble = trouble
        if not self._has_told:  # a good beat since the last tick has told all there is
            self.tell()
        self._has_told = False

    def tell(self) -> None:
        """Never blocks, never raises. Nothing is told while it is not armed and knows it."""
        vms = self._guarded()
        self._follow_beats()
        is_enabled = self.is_enabled()
        promised = set() if is_enabled else self._promised()
        is_armed = is_enabled or bool(promised)
        if not is_armed and not self._was_armed:
            return
        self._was_armed, self._has_told = is_armed, True
        if not is_enabled:
            vms = tuple(vm for vm in vms if vm.datastore in promised)
        # Copied, not validated: these are this host's own values, several times a second.
        self._orders = self._orders.replaced(
            is_armed=is_armed,
            freeze_after_s=self.freeze_after_s(),
            good_at=self._good_at,
            heard_at=self._heard_at(),
            vms=vms,
        )
        self._guard.tell(self._orders)
        self._armed_at = (self._armed_at or self._clock.monotonic()) if is_armed else None

    def is_armed(self) -> bool:
        """High availability is on, or a beat that stands somewhere still promises a guard: others may go by that
        when it is on again before this host has heard so."""
        return self.is_enabled() or bool(self._promised())

    def _promised(self) -> set[str]:
        """Datastores where a beat stands that promises a guard, as far as can be known."""
        promised = self._beats.guards_promised()
        if self._before is not None and self._before.is_armed:
            promised |= self._good_at.keys() - self._beats.good_times().keys()
        return promised

    def is_enabled(self) -> bool:
        """High availability is on. Before the registry has been read: as it was."""
        if self._vms.inventory.is_loaded.is_set():
            return bool(self._vms.inventory.setting("das.enabled"))
        return self._before is not None and self._before.is_armed

    def freeze_after_s(self) -> float:
        """By the lowest detection time by which anybody may judge this host: a higher one that was set a moment
        ago does not count before the beats tell it."""
        before, inventory = self._before, self._vms.inventory
        lowest_ms = self._beats.promised_ms()
        if before is None or inventory.is_loaded.is_set():
            set_ms = inventory.number("das.failuredetectiontime")
            lowest_ms = set_ms if lowest_ms is None or set_ms < lowest_ms else lowest_ms
        limit_s = math.inf if lowest_ms is None else FROZEN_AFTER * lowest_ms / 1000
        if before is not None and (lowest_ms is None or self._lives_on_earlier_beats()):
            return min(limit_s, before.freeze_after_s)
        return limit_s

    def _lives_on_earlier_beats(self) -> bool:
        """There is a datastore on which only an earlier agent's beat stands."""
        return bool(self._good_at.keys() - self._beats.good_times().keys())

    def _follow_beats(self) -> None:
        """Datastores that are gone are forgotten, but not while a vm lies on them."""
        good_at = self._beats.good_times()
        for name, at in self._good_at.items():
            if name in good_at:
                good_at[name] = at if at > good_at[name] else good_at[name]
            elif self._is_kept(name):
                good_at[name] = at
        self._good_at = good_at

    def _is_kept(self, datastore: str) -> bool:
        is_loaded = self._vms.inventory.is_loaded.is_set()
        return not is_loaded or datastore in self._in_use or datastore in self._beats.names()

    def _heard_at(self) -> float | None:
        """When this host last heard another; now where there is no other, who could take anything over."""
        if self._vms.inventory.is_loaded.is_set() and not self._has_others():
            return self._clock.monotonic()
        heard = self._heartbeats.last_heard_at()
        return heard if heard is not None or self._before is None else self._before.heard_at

    def _has_others(self) -> bool:
        me = self._vms.host
        hosts = self._vms.inventory.hosts()
        return len(hosts) > 1 or any(host.name != me for host in hosts)

    def _guarded(self) -> tuple[GuardedVm, ...]:
        """Every QEMU here that may run a vm: guests, those that will be, and what an earlier agent had."""
        if self._is_as_known():
            return self._all_known
        here = {n: (m, datastore) for n, (m, datastore) in self._vms.unclaimed.items() if m.is_alive}
        here |= {name: (guest.machine, guest.datastore) for name, guest in self._vms.guests.items()}
        before, self._known = self._known, {}
        for name, (machine, datastore) in here.items():
            known = before.get(name)
            if known is None or known[0] is not machine:
                known = machine, _guarded(machine, datastore)
            self._known[name] = known
        self._left = [vm for vm in self._left if vm.vm not in here and self._vms.is_in_care(vm.vm)]
        self._all_known = (*self._left, *(vm for _, vm in self._known.values()))
        self._in_use = frozenset(vm.datastore for vm in self._all_known)
        return self._all_known

    def _is_as_known(self) -> bool:
        """The same guests as before and nothing else: so it is nearly always."""
        guests, known = self._vms.guests, self._known
        if self._left or self._vms.unclaimed or len(guests) != len(known):
            return False
        for name, guest in guests.items():
            if name not in known or known[name][0] is not guest.machine:
                return False
        return True

    # what it tells ---------------------------------------------------------------------------------

    def report(self) -> GuardReport | None:
        return self._guard.report()

    def is_ticking(self) -> bool:
        return self._is_recent(self._guard.report())

    def _is_recent(self, report: GuardReport | None) -> bool:
        return report is not None and self._clock.monotonic() - report.ticked_at <= STALE_S

    def has_frozen(self, vm: str) -> bool:
        """The guard keeps it stopped, and would stop it again. One that does not tick is started again while high
        availability is on, and tells then; with it off nobody does that, and what is left of it stops nothing."""
        report = self._guard.report()
        return report is not None and vm in report.frozen and (self.is_enabled() or self.is_ticking())

    def may_promise(self) -> bool:
        """What a beat may say (`Beat.is_guarded`): were it the last, the guard would freeze every vm of this host
        in time. It has had a round since it was armed, and was told of all there is here, also of what an earlier
        agent left."""
        if self._armed_at is None or not self.is_enabled():
            return False
        report, left = self._guard.report(), self._vms.not_in_care()
        if report is None or left is None:
            return False
        has_read = report.ticked_at > self._armed_at and self._is_recent(report)
        return has_read and (not left or left <= {vm.vm for vm in self._orders.vms})

    def may_run(self, datastore: str, since: float) -> bool:
        """The vCPUs of a vm there, whose claim began at `since` and of which the guard was told, may be let go: no
        beat came so late since that others may have counted this host as dead and taken the vm over, and should
        the next one, it is frozen."""
        if not self.is_armed():
            return True
        unbroken_since, age_s = self._beats.unbroken_since(datastore), self._beats.own_age_s(datastore)
        if unbroken_since is None or age_s is None:
            return False
        return unbroken_since <= since and age_s < self.freeze_after_s()

    def may_write(self) -> tuple[bool, str]:
        """No guard tick, no beat: without a guard this host must not claim that its vms would be frozen. With the
        cause, for the beats."""
        if not self.is_enabled() or self._is_recent(self._guard.report()):
            return True, ""
        return False, "the guard of this host does not tick, so no beat is written"


def _guarded(machine: Machine, datastore: str) -> GuardedVm:
    return GuardedVm(vm=machine.vm, pid=machine.pid, start=machine.start_ticks, datastore=datastore)
