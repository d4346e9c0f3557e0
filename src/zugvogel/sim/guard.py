"""The guard of a simulated host: the rules of `core.guarding` on the host's own clock, whatever its agent does.

The real one looks ten times a second. Here it is woken only when something can be due, at the instant at which the
real one's round would be, and what it reports is what the rounds in between would have told.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from zugvogel.core.guarding import is_stale, vms_to_freeze
from zugvogel.domain.guard import GuardedVm, GuardOrders, GuardReport
from zugvogel.sim.loop import Domain, Handle

if TYPE_CHECKING:
    from zugvogel.sim.host import SimHost

TICK_S = 0.1
START_S = 0.4
HUNG_CALLS = 4
REPORT = GuardReport(
    ticked_at=0.0, frozen={}, has_watchdog=False, is_realtime=True, is_memory_locked=True, trouble=""
)


class SimGuard:
    """`zugvogel.ports.guard.Guard` and the process behind it, for one boot of its host. Not running at first."""

    def __init__(self, host: SimHost) -> None:
        self._host = host
        self._clock = host.clock
        self._orders: GuardOrders | None = None
        self._report: GuardReport | None = None
        self._reported_at = -math.inf
        self._domain: Domain | None = None
        self._since = 0.0
        """Its rounds are at this instant of its clock and every TICK_S after it."""
        self._frozen: dict[str, float] = {}
        self._looked_at: float | None = None
        """The last round that had something to decide; None: what it decided may not hold any more."""
        self._vms: tuple[GuardedVm, ...] = ()
        self._stores: frozenset[str] = frozenset()
        """Where `_vms`, those told last, lie."""
        self._wake: Handle | None = None
        self._wake_at = math.inf
        self._stuck_calls = 0

    # what the agent does ---------------------------------------------------------------------------

    def tell(self, orders: GuardOrders) -> None:
        self._orders, self._looked_at = orders, None
        if orders.vms is not self._vms:
            self._vms, self._stores = orders.vms, frozenset(vm.datastore for vm in orders.vms)
        if self._domain is not None and self._is_due_before(self._wake_at):
            self._arm()

    def told(self) -> GuardOrders | None:
        return self._orders

    def report(self) -> GuardReport | None:
        """Of the last round that was. Asked several times at one instant, it looks once: whatever changes its
        rounds looks by itself."""
        now = self._host.world.loop.now
        if now != self._reported_at:
            self._reported_at = now
            self._look()
        return self._report

    def ensure_running(self) -> None:
        if self._domain is None:
            self._start()
        elif self._domain.is_stopped:
            self._stuck_calls += 1
            if self._stuck_calls >= HUNG_CALLS:
                self.end()

    # its process -----------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        return self._domain is not None and not self._domain.is_stopped

    def _start(self) -> None:
        self._domain = Domain(self._host.world.loop, f"guard of {self._host.name}")
        self._stuck_calls = 0
        self._since = self._clock.monotonic() + START_S
        self._looked_at = None
        self._arm()

    def end(self) -> None:
        """SIGKILL. Its last report stays."""
        self._look()
        if self._domain is not None:
            self._domain.end()
        self._domain = None
        self._wake, self._wake_at, self._frozen = None, math.inf, {}

    def pause(self) -> None:
        self._look()
        if self._domain is not None:
            self._domain.pause()

    def resume(self) -> None:
        """Its next round comes at once."""
        if self._domain is not None and self._domain.is_stopped:
            self._since = self._clock.monotonic() + 0.001
            self._domain.resume()
            self._looked_at = None
            self._arm()

    def machine_changed(self) -> None:
        """One was let go, or has ended: what it keeps stopped is looked at in its next round."""
        if self._frozen and self._domain is not None:
            self._looked_at = None
            self._arm()

    # rounds ----------------------------------------------------------------------------------------

    def _last_round_at(self) -> float | None:
        now = self._clock.monotonic()
        if self._domain is None or self._domain.is_stopped or now < self._since:
            return None
        return self._since + math.floor((now - self._since) / TICK_S + 1e-9) * TICK_S

    def _look(self) -> None:
        at = self._last_round_at()
        if at is not None and (self._report is None or at > self._report.ticked_at):
            self._report = REPORT.replaced(ticked_at=at, frozen=self._frozen)

    def _due_at(self) -> float:
        """When a vm's time may be over, if nothing is told and nothing changes before. Those whose time was over
        in the last round stand still, and would be stopped again and again."""
        orders, looked_at = self._orders, self._looked_at
        if orders is None:
            return math.inf
        if self._frozen and looked_at is None:
            return 0.0
        if not orders.is_armed:
            return math.inf
        stores: Iterable[str] = self._stores
        if looked_at is not None:
            stores = [store for store in stores if not is_stale(orders, store, looked_at)]
        good_at, limit_s = orders.good_at, orders.freeze_after_s
        return min([good_at.get(store, -math.inf) + limit_s for store in stores], default=math.inf)

    def _is_due_before(self, at: float) -> bool:
        return self._due_at() < at - TICK_S

    def _arm(self) -> None:
        """Wake at the first round at which something is due."""
        if self._wake is not None:
            self._wake.cancel()
        self._wake, self._wake_at = None, math.inf
        due_at, now = self._due_at(), self._clock.monotonic()
        if self._domain is None or (math.isinf(due_at) and due_at > 0):
            return
        after = max(due_at, now, self._since)
        number = math.floor((after - self._since) / TICK_S + 1e-9) + (after > self._since)
        self._wake_at = self._since + number * TICK_S
        loop = self._host.world.loop
        wait_s = max(1e-6, (self._wake_at - now) / self._clock.rate)
        self._wake = loop.call_at(loop.now + wait_s, self._round, context=self._domain.context)

    def _round(self) -> None:
        orders, now = self._orders, self._clock.monotonic()
        if orders is None:
            return
        frozen = {}
        for vm in vms_to_freeze(orders, now):
            if self._freeze(vm):
                frozen[vm.vm] = self._frozen.get(vm.vm, now)
        self._frozen, self._looked_at = frozen, now
        self._report = None
        self._look()
        self._arm()

    def _freeze(self, vm: GuardedVm) -> bool:
        machine = self._host.machines.get(vm.pid)
        if machine is None or machine.start_ticks != vm.start or not machine.is_alive:
            return False
        machine.freeze()
        return True
