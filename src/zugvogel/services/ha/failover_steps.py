"""What the judge does about failed hosts and the leases they hold: fence, release, ask to give up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from zugvogel.core import lease_rules
from zugvogel.core.death_proof import DeathProof
from zugvogel.core.failover_facts import AskToGiveUp, Fenced, Fencing, ReleaseLease
from zugvogel.domain.host import HostStatus, Verdict
from zugvogel.domain.lease import Lease, LeaseState
from zugvogel.domain.task import Severity
from zugvogel.domain.vm import VmState
from zugvogel.errors import LeaseTaken, NotFound, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.fence import Fences
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.events import EventLog
from zugvogel.services.ha.restart_orders import Caller
from zugvogel.services.inventory import Inventory, Observation

log = logging.getLogger(__name__)

FENCE_S = 20.0
FENCE_AGAIN_S = 60.0
"""Where nothing else proves a host dead its fence device is tried again after so long."""
GIVE_UP_S = 30.0


class FailoverSteps:
    """`is_dead(datastore, status)`: failed, and silent on that datastore."""

    def __init__(
        self,
        clock: Clock,
        inventory: Inventory,
        events: EventLog,
        call: Caller,
        fences: Fences | None,
        *,
        is_dead: Callable[[str, HostStatus], bool],
        judges: Callable[[str], bool],
    ) -> None:
        self._clock = clock
        self._inventory = inventory
        self._events = events
        self._call = call
        self._fences = fences
        self._is_dead = is_dead
        self._judges = judges
        self._fenced: dict[str, tuple[Fenced, float]] = {}

    # fencing -----------------------------------------------------------------------------------------

    def note(self, statuses: Sequence[HostStatus]) -> None:
        """What a fence device said counts until the host shows a sign of life."""
        failed = {s.host.name for s in statuses if s.verdict is Verdict.FAILED}
        for host in self._fenced.keys() - failed:
            del self._fenced[host]

    def fences(self, proof: DeathProof, statuses: Sequence[HostStatus]) -> dict[str, Fenced]:
        """Of each failed host."""
        if self._fences is None:
            return {}
        self.note(statuses)
        return {s.host.name: self._fence_of(s.host.name, proof) for s in statuses if s.verdict is Verdict.FAILED}

    def _fence_of(self, host: str, proof: DeathProof) -> Fenced:
        fenced, at = self._fenced.get(host, (Fenced(Fencing.UNTRIED), 0.0))
        is_old = self._clock.monotonic() - at > FENCE_AGAIN_S
        if fenced.fencing in {Fencing.FAILED, Fencing.ABSENT} and proof.needs_word and is_old:
            return Fenced(Fencing.UNTRIED)
        return fenced

    async def fence(self, host: str) -> None:
        """Cut its power. A device that does not answer, or is dead with its host, is told and not waited for."""
        assert self._fences is not None
        self._set(host, Fencing.PENDING, "")
        try:
            async with asyncio.timeout(FENCE_S):
                told = await self._fences.power_off(self._inventory.host(host))
        except NotFound:
            self._set(host, Fencing.ABSENT, "")
            return
        except TimeoutError:
            self._fence_failed(host, f"it did not answer within {FENCE_S:.0f} s")
            return
        except ZugvogelError as error:
            self._fence_failed(host, error.cause)
            return
        self._set(host, Fencing.DONE, told)
        self._events.emit("host.fenced", host, f"the power of {host} was cut: {told}", severity=Severity.WARNING)

    def _fence_failed(self, host: str, why: str) -> None:
        known = self._fenced.get(host)
        self._set(host, Fencing.FAILED, why)
        if known is None or known[0].told != why:
            told = f"the fence device of {host} did not cut its power: {why}"
            self._events.emit("host.fence-failed", host, told, severity=Severity.WARNING)

    def _set(self, host: str, fencing: Fencing, told: str) -> None:
        self._fenced[host] = (Fenced(fencing, told), self._clock.monotonic())

    # leases ------------------------------------------------------------------------------------------

    async def release(
        self, store: MountedDatastore, decision: ReleaseLease, statuses: Callable[[], Sequence[HostStatus]]
    ) -> None:
        """Links only the epoch after the one that was judged, and only while all of it still holds: this host may
        have stood still since."""
        now = {s.host.name: s for s in statuses()}
        name = store.datastore.name
        if not self._judges(name) or not all(
            side in now and self._is_dead(name, now[side]) for side in decision.dead
        ):
            log.warning("%s: not released, what was judged holds no more", decision.vm)
            return
        why = f"{decision.host} is failed; what it had not written to its disks is lost"
        released = await self._link_release(store, decision.lease, decision.vm, decision.host, decision.dead, why)
        if released is not None:
            self._tell_released(released, decision.host, decision.why)

    async def _link_release(
        self, store: MountedDatastore, lease: Lease, vm: str, host: str, dead: frozenset[str], why: str
    ) -> Lease | None:
        """None: somebody else was first."""
        at = self._clock.now_iso()
        claim = lease_rules.release_confirmed_dead(lease, vm, host, dead, why=why, at=at)
        if claim is None:
            return None
        try:
            return await store.leases.claim(claim)
        except LeaseTaken as error:
            log.info("%s: not released, its lease has gone on: %s", vm, error)
            return None

    def _tell_released(self, lease: Lease, host: str, why: str) -> None:
        self._inventory.observe(
            Observation(
                vm=lease.vm,
                observed=VmState.FAILED,
                host=host,
                epoch=lease.epoch,
                why=lease.why,
                wanted="running",
            )
        )
        told = f"{lease.vm} may be started elsewhere: {why}"
        evidence = {"epoch": lease.epoch, "host": host, "why": lease.why}
        self._events.emit("vm.lease-released", lease.vm, told, severity=Severity.WARNING, evidence=evidence)

    async def ask_to_give_up(self, store: MountedDatastore, decision: AskToGiveUp) -> None:
        """The host has no way to the lease itself. Its answer says that no process of the vm is left there, and it
        starts none without a claim."""
        vm, host = decision.vm, decision.host
        lease = await store.leases.read(vm)
        is_judged = lease is not None and lease.state is LeaseState.RUNNING and lease.epoch == decision.epoch
        if lease is None or not is_judged or lease.holder is None or lease.holder.host != host or lease.heir:
            log.info("%s: not to be given up by %s: %s", vm, host, lease)
            return
        await self._call(host, "ha.give_up", {"vm": vm, "epoch": lease.epoch}, timeout_s=GIVE_UP_S)
        why = f"{decision.why}; what it had not written to its disks is lost"
        released = await self._link_release(store, lease, vm, host, frozenset({host}), why)
        if released is not None:
            self._tell_released(released, host, decision.why)
