"""What the judge does about failed hosts and the leases they hold: fence, release, ask to give up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence, Set

from zugvogel.core import lease_rules
from zugvogel.core.death_proof import DeathProof
from zugvogel.core.failover_facts import AskHeir, AskToGiveUp, AskToSettle, Fenced, Fencing, ReleaseLease
from zugvogel.domain.host import HostStatus, Verdict
from zugvogel.domain.lease import Lease, LeaseState
from zugvogel.domain.task import Severity
from zugvogel.domain.vm import VmState
from zugvogel.errors import LeaseTaken, NotFound, Refused, ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.events import EventLog
from zugvogel.services.ha.fencing import Fencing as PowerFences
from zugvogel.services.ha.other_side import heir_never_runs, holder_gives_up
from zugvogel.services.ha.restart_orders import Caller
from zugvogel.services.inventory import Inventory, Observation

log = logging.getLogger(__name__)

FENCE_S = 75.0
"""A fence gives its device 60 s and says then what went wrong."""
FENCE_WAIT_S = 20.0
"""Where the datastore is proof enough a restart waits for the fence no longer."""
FENCE_AGAIN_S = 60.0
"""Where nothing else proves a host dead its fence device is tried again after so long."""
SETTLE_S = 15.0
READ_AGAIN_S = 0.05


class FailoverSteps:
    """`is_dead(datastore, status, after)`: judged dead on that datastore, and silent there by a reading of its
    beats that began at `after` or later. Only failed hosts are fenced: one that is dead on one datastore alone
    runs its vms on another."""

    def __init__(
        self,
        me: str,
        clock: Clock,
        inventory: Inventory,
        events: EventLog,
        call: Caller,
        fences: PowerFences | None,
        *,
        is_dead: Callable[[str, HostStatus, float], bool],
        judges: Callable[[str], bool],
    ) -> None:
        self._me = me
        self._clock = clock
        self._inventory = inventory
        self._events = events
        self._call = call
        self._fences = fences
        self._is_dead = is_dead
        self._judges = judges
        self._fenced: dict[str, tuple[Fenced, float]] = {}
        """host -> how far its fence is, since when."""
        self._fencing: dict[str, asyncio.Task[object]] = {}

    def _acts_on(self, datastore: str) -> bool:
        """High availability is on, and this host judges there: asked right before what cannot be taken back."""
        return bool(self._inventory.setting("das.enabled")) and self._judges(datastore)

    # fencing -----------------------------------------------------------------------------------------

    def forget(self) -> None:
        """This host begins to judge. What it knew of fences when it judged before may be of an earlier failure."""
        self._fenced.clear()
        for task in self._fencing.values():
            task.cancel()
        self._fencing.clear()

    def note(self, statuses: Sequence[HostStatus]) -> None:
        """What a fence device said counts until the host shows a sign of life; then nobody wants its power cut any
        more."""
        failed = {s.host.name for s in statuses if s.verdict is Verdict.FAILED}
        for host in self._fenced.keys() - failed:
            del self._fenced[host]
        for host in self._fencing.keys() - failed:
            self._fencing.pop(host).cancel()

    def fences(self, proof: DeathProof, statuses: Sequence[HostStatus], guarded: Set[str]) -> dict[str, Fenced]:
        """Of each failed host. `guarded`: those whose last beat promised a guard."""
        if self._fences is None:
            return {}
        self.note(statuses)
        failed = [s.host.name for s in statuses if s.verdict is Verdict.FAILED]
        return {host: self._fence_of(host, proof.needs_word_of(host in guarded)) for host in failed}

    def _fence_of(self, host: str, needs_word: bool) -> Fenced:
        """`needs_word`: the datastore alone proves nothing of it."""
        fenced, at = self._fenced.get(host, (Fenced(Fencing.UNTRIED), 0.0))
        age_s = self._clock.monotonic() - at
        if fenced.fencing in {Fencing.FAILED, Fencing.ABSENT} and needs_word and age_s > FENCE_AGAIN_S:
            return Fenced(Fencing.UNTRIED)
        if fenced.fencing is Fencing.PENDING and not needs_word and age_s > FENCE_WAIT_S:
            return Fenced(Fencing.FAILED, f"it did not answer within {FENCE_WAIT_S:.0f} s and is not waited for")
        return fenced

    async def fence(self, datastore: str, host: str, statuses: Callable[[], Sequence[HostStatus]]) -> None:
        """Cut its power, if this host still judges `datastore` and it still is dead there: this host may have
        stood still since that was decided. A device that does not answer, or is dead with its host, is told and
        not waited for."""
        assert self._fences is not None

        def is_wanted() -> bool:
            now = next((s for s in statuses() if s.host.name == host), None)
            if now is None or now.verdict is not Verdict.FAILED:
                return False
            return self._acts_on(datastore) and self._is_dead(datastore, now, float("-inf"))

        self._set(host, Fencing.PENDING, "")
        task = asyncio.current_task()
        assert task is not None
        self._fencing[host] = task
        try:
            async with asyncio.timeout(FENCE_S):
                told = await self._fences.power_off(self._inventory.host(host), is_wanted)
        except NotFound:
            self._set(host, Fencing.ABSENT, "")
            return
        except TimeoutError:
            self._fence_failed(host, f"it did not answer within {FENCE_S:.0f} s")
            return
        except ZugvogelError as error:
            if is_wanted():
                self._fence_failed(host, error.cause)
            else:
                log.warning("the power of %s is not cut: what was judged holds no more", host)
                self._fenced.pop(host, None)
            return
        finally:
            if self._fencing.get(host) is task:
                del self._fencing[host]
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
        self,
        store: MountedDatastore,
        decision: ReleaseLease,
        statuses: Callable[[], Sequence[HostStatus]],
        seen_at: float,
    ) -> None:
        """Links only the epoch after the one that was judged, which was read by `seen_at`, and only while all of
        it still holds: this host may have stood still since."""
        if not await self._is_still_so(store.datastore.name, decision.dead, statuses, seen_at):
            log.warning("%s: not released, what was judged holds no more", decision.vm)
            return
        now = next((s for s in statuses() if s.host.name == decision.host), None)
        is_failed = now is None or now.verdict is Verdict.FAILED
        gone = "is failed" if is_failed else f"is cut off and has lost {store.datastore.name}"
        why = f"{decision.host} {gone}; what it had not written to its disks is lost"
        released = await self._link_release(store, decision.lease, decision.vm, decision.host, decision.dead, why)
        if released is not None:
            self._tell_released(released, decision.host, decision.why)

    async def _is_still_so(
        self, datastore: str, dead: frozenset[str], statuses: Callable[[], Sequence[HostStatus]], seen_at: float
    ) -> bool:
        """Whether this host still judges and all of `dead` are dead, by beats that were read after the lease:
        since an older reading a host could have beaten again, linked the very epoch that was read, and run. Waits
        for such readings, which come in the next interval; else the older ones soon prove nothing either."""
        while True:
            now = {s.host.name: s for s in statuses()}

            def are_dead(after: float, now: dict[str, HostStatus] = now) -> bool:
                return all(side in now and self._is_dead(datastore, now[side], after) for side in dead)

            if not self._acts_on(datastore) or not are_dead(float("-inf")):
                return False
            if are_dead(seen_at):
                return True
            await self._clock.sleep(READ_AGAIN_S)

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

    async def ask_to_settle(self, decision: AskToSettle) -> None:
        """Only the host itself knows that nothing of the vm is left there, so it gives it free."""
        vm, host, held_s = decision.vm, decision.host, round(decision.held_s, 1)
        payload = {"vm": vm, "epoch": decision.epoch, "judge": self._me}
        try:
            answer = await self._call(host, "ha.settle", payload, timeout_s=SETTLE_S)
        except Refused as error:
            log.info("%s: %s has something under way for it: %s", vm, host, error)
            return
        epoch = int(answer.get("epoch", 0))
        if epoch > decision.epoch:
            told = f"{host} held {vm} for {held_s:.0f} s without running it, and has settled that"
            evidence = {"host": host, "epoch": epoch, "judged_epoch": decision.epoch, "held_s": held_s}
            self._events.emit("vm.lease-settled", vm, told, severity=Severity.WARNING, evidence=evidence)

    async def ask_to_give_up(
        self, store: MountedDatastore, decision: AskToGiveUp, statuses: Callable[[], Sequence[HostStatus]]
    ) -> None:
        """The host has no way to the lease itself, or waits for an heir that is dead. Its answer says that no
        process of the vm is left there, and it starts none without a claim. It may have linked an epoch since
        without knowing: its storage carried that out and could not say so any more."""
        vm, host, heir = decision.vm, decision.host, decision.dead_heir
        lease = await store.leases.read(vm)
        seen_at = self._clock.monotonic()
        is_judged = lease is not None and lease.state is LeaseState.RUNNING and lease.epoch >= decision.epoch
        is_held = is_judged and lease is not None and lease.holder is not None and lease.holder.host == host
        acts = self._acts_on(store.datastore.name)
        if lease is None or not is_held or (lease.heir or "") != heir or not acts:
            log.info("%s: not to be given up by %s: %s", vm, host, lease)
            return
        dead = frozenset({heir} - {""})
        if dead and not await self._is_still_so(store.datastore.name, dead, statuses, seen_at):
            log.warning("%s: not to be given up by %s, %s shows a sign of life", vm, host, heir)
            return
        await holder_gives_up(self._call, lease, heir)
        why = f"{decision.why}; what it had not written to its disks is lost"
        await self._release_after(store, lease, host, dead, why, decision.why, statuses, seen_at)

    async def ask_heir(
        self,
        store: MountedDatastore,
        decision: AskHeir,
        statuses: Callable[[], Sequence[HostStatus]],
        seen_at: float,
    ) -> None:
        """Its answer says that the vm does not run there and never will; so it can be released as if both sides of
        its migration were dead. `seen_at` as for `release`."""
        vm, host, lease = decision.vm, decision.host, decision.lease
        try:
            told = await heir_never_runs(self._call, lease)
        except Refused as error:
            log.info("%s: %s", vm, error)
            return
        log.warning("%s: its heir %s gave it up: %s", vm, decision.heir, told)
        why = f"{host} died while it moved it to {decision.heir}; what it had not written to its disks is lost"
        dead = frozenset({host})
        await self._release_after(store, lease, decision.heir, dead, why, decision.why, statuses, seen_at)

    async def _release_after(
        self,
        store: MountedDatastore,
        lease: Lease,
        past: str,
        dead: frozenset[str],
        why: str,
        evidence: str,
        statuses: Callable[[], Sequence[HostStatus]],
        seen_at: float,
    ) -> None:
        """`past`, which lives, has said that it never runs the vm; the other side is `dead`."""
        if dead and not await self._is_still_so(store.datastore.name, dead, statuses, seen_at):
            log.warning("%s: not released, what was judged holds no more", lease.vm)
            return
        holder = lease.holder.host if lease.holder is not None else past
        released = await self._link_release(store, lease, lease.vm, holder, dead | {past}, why)
        if released is not None:
            self._tell_released(released, holder, evidence)
