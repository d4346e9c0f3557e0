"""VM monitoring: vms that failed by themselves though their QEMU lives (a panic, the guest's watchdog, a silent
guest) are ended, so that high availability starts them again; `core.monitoring` decides.

What stands still is looked at each second, so that nothing is missed over a restart of the agent. Each vm is
looked at by a task of its own: a QEMU that does not answer holds up nobody else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from zugvogel.core import monitoring
from zugvogel.core.failover import is_protected
from zugvogel.core.monitoring import Limits, Policy, Pulse, RestartVm, Trouble
from zugvogel.domain.ha import Monitoring
from zugvogel.domain.settings import ENABLED
from zugvogel.domain.task import Severity
from zugvogel.domain.vm import VmRecord
from zugvogel.errors import DeadlineExceeded, NotFound, ZugvogelError
from zugvogel.ports.hypervisor import Machine, MachineEvent, MachineStatus
from zugvogel.services.local_vms import Guest, LocalVms

log = logging.getLogger(__name__)

ASK_EVERY_S, ASK_S = 10.0, 8.0
GAP_S = 5.0
"""A tick that comes so late: this host hung, and its guests with it."""
NO_PULSE = Pulse()
STANDSTILLS = {
    MachineStatus.GUEST_PANICKED: Trouble.PANICKED,
    MachineStatus.INTERNAL_ERROR: Trouble.CRASHED,
    MachineStatus.WATCHDOG: Trouble.WATCHDOG,
}
LEFT_TO = {
    Trouble.PANICKED: "its guest does what it is set up to do after a panic",
    Trouble.CRASHED: "it stands still until somebody cuts its power: zv vm kill NAME",
    Trouble.WATCHDOG: "it is reset, as by any watchdog",
    Trouble.SILENT: "it is left alone",
}


@dataclass(slots=True)
class Watched:
    """A guest as this host has it since it came. `asked_at`: its agent, last. `left`: it was told that nothing is
    done about this trouble, and why."""

    machine: Machine
    pulse: Pulse = field(default_factory=Pulse)
    asked_at: float = float("-inf")
    left: tuple[Trouble, str] | None = None
    is_looked_at: bool = False


class VmMonitoring:
    """`usable(datastore)` tells whether this host's last beat there was written in time, and why not: while it
    does not work nothing is concluded about its guests."""

    def __init__(self, vms: LocalVms, usable: Callable[[str], tuple[bool, str]]) -> None:
        self._vms = vms
        self._usable = usable
        self._clock = vms.clock
        self._watched: dict[str, Watched] = {}
        self._restarted_at: dict[str, list[float]] = {}
        self._looks: set[asyncio.Task[None]] = set()
        self._records: list[VmRecord] = []
        self._asked: frozenset[str] = frozenset()
        """Of `_records`, those whose guests are asked."""
        self._ticked_at = vms.clock.monotonic()
        vms.on_event = self.heard

    def close(self) -> None:
        """Looks under way are cut off."""
        for look in self._looks:
            look.cancel()

    async def tick(self) -> None:
        """Belongs to each second. Never waits: what there is to look at is looked at by tasks."""
        now = self._clock.monotonic()
        is_late, self._ticked_at = now - self._ticked_at > GAP_S, now
        guests, asked = self._vms.guests, self._to_be_asked()
        if self._watched:
            for name in self._watched.keys() - guests.keys():
                del self._watched[name]
        for name, guest in guests.items():
            if not guest.is_paused and name not in asked:
                if name in self._watched:
                    self._watched[name].pulse = NO_PULSE
                continue
            watched = self._watch(guest)
            if is_late or not self._can_judge(guest):
                watched.pulse = watched.pulse.rested(now)
            elif not watched.is_looked_at:
                self._begin_look(guest, watched, now)

    def _to_be_asked(self) -> frozenset[str]:
        """Vms whose guests are asked while they run, made anew when any record of the inventory is another one."""
        records = self._vms.inventory.vms()
        if records != self._records:  # the same objects are compared at a glance
            self._records = records
            level = Monitoring.GUEST
            self._asked = frozenset(r.definition.name for r in records if r.definition.ha.monitoring is level)
        return self._asked

    def _watch(self, guest: Guest) -> Watched:
        known = self._watched.get(guest.name)
        if known is None or known.machine is not guest.machine:
            known = self._watched[guest.name] = Watched(guest.machine)
        return known

    def _can_judge(self, guest: Guest) -> bool:
        is_ours = self._vms.guests.get(guest.name) is guest and not guest.is_handed_over
        if not is_ours or guest.busy or guest.frozen_why or guest.machine.is_frozen:
            return False
        return self._usable(guest.datastore)[0]

    def _begin_look(self, guest: Guest, watched: Watched, now: float) -> None:
        if not guest.is_paused and now - watched.asked_at < ASK_EVERY_S:
            return
        watched.is_looked_at = True
        look = asyncio.create_task(self._look(guest, watched))
        self._looks.add(look)
        look.add_done_callback(self._looks.discard)

    async def _look(self, guest: Guest, watched: Watched) -> None:
        try:
            if guest.is_paused:
                await self._look_at_standing(guest, watched)
            else:
                await self._ask(guest, watched)
        except ZugvogelError as error:
            log.info("%s: not looked at: %s", guest.name, error)
        except Exception:
            log.exception("%s: not looked at", guest.name)
        finally:
            watched.is_looked_at = False

    def _level(self, guest: Guest) -> Monitoring:
        """As it is wished now, which a vm that runs may not have all devices for."""
        try:
            return self._vms.inventory.vm(guest.name).definition.ha.monitoring
        except NotFound:
            return Monitoring.OFF

    # what is seen --------------------------------------------------------------------------------

    async def _look_at_standing(self, guest: Guest, watched: Watched) -> None:
        status = await guest.machine.status()
        watched.pulse = watched.pulse.rested(self._clock.monotonic())
        trouble = STANDSTILLS.get(status)
        if trouble is not None:
            await self._act(guest, watched, trouble, {"status": str(status)})

    async def _ask(self, guest: Guest, watched: Watched) -> None:
        watched.asked_at = self._clock.monotonic()
        try:
            is_there = await guest.machine.ping_guest(ASK_S)
        except DeadlineExceeded:
            await self._miss(guest, watched)
            return
        now = self._clock.monotonic()
        watched.pulse = watched.pulse.answered(now) if is_there else watched.pulse.closed()
        if is_there:
            watched.left = None

    async def _miss(self, guest: Guest, watched: Watched) -> None:
        if watched.pulse.heard_at is None:
            return
        if await guest.machine.status() is not MachineStatus.RUNNING:  # the guest sleeps, or stands still
            watched.pulse = watched.pulse.rested(self._clock.monotonic())
            return
        count = await guest.machine.io_count()
        now, number = self._clock.monotonic(), self._vms.inventory.number
        watched.pulse = pulse = watched.pulse.unanswered(count, now)
        limits = Limits(number("das.vmmonitoring.failureinterval"), number("das.vmmonitoring.iostatsinterval"))
        if pulse.is_dead(limits, now) and pulse.heard_at is not None and pulse.quiet_since is not None:
            evidence = {
                "silent_s": round(now - pulse.heard_at, 1),
                "quiet_s": round(now - pulse.quiet_since, 1),
                "io_count": pulse.io_count,
            }
            await self._act(guest, watched, Trouble.SILENT, evidence)

    def heard(self, guest: Guest, event: MachineEvent) -> None:
        """A guest that saves a dump after its panic, and starts again by itself, is left to that."""
        if event.name == "GUEST_CRASHLOADED":
            told = f"{guest.name} on {self._vms.host}: its guest panicked and saves a dump; it is left to that"
            self._vms.events.emit(
                "vm.panicked", guest.name, told, severity=Severity.WARNING, evidence={"event": event.name}
            )

    # what is done --------------------------------------------------------------------------------

    async def _act(self, guest: Guest, watched: Watched, trouble: Trouble, evidence: dict[str, Any]) -> None:
        if not self._can_judge(guest):
            return
        now = self._clock.monotonic()
        policy = self._policy(guest)
        earlier = [at for at in self._restarted_at.get(guest.name, []) if now - at < policy.window_s]
        decision = monitoring.decide(trouble, policy, earlier, now)
        evidence = {"epoch": guest.epoch, "restarts_in_window": len(earlier), **evidence}
        if isinstance(decision, RestartVm):
            self._restarted_at[guest.name] = [*earlier, now]
            self._tell(guest, trouble, "it is ended, to be started again; what was not saved is lost", evidence)
            await self._vms.fail(guest.name, decision.why)
            return
        if watched.left != (trouble, decision.why):
            watched.left = (trouble, decision.why)
            follows = f"not started again, since {decision.why}; {LEFT_TO[trouble]}"
            self._tell(guest, trouble, follows, evidence)
        await self._let_go(guest, watched, trouble)

    def _policy(self, guest: Guest) -> Policy:
        inventory = self._vms.inventory
        try:
            is_wanted = is_protected(inventory.vm(guest.name))
        except NotFound:
            is_wanted = False
        return Policy(
            is_enabled=bool(inventory.setting(ENABLED)),
            is_protected=is_wanted,
            level=self._level(guest),
            max_restarts=inventory.number("das.vmmonitoring.maxfailures"),
            window_s=inventory.number("das.vmmonitoring.window"),
        )

    async def _let_go(self, guest: Guest, watched: Watched, trouble: Trouble) -> None:
        """On with it as without monitoring."""
        if trouble not in {Trouble.PANICKED, Trouble.WATCHDOG}:
            return
        if trouble is Trouble.WATCHDOG:
            await guest.machine.reset()
            if not self._can_judge(guest):  # a move has begun: it decides whether the vm goes on here
                return
        await guest.machine.cont()
        watched.left = None  # the next time is another one

    def _tell(self, guest: Guest, trouble: Trouble, follows: str, evidence: dict[str, Any]) -> None:
        self._vms.events.emit(
            {
                Trouble.PANICKED: "vm.panicked",
                Trouble.CRASHED: "vm.crashed",
                Trouble.WATCHDOG: "vm.watchdog-fired",
                Trouble.SILENT: "vm.guest-silent",
            }[trouble],
            guest.name,
            f"{guest.name} on {self._vms.host}: {trouble}; {follows}",
            severity=Severity.ERROR,
            evidence=evidence,
        )
