"""What the judge of a datastore does about vms that are to run and are not seen to (H3, H6).

Pure: a snapshot in, decisions out, recomputed each round, so that nothing is lost when the judge dies in between.
What follows from the vm's lease:

=====================  =====================================================================================
lease                  decision
=====================  =====================================================================================
running                every host that may run it is dead on this datastore (`core.verdicts`), which is proven,
                       and no process holds the lock of its disks any more (where that tells): `ReleaseLease`;
                       of the two of a live migration only the heir lives: `AskHeir`, only the holder:
                       `AskToGiveUp`; its holder is isolated and beats here: `AcceptIsolated`; it lives and does
                       not run it: `AskToSettle`; it has lost the storage for das.apdtimeout: `AskToGiveUp`
resuming               its holder is failed, or dead here: `GiveResumeOrder` (needs no proof: it ran nothing
                       before); it lives and does not load it: `AskToSettle`
suspended, to resume   nobody took it for RESUME_AFTER_S: `GiveResumeOrder`
released as failed     `GiveStartOrder`
suspended, released    a user did that: left alone
=====================  =====================================================================================

Vms are looked at by priority, then size (large ones first, since they are harder to place), then name, and each
takes its room and its place in the host's queue before the next is looked at. So a lower one never takes the place
of a higher one that could be started now. One that waits for its next attempt, or for a proof, keeps no room free.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence, Set

from zugvogel.core import placement
from zugvogel.core.death_proof import DeathProof, has_lock, never_given_up
from zugvogel.core.failover_facts import (
    LOOK_AGAIN_S,
    AcceptIsolated,
    AskHeir,
    AskToGiveUp,
    AskToSettle,
    Decision,
    Fenced,
    FenceHost,
    Fencing,
    GiveResumeOrder,
    GiveStartOrder,
    ReleaseLease,
    Situation,
    Snapshot,
    Stranded,
    Wait,
    WaitFor,
)
from zugvogel.domain.ha import IsolationResponse, Monitoring, Proof, RestartPriority, RestartRecord
from zugvogel.domain.host import HostStatus, Verdict
from zugvogel.domain.lease import Lease, LeaseState
from zugvogel.domain.vm import VmDefinition, VmRecord

ATTEMPT_AT_S = (0.0, 120.0, 360.0, 840.0, 1800.0)
"""Since the first attempt; later ones follow at the last distance."""
RESUME_AFTER_S = 15.0
"""The host that saved a vm resumes it itself when its target does not begin within 10 s."""
LOCK_AGAIN_S, LOCK_AGAIN_MOST_S = 10.0, 60.0
LOCK_LOOK_S = 3.0
SETTLE_AFTER_S = 10.0
"""A start has reported its vm by then; a longer one is at work, and its host says so when it is asked."""
ORDER = {RestartPriority.HIGH: 0, RestartPriority.MEDIUM: 1, RestartPriority.LOW: 2, RestartPriority.DISABLED: 3}
SPEAKS = {Verdict.LIVE, Verdict.MAINTENANCE, Verdict.STORAGE_LOST}
"""Verdicts under which a host's report of its vms is fresh."""
SEEN_ALIVE = {Verdict.LIVE, Verdict.MAINTENANCE}


def is_protected(record: VmRecord) -> bool:
    """With HA enabled."""
    return record.wanted == "running" and record.definition.ha.restart_priority is not RestartPriority.DISABLED


def asks_lock(record: VmRecord, lease: Lease, proof: DeathProof, dead: Set[str]) -> bool:
    """Whether it is looked, before the lease is released, if a process still holds the lock of a disk of the vm.
    So a host that hangs as a whole, or whose agent is gone, keeps the vm with its memory until it goes on or is
    really dead. Of use only where a dead host's locks go; a live migration with one side alive is settled by that
    one."""
    holder = lease.holder.host if lease.holder is not None else ""
    is_held = lease.state is LeaseState.RUNNING and {holder, lease.heir or holder} <= dead
    return is_held and proof.proof is Proof.LOCK and has_lock(record.definition)


def urgency(definition: VmDefinition) -> tuple[int, int, str]:
    """Sorts vms into the order in which they are started again."""
    return ORDER[definition.ha.restart_priority], -definition.memory_bytes, definition.name


def attempts_made(restart: RestartRecord | None, lease: Lease) -> int:
    """Attempts since the vm failed. Each takes two epochs, its run and that run's end (or three: memory that was
    loaded and could not be run); one that was verified, or a lease that has gone on otherwise, is another story.
    One that was ordered and whose epoch nobody claimed spawned nothing."""
    if restart is None:
        return 0
    if lease.epoch == restart.failed_epoch:
        return max(0, restart.attempts - restart.is_ordered)
    since = lease.epoch - restart.failed_epoch
    is_its_end = since in {1, 2} or (since == 3 and lease.state is LeaseState.SUSPENDED)
    return restart.attempts if is_its_end and not restart.is_verified else 0


def due_in_s(attempts: int, waited_s: float, lock_tries: int = 0) -> float:
    """Until the next attempt may be made; `waited_s` since the last one. One that met a held lock was none."""
    if lock_tries:
        return max(0.0, min(LOCK_AGAIN_MOST_S, LOCK_AGAIN_S * 2.0 ** min(lock_tries - 1, 8)) - waited_s)
    if attempts == 0:
        return 0.0
    last = len(ATTEMPT_AT_S) - 1
    number = min(attempts, last)
    return max(0.0, ATTEMPT_AT_S[number] - ATTEMPT_AT_S[number - 1] - waited_s)


def decide(snapshot: Snapshot) -> list[Decision]:
    """In the order in which they are to be carried out; at most one a vm."""
    return _Round(snapshot).decide()


class _Round:
    """One round: room and turns are used up from one vm to the next."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._s = snapshot
        self._by_name = {status.host.name: status for status in snapshot.statuses}
        self._dead = frozenset(snapshot.dead) & self._by_name.keys()
        self._promises = placement.promises_of(snapshot.groups, snapshot.statuses)
        self._turns = Counter[str]()
        for ordered in snapshot.ordered:
            self._take(ordered.definition, ordered.host)
        self._to_fence: dict[str, FenceHost] = {}

    def decide(self) -> list[Decision]:
        vms = sorted(self._s.vms, key=lambda s: urgency(s.record.definition))
        decisions = [self._one(situation) for situation in vms]
        stranded = [
            self._stranded(s) for s in sorted(self._s.stranded, key=lambda s: urgency(s.record.definition))
        ]
        return [*self._to_fence.values(), *decisions, *(d for d in stranded if d is not None)]

    def _one(self, s: Situation) -> Decision:
        lease = s.lease
        if s.worker:
            if lease is not None and lease.state is LeaseState.RUNNING:
                self._keep_place(s)
            return _wait(s, Wait.ANSWER, f"{s.worker} is at work on it")
        if lease is None:
            return _wait(s, Wait.STOPPED, "it was never started")
        by_state: dict[LeaseState, Callable[[Situation, Lease], Decision]] = {
            LeaseState.RUNNING: self._held,
            LeaseState.RESUMING: self._resuming,
            LeaseState.SUSPENDED: self._suspended,
            LeaseState.RELEASED: self._released,
        }
        return by_state[lease.state](s, lease)

    # somebody holds it -----------------------------------------------------------------------------

    def _held(self, s: Situation, lease: Lease) -> Decision:
        holder = lease.holder.host if lease.holder is not None else ""
        sides = {holder, lease.heir} - {None, ""} if lease.heir else {holder}
        alive = sorted(str(side) for side in sides if side not in self._dead)
        if not alive:
            return self._prove_and_release(s, lease, holder, frozenset(str(side) for side in sides))
        if len(alive) < len(sides):
            return self._half_dead(s, lease, holder)
        if self._is_to_settle(s, holder):
            return AskToSettle(s.name, holder, lease.epoch, s.lease_age_s)
        if len(sides) > 1:
            return _wait(s, Wait.HOLDER, f"{alive[0]}, a side of its live migration, may run it: it settles it")
        if self._verdict(holder) is Verdict.STORAGE_LOST and not s.is_asked:
            return self._give_up(s, holder, lease.epoch, self._still_s(holder))
        if self._is_frozen_there(holder):
            return self._frozen(s, holder)
        if self._verdict(holder) is Verdict.ISOLATED:
            return self._isolated(s, lease, holder)
        is_failed = self._verdict(holder) is Verdict.FAILED
        return _wait(s, Wait.HOLDER, self._why_held(holder), 0.0 if is_failed else None)

    def _is_to_settle(self, s: Situation, holder: str) -> bool:
        status = self._by_name.get(holder)
        if status is None or status.verdict not in SEEN_ALIVE or status.is_report_stale:
            return False  # calls do not reach a host whose report does not come through
        return s.lease_age_s >= SETTLE_AFTER_S and not s.is_asked

    def _why_held(self, holder: str) -> str:
        status = self._by_name.get(holder)
        if status is None:
            return f"{holder} holds it and is no host of the cluster: zv host confirm-dead, or stop it there"
        if status.verdict is Verdict.FAILED:
            return f"{holder} is failed, but its beat on {self._s.datastore.name} was not seen to stand still yet"
        return f"{holder} holds it and is {status.verdict}: {status.why}"

    def _half_dead(self, s: Situation, lease: Lease, holder: str) -> Decision:
        """One side of a live migration is dead, and the other lives: asked, that one can say that it runs nothing
        and never will."""
        heir = str(lease.heir)
        dead, other = (holder, heir) if holder in self._dead else (heir, holder)
        told = f"{other}, a side of its live migration, may run it though {dead} is dead"
        if self._verdict(other) not in SPEAKS:
            verdict = self._verdict(other)
            is_failed = verdict is Verdict.FAILED  # and proven in a moment
            cannot = f"{told}, and cannot be asked: it is {verdict or 'no host of the cluster'}"
            return _wait(s, Wait.HOLDER, cannot, 0.0 if is_failed else None)
        if s.is_asked:
            return _wait(s, Wait.HOLDER, f"{told}: it settles it")
        proof = self._prove(s, frozenset({dead}))
        if isinstance(proof, WaitFor):
            return proof
        if dead == holder:
            return AskHeir(s.name, lease, holder, heir, proof)
        return AskToGiveUp(s.name, holder, lease.epoch, proof, dead_heir=heir)

    def _prove_and_release(self, s: Situation, lease: Lease, holder: str, sides: frozenset[str]) -> Decision:
        proof = self._prove(s, sides)
        if isinstance(proof, WaitFor):
            return proof
        if s.is_locked and not all(self._is_cut(side) for side in sides):
            told = (
                f"there is no sign of life of {' and '.join(sorted(sides))} on {self._s.datastore.name}, but a "
                "process has a disk of it open"
            )
            return _wait(s, Wait.LOCK, self._locked(told), LOCK_LOOK_S)
        return ReleaseLease(s.name, lease, holder, sides, proof)

    def _is_cut(self, host: str) -> bool:
        return self._s.fences.get(host, Fenced()).fencing is Fencing.DONE

    def _prove(self, s: Situation, sides: frozenset[str]) -> WaitFor | str:
        """The evidence that all `sides`, which are dead on this datastore, write no more to it; or what is waited
        for. The place of the vm is kept: it is started next."""
        fences = {side: self._s.fences.get(side, Fenced()) for side in sorted(sides)}
        for side, fenced in fences.items():
            if fenced.fencing is Fencing.UNTRIED:
                self._to_fence[side] = FenceHost(side)
        for side, fenced in fences.items():
            if fenced.fencing in {Fencing.UNTRIED, Fencing.PENDING}:
                self._keep_place(s)
                return _wait(s, Wait.FENCE, f"the power of {side} is being cut")
        unsure = [side for side, fenced in fences.items() if fenced.fencing is not Fencing.DONE]
        unproven = [side for side in unsure if self._s.proof.needs_word_of(side in self._s.guarded)]
        if unproven:
            return _wait(s, Wait.PROOF, self._unproven(unproven[0], fences[unproven[0]]))
        self._keep_place(s)
        told = "; ".join(f"{side} is {self._verdict(side)}: {self._by_name[side].why}" for side in fences)
        cut = "".join(f"; its fence device: {f.told}" for f in fences.values() if f.fencing is Fencing.DONE)
        return f"{told}{cut}"

    def _unproven(self, host: str, fenced: Fenced) -> str:
        store, why = self._s.datastore, self._s.proof.why
        if not self._s.proof.needs_word:
            why = "its last beat there did not say that a guard would freeze its vms"
        failed = f"; its fence device: {fenced.told}" if fenced.fencing is Fencing.FAILED else ""
        state = "failed" if self._verdict(host) is Verdict.FAILED else f"{self._verdict(host)} and dead there"
        return (
            f"{host} is {state}, but nothing proves that it writes no more to {store.name} ({store.kind}): "
            f"{why}{failed}; cut its power and say so: zv host confirm-dead {host}"
        )

    def _isolated(self, s: Situation, lease: Lease, holder: str) -> Decision:
        wished = s.record.definition.ha.isolation_response
        response = self._s.settings.response if wished == "default" else IsolationResponse(wished)
        if response is IsolationResponse.LEAVE:
            return _wait(s, Wait.RESPONSE, f"{holder} is isolated; it runs on there (isolation response leave)")
        if s.accepted_epoch == lease.epoch:
            self._keep_place(s)
            return _wait(s, Wait.RESPONSE, f"{holder} is isolated and carries out its response {response}")
        target, why, _ = self._place(s)
        if target is None:
            return _wait(s, Wait.ROOM, f"{holder} is isolated; it runs on there, since {why}")
        return AcceptIsolated(s.name, holder, lease.epoch, response, target, self._by_name[holder].why)

    # nobody runs it --------------------------------------------------------------------------------

    def _resuming(self, s: Situation, lease: Lease) -> Decision:
        holder = lease.holder.host if lease.holder is not None else ""
        if self._is_to_settle(s, holder):
            return AskToSettle(s.name, holder, lease.epoch, s.lease_age_s)
        verdict = self._verdict(holder)
        if verdict is not None and verdict is not Verdict.FAILED and holder not in self._dead:
            return _wait(s, Wait.HOLDER, f"{holder} loads its memory")
        gone = verdict or "no host of the cluster any more"
        return self._order(s, lease, f"{holder}, which loaded its memory, is {gone}", is_resume=True)

    def _suspended(self, s: Situation, lease: Lease) -> Decision:
        if not lease.is_to_resume:
            return _wait(s, Wait.STOPPED, "it was suspended by a user")
        if s.lease_age_s < RESUME_AFTER_S:
            return _wait(s, Wait.TIME, "its memory is saved; the host that is to go on with it may still come")
        return self._order(s, lease, lease.why, is_resume=True)

    def _released(self, s: Situation, lease: Lease) -> Decision:
        if not lease.is_failure:
            return _wait(s, Wait.STOPPED, "it was stopped by a user")
        home = self._home(s, lease)
        if home and s.record.definition.ha.monitoring is Monitoring.OFF:
            return _wait(s, Wait.STOPPED, f"it failed by itself, and its monitoring is off: {lease.why}")
        if home and s.own_failures >= self._s.settings.max_own_failures:
            return _wait(
                s,
                Wait.ATTEMPTS,
                f"it failed by itself {s.own_failures} times and was restarted lately ({lease.why}); "
                f"look for the cause, then: zv vm start {s.name}",
            )
        return self._order(s, lease, lease.why, home=home)

    def _home(self, s: Situation, lease: Lease) -> str:
        """The host that is alive and on which the vm failed by itself; it is restarted there first."""
        host = s.record.host or ""
        return host if lease.is_own_failure and self._verdict(host) in SEEN_ALIVE else ""

    def _order(
        self, s: Situation, lease: Lease, cause: str, *, home: str = "", is_resume: bool = False
    ) -> Decision:
        made, most = attempts_made(s.restart, lease), self._s.settings.max_attempts
        if made >= most:
            do = "resume" if is_resume else "start"
            last = f"; the last: {s.restart.why}" if s.restart is not None and s.restart.why else ""
            return _wait(s, Wait.ATTEMPTS, f"{made} attempts failed{last}; try by hand: zv vm {do} {s.name}")
        waited_s = s.since_order_s if s.since_order_s is not None else s.lease_age_s
        left_s = due_in_s(made, waited_s, s.lock_tries)
        if left_s > 0 and s.lock_tries:
            last = s.restart.why if s.restart is not None and s.restart.why else "a disk of it is locked"
            return _wait(s, Wait.LOCK, self._locked(last), min(5.0, left_s))
        if left_s > 0:
            return _wait(s, Wait.TIME, f"attempt {made + 1} of {most} in {left_s:.0f} s", min(5.0, left_s))
        host, why, wait = self._place(s, home)
        if host is None:
            return _wait(s, wait, why)
        if is_resume:
            return GiveResumeOrder(s.name, host, lease.epoch, why, made + 1, cause)
        return GiveStartOrder(s.name, host, lease.epoch, why, made + 1, cause, bool(home))

    def _locked(self, told: str) -> str:
        return (
            f"{told}: the host that ran it hangs rather than being dead, or {self._s.datastore.name} has not "
            "dropped the lock yet; it is tried again, and if it stays so cut that host's power"
        )

    # hosts that lost their storage -----------------------------------------------------------------

    def _stranded(self, s: Stranded) -> Decision | None:
        """None: something is done about it."""
        if s.worker:
            return None
        return self._give_up(Situation(s.record, None), s.host, s.epoch, s.silent_s)

    def _give_up(self, s: Situation, holder: str, epoch: int, silent_s: float) -> Decision:
        """A vm that stands still on a host without storage is kept for a while, then worth more elsewhere. Not
        where writes of it may be left on the way to its disks, nor where no other host has room."""
        limit_s, definition = self._s.settings.apd_timeout_s, s.record.definition
        lost = f"{holder} does not reach {self._s.datastore.name} for {silent_s:.0f} s"
        if not limit_s:
            return _wait(s, Wait.HOLDER, f"{lost}, and keeps it frozen until it does (das.apdtimeout is 0)")
        if silent_s < limit_s:
            then = f"after {limit_s:.0f} s it is to give it up (das.apdtimeout)"
            return _wait(s, Wait.HOLDER, f"{lost} and keeps it frozen; {then}")
        kept = f"{lost} and keeps it frozen; it is not asked to give it up, since"
        if never := never_given_up(self._s.proof, definition):
            return _wait(s, Wait.STORAGE, f"{kept} {never}; mend its path to the storage, or cut its power")
        others = [status for status in self._s.statuses if status.host.name != holder]
        host, why, wait = self._place(s, "", others)
        if host is None:
            return _wait(s, wait, f"{kept} {why}")
        return AskToGiveUp(definition.name, holder, epoch, f"{lost} (das.apdtimeout)")

    def _is_frozen_there(self, holder: str) -> bool:
        """It is cut off, and its beat on this datastore stands still too: no order reaches it."""
        status = self._by_name.get(holder)
        is_cut_off = status is not None and status.verdict in {Verdict.ISOLATED, Verdict.PARTITIONED}
        return is_cut_off and status is not None and self._s.datastore.name in status.frozen_on

    def _frozen(self, s: Situation, holder: str) -> WaitFor:
        """Mostly for a moment, until it counts as dead here; people are told where that does not come."""
        silent_s, limit_s = self._still_s(holder), self._s.settings.apd_timeout_s
        is_long = 0 < limit_s <= silent_s
        told = (
            f"{self._why_held(holder)}; its beat on {self._s.datastore.name} stands still for {silent_s:.0f} s, "
            "so it keeps it frozen, and no isolation response reaches it"
        )
        then = "; mend its network or its path to the storage, or cut its power" if is_long else ""
        return _wait(s, Wait.STORAGE if is_long else Wait.HOLDER, told + then, 0.0)

    def _still_s(self, host: str) -> float:
        """Since its last beat on this datastore was seen."""
        return self._by_name[host].beat_ages_s.get(self._s.datastore.name, 0.0)

    # room ------------------------------------------------------------------------------------------

    def _place(
        self, s: Situation, home: str = "", hosts: Sequence[HostStatus] | None = None
    ) -> tuple[str | None, str, Wait]:
        """(host, why, what it waits for without one). The host's room and a turn on it are taken."""
        definition = s.record.definition
        unknown = [nic.network for nic in definition.nics if nic.network not in self._s.networks]
        if unknown:
            return None, f"its network {unknown[0]} does not exist any more", Wait.ROOM
        networks = [self._s.networks[nic.network] for nic in definition.nics]
        weighed = placement.weigh(
            definition,
            self._s.datastore.name,
            networks,
            self._s.statuses if hosts is None else hosts,
            promises=self._promises,
            home=home,
        )
        refused = [
            c.model_copy(update={"is_fit": False, "why": f"refused it: {s.refusals[c.host]}"})
            if c.host in s.refusals
            else c
            for c in weighed
        ]
        fit = [c for c in refused if c.is_fit]
        if not fit:
            return None, placement.explain_none(refused), Wait.ROOM
        free = [c for c in fit if self._turns[c.host] < self._s.settings.per_host]
        if not free:
            most = self._s.settings.per_host
            return (
                None,
                f"{fit[0].host} starts {most} vms already (das.perhostconcurrentfailoverslimit)",
                Wait.TURN,
            )
        self._take(definition, free[0].host)
        return free[0].host, "it ran there" if free[0].host == home else free[0].why, Wait.ROOM

    def _take(self, definition: VmDefinition, host: str) -> None:
        self._promises.take(definition, host)
        self._turns[host] += 1

    def _keep_place(self, s: Situation) -> None:
        """It will be started in a moment: its place is not given to one of lower priority."""
        self._place(s)

    def _verdict(self, host: str) -> Verdict | None:
        status = self._by_name.get(host)
        return status.verdict if status is not None else None


def _wait(s: Situation, wait: Wait, why: str, look_again_s: float | None = None) -> WaitFor:
    return WaitFor(s.name, wait, why, LOOK_AGAIN_S.get(wait, 0.0) if look_again_s is None else look_again_s)
