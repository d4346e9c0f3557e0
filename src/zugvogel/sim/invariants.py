"""What must hold in every simulated world, looked at whenever something changes that it speaks of.

once        No vm's vCPUs run on two hosts at once.
proof       No host takes a vm over that another one held before that one was silent for the detection time (that
            of its last beat), by the world's time: its beat there, and its heartbeats at the host that takes over,
            when the claim began to be written (what comes while it is written nobody can see; that a frozen vm
            goes on only by an epoch of its own closes that gap). Nor while it still runs there when the claim
            stands. Not asked of hosts whose power was cut by a fence, or that somebody vouched for, until they
            have power again.
alive       A vm that is wanted running and is protected runs again within a bound, once nothing has been disturbed
            for as long and a host has room for it; unless it is by a rule that it stays down: somebody's word is
            missing, it failed by itself and is not watched, or too often.
roles       At most five primaries; they change only where something was done that changes them (`role_watch`).
tasks       Accepted work comes to an end. A lease that says running has a vm that runs.
service     No service of an agent ends, and no defect is logged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from zugvogel.core.checks import MEMORY_OVERHEAD_BYTES
from zugvogel.core.death_proof import proof_of
from zugvogel.domain.base import Model
from zugvogel.domain.ha import Monitoring, RestartPriority, RestartRecord
from zugvogel.domain.host import Host, Role
from zugvogel.domain.lease import Lease, LeaseState
from zugvogel.domain.settings import SETTINGS
from zugvogel.domain.task import Task
from zugvogel.domain.vm import VmRecord
from zugvogel.sim.files import SharedFiles
from zugvogel.sim.record import Recorder
from zugvogel.sim.role_watch import RoleWatch
from zugvogel.sim.storage import Fault
from zugvogel.sim.world import World

LOOK_S = 5.0
SLACK_S = 0.02
SETTLE_S = 60.0
"""What a restart may take beside the detection time: a round, placement, spawn, answers, with room to spare."""
ATTEMPT_PAUSES_S = (0.0, 120.0, 240.0, 480.0, 960.0)
"""Before the next attempt, after so many."""
TASK_S = 700.0
STARTING_S = 30.0


class Violation(Model):
    """`at_s` on the scenario's time."""

    at_s: float
    rule: str
    what: str


class Invariants:
    """Watches from the moment it is made. `origin_s`: the world's instant at which the scenario's time begins.
    `disturb` is called with everything that is done to the world, `vouched` with a host that is dead by somebody's
    word. `roles` is told of what may change them."""

    def __init__(self, world: World, recorder: Recorder, origin_s: float) -> None:
        self._world = world
        self._recorder = recorder
        self._origin_s = origin_s
        self.violations: list[Violation] = []
        self._said: set[tuple[str, str]] = set()
        self._disturbed_at = 0.0
        self._vouched: set[str] = set()
        self._begun: dict[tuple[str, str, int], dict[str, str]] = {}
        """Claims (host, vm, epoch) that are being written -> what was short of the proof of each side then."""
        self._linked_at: dict[str, float] = {}
        """Vm -> when its last lease was linked."""
        self.roles = RoleWatch(self._silent_s)
        self._records: dict[str, VmRecord] = {}
        self._tasks: dict[str, tuple[Task, float]] = {}
        self._is_enabled = False
        self._detection_s = 0.0
        """The longest that was set: hosts that died before live by theirs for ever."""
        self._is_role_check_due = False
        self._settings = {name: setting.default for name, setting in SETTINGS.items()}
        self._own_failures: dict[str, list[float]] = {}
        """vm -> when it was released as failed by itself."""
        world.on_vm.append(self._vm_changed)
        world.on_claim.append(self._claiming)
        world.on_link.append(self._linked)
        world.on_write.append(self._written)
        for entry in world.registry.entries(""):
            self._written(entry.key, entry.value)
        self._detection_s = self._detection_s or int(self._settings["das.failuredetectiontime"]) / 1000
        self.roles.dead_after_s = self._bound_s(0)
        world.loop.world_at(world.loop.now + LOOK_S, self._look)

    # told ------------------------------------------------------------------------------------------

    def disturb(self) -> None:
        self._disturbed_at = self._world.loop.now

    def vouched(self, host: str) -> None:
        self._vouched.add(host)

    def has_power(self, host: str) -> None:
        """Nobody's word holds for what it does from now on."""
        self._vouched.discard(host)

    def _violated(self, rule: str, key: str, what: str) -> None:
        """Each thing is told once."""
        if (rule, key) not in self._said:
            self._said.add((rule, key))
            at_s = round(self._world.loop.now - self._origin_s, 3)
            self.violations.append(Violation(at_s=at_s, rule=rule, what=what))

    # once ------------------------------------------------------------------------------------------

    def _vm_changed(self, vm: str) -> None:
        going = self._world.going(vm)
        if len(going) > 1:
            hosts = " and ".join(sorted(m.host.name for m in going))
            self._violated("once", f"{vm}/{hosts}/{self._world.loop.now:.0f}", f"{vm} runs on {hosts} at once")

    # proof -----------------------------------------------------------------------------------------

    def _claiming(self, files: SharedFiles, host: str, claim: Lease) -> None:
        chain = files.leases.get(claim.vm)
        sides = _taken_from(host, chain.top if chain is not None else None)
        self._begun[host, claim.vm, claim.epoch] = {side: self._shortfall(files, host, side) for side in sides}

    def _linked(self, files: SharedFiles, host: str, before: Lease | None, linked: Lease) -> None:
        self._linked_at[linked.vm] = self._world.loop.now
        begun = self._begun.pop((host, linked.vm, linked.epoch), {})
        if linked.is_own_failure and linked.state is LeaseState.RELEASED:
            self._own_failures.setdefault(linked.vm, []).append(self._world.loop.now)
        for side in _taken_from(host, before):
            shortfall = begun[side] if side in begun else self._shortfall(files, host, side)
            self._require_proof(host, side, linked, shortfall)

    def _shortfall(self, files: SharedFiles, host: str, side: str) -> str:
        """Of the proof that `side` is dead, for `host` and now; "" when nothing is missing."""
        world = self._world
        beat_s = world.loop.now - world.beat_at.get((side, files.name), -1e9)
        heard_s = world.loop.now - world.heard_at.get((side, host), -1e9)
        beat = files.beats.get(side)
        detection_s = beat.detection_time_ms / 1000 if beat is not None else self._detection_s
        need_s = detection_s / max(1.0, world.hosts[host].rate) - SLACK_S
        if beat_s >= need_s and heard_s >= need_s:
            return ""
        return f"whose beat was {beat_s:.2f} s old and whose heartbeat {heard_s:.2f} s, of {need_s:.2f} s"

    def _require_proof(self, host: str, side: str, linked: Lease, shortfall: str) -> None:
        world, vm = self._world, linked.vm
        there = world.hosts[side]
        processes = [m for m in world.machines_of(vm) if m.host is there]
        if any(m.is_going for m in processes):
            what = f"{host} took {vm} (epoch {linked.epoch}) over from {side} while it runs there"
            self._violated("proof", f"{vm}/{linked.epoch}", what)
            return
        if side in self._vouched or side in world.fenced or (there.is_up and not processes):
            return
        if shortfall:
            what = f"{host} took {vm} (epoch {linked.epoch}) over from {side}, {shortfall}"
            self._violated("proof", f"{vm}/{linked.epoch}", what)

    # what is written to the registry -----------------------------------------------------------------

    def _written(self, key: str, value: bytes | None) -> None:
        kind, _, name = key.partition("/")
        if kind == "vms":
            if value is None:
                self._records.pop(name, None)
            else:
                self._records[name] = VmRecord.model_validate_json(value)
        elif kind == "tasks" and value is not None:
            task = Task.model_validate_json(value)
            self._tasks[name] = (task, self._tasks.get(name, (task, self._world.loop.now))[1])
        elif kind == "settings" and value is not None:
            self._setting(name, json.loads(value))
        elif kind == "hosts" and not self._is_role_check_due:
            self._is_role_check_due = True
            self._world.loop.world_at(self._world.loop.now, self._look_at_roles)

    def _setting(self, name: str, value: bool | int | str) -> None:
        self._settings[name] = value
        if name == "das.enabled":
            self._is_enabled = bool(value)
        elif name == "das.failuredetectiontime":
            self._detection_s = max(self._detection_s, int(value) / 1000)
            self.roles.dead_after_s = self._bound_s(0)
        elif name in {"das.rolepolicy", "das.rolepolicy.replaceafter"}:
            is_adaptive = self._settings["das.rolepolicy"] == "adaptive"
            fastest = max((h.rate for h in self._world.hosts.values()), default=1.0)
            after_s = float(self._settings["das.rolepolicy.replaceafter"]) / fastest
            self.roles.replace_after_s = after_s if is_adaptive else None

    # roles -----------------------------------------------------------------------------------------

    def _look_at_roles(self) -> None:
        self._is_role_check_due = False
        hosts = [Host.model_validate_json(e.value) for e in self._world.registry.entries("hosts/")]
        for what in self.roles.changed(hosts):
            self._violated("roles", what, what)

    def _silent_s(self, host: str) -> float:
        """Since its last beat anywhere, or its last heartbeat that was heard."""
        world = self._world
        beats = (at for (name, _), at in world.beat_at.items() if name == host)
        heard = (at for (name, _), at in world.heard_at.items() if name == host)
        return world.loop.now - max((*beats, *heard), default=-1e9)

    # alive -----------------------------------------------------------------------------------------

    def _look(self) -> None:
        loop = self._world.loop
        loop.world_at(loop.now + LOOK_S, self._look)
        if self._is_enabled and self._recorder.down_since and self._is_calm():
            for vm, record in self._records.items():
                if vm in self._recorder.down_since:
                    self._look_at(vm, record)

    def _is_calm(self) -> bool:
        """Nothing was done lately, and nothing is broken but hosts without power."""
        world = self._world
        if world.loop.now - self._disturbed_at < self._bound_s(0) or not world.wires.is_whole:
            return False
        hosts = world.hosts.values()
        if any(h.is_hung or (h.agent is not None and h.agent.is_paused) for h in hosts):
            return False
        return not any(p.fault is not Fault.NONE for h in hosts for p in h.paths.values() if h.is_powered)

    def _bound_s(self, attempts: int) -> float:
        return 4 * self._detection_s + SETTLE_S + sum(ATTEMPT_PAUSES_S[: attempts + 1])

    def _look_at(self, vm: str, record: VmRecord) -> None:
        """That runs nowhere."""
        policy = record.definition.ha
        if record.wanted != "running" or policy.restart_priority is RestartPriority.DISABLED:
            return
        down_since = self._recorder.down_since[vm]
        files = self._world.files[record.datastore]
        attempts = _attempts(files, vm)
        if attempts >= len(ATTEMPT_PAUSES_S) or self._stays_down(files, record):
            return  # and that is told
        calm_since = max(down_since, self._disturbed_at)
        down_s = self._world.loop.now - calm_since
        if down_s < self._bound_s(attempts) + files.lock_lease_s or not self._has_room(record):
            return
        why = f"{vm} has run nowhere for {down_s:.0f} s ({attempts} attempts) though there is room for it"
        self._violated("alive", f"{vm}/{down_since:.0f}", f"{why}; lease: {_told(files, vm)}")

    def _stays_down(self, files: SharedFiles, record: VmRecord) -> bool:
        """By a rule that waits for somebody, or as a user asked for while the registry could not be told."""
        vm = record.definition.name
        chain = files.leases.get(vm)
        lease = chain.top if chain is not None else None
        if lease is not None and lease.state is LeaseState.RUNNING:
            return any(self._needs_word(files, record, side) for side in _sides(lease))
        if lease is not None and lease.state is LeaseState.RELEASED and not lease.is_failure:
            return lease.epoch > record.epoch and not self._is_registry_served()
        if lease is None or not lease.is_own_failure:
            return False
        lately = self._world.loop.now - float(self._settings["das.vmmonitoring.window"])
        failed = sum(at >= lately for at in self._own_failures.get(vm, ()))
        is_off = record.definition.ha.monitoring is Monitoring.OFF
        return failed >= (1 if is_off else int(self._settings["das.vmmonitoring.maxfailures"]))

    def _is_registry_served(self) -> bool:
        return any(self._world.registry.serves(host) for host in self._world.hosts)

    def _needs_word(self, files: SharedFiles, record: VmRecord, side: str) -> bool:
        """Nothing proves that `side`, which has no power, is dead."""
        world, beat = self._world, files.beats.get(side)
        if world.hosts[side].is_powered or side in self._vouched or side in world.fenced:
            return False
        is_guarded = beat is not None and beat.is_guarded
        return proof_of(files.datastore).needs_word_of(is_guarded)

    def _has_room(self, record: VmRecord) -> bool:
        need = record.definition.memory_bytes + MEMORY_OVERHEAD_BYTES
        able = [h for h in self._live_hosts(record.datastore) if not h.is_in_maintenance]
        if not any(h.role is Role.PRIMARY for h in able):
            return False
        taken = self._taken_by_group(record)
        return any(self._free_bytes(h.name) >= need for h in able if h.name not in taken)

    def _taken_by_group(self, record: VmRecord) -> set[str]:
        """Hosts that have another vm of its group, and so never get it."""
        group = record.definition.ha.anti_affinity
        others = [
            r.definition.name for r in self._records.values() if group and r.definition.ha.anti_affinity == group
        ]
        return {m.host.name for vm in others if vm != record.definition.name for m in self._world.machines_of(vm)}

    def _live_hosts(self, datastore: str) -> Iterable[Host]:
        """That could run it, with their roles."""
        for record in self._world.host_records():
            host = self._world.hosts[record.name]
            if host.is_up and host.agent is not None and host.paths[datastore].fault is Fault.NONE:
                yield record

    def _free_bytes(self, name: str) -> int:
        host = self._world.hosts[name]
        used = sum(m.spec.definition.memory_bytes + MEMORY_OVERHEAD_BYTES for m in host.machines.values())
        return host.facts.memory_total_bytes - used

    # at the end ------------------------------------------------------------------------------------

    def finish(self) -> None:
        """What must be settled when the world has been calm for long enough."""
        for defect in (*self._world.defects, *self._world.loop.defects):
            self._violated("service", defect[-200:], defect)
        if not self._is_calm():
            return
        calm_s = self._world.loop.now - self._disturbed_at
        if calm_s > TASK_S:
            self._look_at_tasks()
        self._look_at_leases()

    def _look_at_tasks(self) -> None:
        for task, seen_at in self._tasks.values():
            owner = self._world.hosts.get(task.owner)
            is_there = owner is not None and owner.agent is not None
            if is_there and not task.state.is_final and self._world.loop.now - seen_at > TASK_S:
                what = f"task {task.kind} of {task.subject} on {task.owner} does not end: {task.progress.message}"
                self._violated("tasks", task.id, what)

    def _look_at_leases(self) -> None:
        """A host that is up holds only what runs there, or has just begun to start it."""
        for files in self._world.files.values():
            for vm, chain in files.leases.items():
                top = chain.top
                if top is None or top.state is not LeaseState.RUNNING or top.holder is None:
                    continue
                holder = self._world.hosts[top.holder.host]
                if holder.agent is None or not holder.is_up or self._is_new(vm):
                    continue
                if not any(m.host is holder for m in self._world.machines_of(vm)):
                    self._violated("tasks", f"lease {vm}", f"{holder.name} holds {vm} but has no QEMU of it")

    def _is_new(self, vm: str) -> bool:
        """Its lease was linked so lately that a start may be under way; it takes seconds where a lock is held."""
        return self._world.loop.now - self._linked_at.get(vm, -1e9) < STARTING_S


def _taken_from(host: str, lease: Lease | None) -> set[str]:
    """Those who may run the vm by `lease`, unless `host` is one of them."""
    if lease is None or lease.state is not LeaseState.RUNNING or lease.holder is None:
        return set()
    sides = _sides(lease)
    return set() if host in sides else sides


def _sides(lease: Lease) -> set[str]:
    held_by = lease.holder.host if lease.holder is not None else ""
    return {held_by, lease.heir or held_by} - {""}


def _attempts(files: SharedFiles, vm: str) -> int:
    folder = files.folders.get(vm)
    raw = folder.notes.get("restart.json") if folder is not None else None
    return RestartRecord.model_validate_json(raw).attempts if raw else 0


def _told(files: SharedFiles, vm: str) -> str:
    chain = files.leases.get(vm)
    top = chain.top if chain is not None else None
    if top is None:
        return "none"
    held = f" by {top.holder.host}" if top.holder else ""
    return f"epoch {top.epoch} {top.state}{held}: {top.why}"
