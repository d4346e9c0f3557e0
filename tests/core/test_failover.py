"""The judge's decisions: who is started again where, and what every other vm waits for."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from tests.core.facts import GIB, definition, status
from zugvogel.core.checks import MEMORY_OVERHEAD_BYTES
from zugvogel.core.death_proof import DeathProof
from zugvogel.core.failover import (
    RESUME_AFTER_S,
    SETTLE_AFTER_S,
    SPEAKS,
    asks_lock,
    attempts_made,
    decide,
    due_in_s,
)
from zugvogel.core.failover_facts import (
    TOLD,
    AcceptIsolated,
    AskHeir,
    AskToGiveUp,
    AskToSettle,
    Decision,
    FailoverSettings,
    Fenced,
    FenceHost,
    Fencing,
    GiveResumeOrder,
    GiveStartOrder,
    Ordered,
    ReleaseLease,
    Situation,
    Snapshot,
    Stranded,
    Wait,
    WaitFor,
)
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.ha import IsolationResponse, Monitoring, Proof, RestartPriority, RestartRecord, VmPolicy
from zugvogel.domain.host import DatastoreReport, HostStatus, Verdict, VmReport
from zugvogel.domain.lease import Holder, Lease, LeaseState
from zugvogel.domain.network import Network
from zugvogel.domain.vm import Disk, Nic, VmRecord, VmState

DS = Datastore(name="nfs1", id="d", path="/srv/nfs1", kind="NFS v4", is_shared=True)
LOCK = DeathProof(Proof.LOCK, "its server drops the locks")


def record(name: str = "web", *, host: str | None = "h1", epoch: int = 7, gib: float = 2, **more: Any) -> VmRecord:
    policy = {k: more.pop(k) for k in list(more) if k in VmPolicy.model_fields}
    size = int(gib * GIB) - MEMORY_OVERHEAD_BYTES
    made = definition(name=name, memory_bytes=size, ha=VmPolicy(**policy), **({"nics": (), "cpus": 1} | more))
    return VmRecord(
        definition=made, datastore="nfs1", wanted="running", observed=VmState.RUNNING, host=host, epoch=epoch
    )


def lease(state: str = "running", holder: str | None = "h1", epoch: int = 7, **more: Any) -> Lease:
    by = Holder(host=holder, boot_id="b") if holder else None
    return Lease(vm="web", epoch=epoch, state=LeaseState(state), holder=by, why="it broke", **more)


FAILED = lease("released", None, is_failure=True)
SAVED = lease("suspended", None, memory_id="m", is_to_resume=True)


def host(
    name: str, verdict: Verdict = Verdict.LIVE, gib: float = 16, vms: tuple[VmReport, ...] = ()
) -> HostStatus:
    found = status(name, int(name[1:]), vms=vms, memory_total_bytes=int(gib * GIB), cores=16)
    return found.model_copy(update={"verdict": verdict, "why": f"the test calls it {verdict}"})


def seen(name: str, gib: float = 2) -> VmReport:
    size = int(gib * GIB) - MEMORY_OVERHEAD_BYTES
    return VmReport(name=name, state=VmState.RUNNING, epoch=3, memory_bytes=size, cpus=1)


def snapshot(*vms: Situation, h1: Verdict = Verdict.FAILED, **more: Any) -> Snapshot:
    """h1 is as told, h2 and h3 are live; every failed host is dead on the datastore."""
    statuses = more.pop("statuses", None) or [host("h1", h1), host("h2"), host("h3", gib=15)]
    dead = {s.host.name for s in statuses if s.verdict is Verdict.FAILED}
    fields: dict[str, Any] = {"datastore": DS, "proof": LOCK, "statuses": statuses, "dead": dead, "vms": vms}
    fields["guarded"] = dead
    return Snapshot(**(fields | more))


def only(found: Snapshot) -> Decision:
    decisions = decide(found)
    assert len(decisions) == 1
    return decisions[0]


def waits(found: Snapshot) -> WaitFor:
    decision = only(found)
    assert isinstance(decision, WaitFor), decision
    return decision


def started(found: Snapshot) -> GiveStartOrder:
    decision = only(found)
    assert isinstance(decision, GiveStartOrder), decision
    return decision


# who may run it ----------------------------------------------------------------------------------------------


def test_a_lease_of_a_dead_host_is_released() -> None:
    decision = only(snapshot(Situation(record(), lease())))
    assert isinstance(decision, ReleaseLease)
    assert (decision.lease, decision.host, decision.dead) == (lease(), "h1", frozenset({"h1"}))
    assert "the test calls it failed" in decision.why


@pytest.mark.parametrize("verdict", [v for v in Verdict if v is not Verdict.FAILED])
def test_a_lease_of_a_host_that_is_not_failed_is_left_to_it(verdict: Verdict) -> None:
    found = waits(snapshot(Situation(record(), lease()), h1=verdict))
    assert found.wait is (Wait.RESPONSE if verdict is Verdict.ISOLATED else Wait.HOLDER)


def test_a_failed_host_whose_beat_on_the_vms_datastore_moves_is_not_dead() -> None:
    found = waits(snapshot(Situation(record(), lease()), dead=set()))
    assert found.wait is Wait.HOLDER
    assert "was not seen to stand still" in found.why
    assert found.look_again_s == 0


@pytest.mark.parametrize(
    "held",
    [
        lease(holder="h2"),
        lease(holder="h2", heir="h3", migration_id="m"),
        lease("resuming", "h2", memory_id="m"),
    ],
)
def test_a_live_host_that_holds_a_vm_and_does_not_run_it_is_asked_to_settle_it(held: Lease) -> None:
    early = Situation(record(), held, SETTLE_AFTER_S - 1)
    assert waits(snapshot(early)).wait is Wait.HOLDER
    due = replace(early, lease_age_s=SETTLE_AFTER_S)
    for verdict in (Verdict.LIVE, Verdict.MAINTENANCE):
        statuses = [host("h1", Verdict.FAILED), host("h2", verdict), host("h3")]
        decision = only(snapshot(due, statuses=statuses))
        assert decision == AskToSettle("web", "h2", 7, SETTLE_AFTER_S)
    assert waits(snapshot(replace(due, is_asked=True))).wait is Wait.HOLDER
    for verdict in (Verdict.PARTITIONED, Verdict.STORAGE_LOST):
        found = snapshot(due, statuses=[host("h1", Verdict.FAILED), host("h2", verdict), host("h3")])
        assert waits(found).wait is Wait.HOLDER


def test_a_holder_that_left_the_cluster_is_told() -> None:
    assert "no host of the cluster" in waits(snapshot(Situation(record(), lease(holder="h9")))).why


@pytest.mark.parametrize(("source", "target"), list(product(Verdict, Verdict)))
def test_both_ends_of_a_live_migration_must_be_dead_or_one_of_them_asked(source: Verdict, target: Verdict) -> None:
    statuses = [host("h1", source), host("h2", target), host("h3"), host("h4")]
    held = lease(heir="h2", migration_id="m")
    there = Situation(record(), held)
    decision = only(snapshot(there, statuses=statuses))
    if source is target is Verdict.FAILED:
        assert isinstance(decision, ReleaseLease)
        assert decision.dead == {"h1", "h2"}
    elif source is Verdict.FAILED and target in SPEAKS:
        assert decision == AskHeir("web", held, "h1", "h2", "h1 is failed: the test calls it failed")
        assert waits(snapshot(replace(there, is_asked=True), statuses=statuses)).wait is Wait.HOLDER
    elif target is Verdict.FAILED and source in SPEAKS:
        assert decision == AskToGiveUp("web", "h1", 7, "h2 is failed: the test calls it failed", dead_heir="h2")
        assert waits(snapshot(replace(there, is_asked=True), statuses=statuses)).wait is Wait.HOLDER
    else:
        assert isinstance(decision, WaitFor)
        assert decision.wait is Wait.HOLDER


@pytest.mark.parametrize(("source", "target"), [("h1", "h2"), ("h2", "h1")])
def test_the_living_side_is_asked_only_once_the_other_is_proven_dead(source: str, target: str) -> None:
    there = Situation(record(), lease(holder=source, heir=target, migration_id="m"))
    assert waits(snapshot(there, proof=DeathProof(Proof.CONFIRM, "because"))).wait is Wait.PROOF
    assert waits(snapshot(there, fences={"h1": Fenced(Fencing.PENDING)})).wait is Wait.FENCE
    assert waits(snapshot(there, dead=set())).wait is Wait.HOLDER


@pytest.mark.parametrize(
    ("seen_lease", "told"),
    [
        (None, "never started"),
        (lease("released", None), "stopped by a user"),
        (lease("suspended", None, memory_id="m"), "suspended by a user"),
    ],
)
def test_what_a_user_did_is_left_alone(seen_lease: Lease | None, told: str) -> None:
    assert told in waits(snapshot(Situation(record(), seen_lease, lease_age_s=1e6))).why


# proof -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("proof", "fencing"), list(product(Proof, Fencing)))
def test_a_release_needs_the_datastores_proof(proof: Proof, fencing: Fencing) -> None:
    found = decide(
        snapshot(
            Situation(record(), lease()),
            proof=DeathProof(proof, "because"),
            fences={"h1": Fenced(fencing, "the device says so")},
        )
    )
    assert (FenceHost("h1") in found) is (fencing is Fencing.UNTRIED)
    last = found[-1]
    if fencing in {Fencing.UNTRIED, Fencing.PENDING}:
        assert isinstance(last, WaitFor)
        assert last.wait is Wait.FENCE
    elif fencing is Fencing.DONE or proof in {Proof.LOCK, Proof.GUARD}:
        assert isinstance(last, ReleaseLease)
    else:
        assert isinstance(last, WaitFor)
        assert last.wait is Wait.PROOF
        assert "zv host confirm-dead h1" in last.why
        assert "because" in last.why


DISK = Disk(file="a.raw", format="raw", size_bytes=1)
ISO = Disk(file="b.raw", format="raw", size_bytes=1, is_readonly=True)


@pytest.mark.parametrize("fencing", [Fencing.ABSENT, Fencing.FAILED, Fencing.DONE])
@pytest.mark.parametrize("disks", [(), (ISO,), (DISK,), (ISO, DISK)])
@pytest.mark.parametrize("proof", [Proof.LOCK, Proof.GUARD])
def test_a_host_whose_last_beat_promised_no_guard_needs_a_word_whatever_its_locks_tell(
    proof: Proof, disks: tuple[Disk, ...], fencing: Fencing
) -> None:
    """Storage drops the locks of a host that it hears no more, and its vms may run on: nothing freezes them."""
    vm, fences = record(disks=disks), {"h1": Fenced(fencing, "the device says so")}
    told: dict[str, Any] = {"proof": DeathProof(proof, "because"), "fences": fences}
    assert isinstance(decide(snapshot(Situation(vm, lease()), **told))[-1], ReleaseLease)
    found = decide(snapshot(Situation(vm, lease()), guarded=set(), **told))[-1]
    if fencing is Fencing.DONE:
        assert isinstance(found, ReleaseLease)
        return
    assert isinstance(found, WaitFor)
    assert found.wait is Wait.PROOF
    assert "its last beat there did not say that a guard would freeze its vms" in found.why
    assert "zv host confirm-dead h1" in found.why


def test_a_lease_is_kept_while_a_process_holds_the_lock_of_a_disk() -> None:
    held = Situation(record(disks=(DISK,)), lease(), is_locked=True)
    found = waits(snapshot(held))
    assert found.wait is Wait.LOCK
    assert "there is no sign of life of h1 on nfs1, but a process has a disk of it open" in found.why
    assert "cut that host's power" in found.why
    assert found.look_again_s > 0
    assert isinstance(decide(snapshot(replace(held, is_locked=False)))[-1], ReleaseLease)


@pytest.mark.parametrize("fencing", Fencing)
def test_a_host_whose_power_was_cut_holds_nothing_whatever_its_lock_says(fencing: Fencing) -> None:
    held = Situation(record(disks=(DISK,)), lease(), is_locked=True)
    found = decide(snapshot(held, fences={"h1": Fenced(fencing, "the device says so")}))[-1]
    assert isinstance(found, ReleaseLease) is (fencing is Fencing.DONE)


def test_of_a_move_both_ends_must_have_been_cut() -> None:
    statuses = [host("h1", Verdict.FAILED), host("h2", Verdict.FAILED), host("h3")]
    held = Situation(record(disks=(DISK,)), lease(heir="h2", migration_id="m"), is_locked=True)
    fences = {"h1": Fenced(Fencing.DONE, "off"), "h2": Fenced(Fencing.FAILED, "dead")}
    assert waits(snapshot(held, statuses=statuses, fences=fences)).wait is Wait.LOCK
    fences["h2"] = Fenced(Fencing.DONE, "off")
    assert isinstance(decide(snapshot(held, statuses=statuses, fences=fences))[-1], ReleaseLease)


@pytest.mark.parametrize(
    ("held", "proof", "disks", "dead", "is_asked"),
    [
        (lease(), Proof.LOCK, (ISO, DISK), {"h1"}, True),
        (lease(), Proof.LOCK, (ISO,), {"h1"}, False),
        (lease(), Proof.GUARD, (DISK,), {"h1"}, False),
        (lease(), Proof.CONFIRM, (DISK,), {"h1"}, False),
        (lease(), Proof.LOCK, (DISK,), {"h2"}, False),
        (lease(heir="h2"), Proof.LOCK, (DISK,), {"h1"}, False),
        (lease(heir="h2"), Proof.LOCK, (DISK,), {"h2"}, False),
        (lease(heir="h2"), Proof.LOCK, (DISK,), {"h1", "h2"}, True),
        (FAILED, Proof.LOCK, (DISK,), {"h1"}, False),
        (SAVED, Proof.LOCK, (DISK,), {"h1"}, False),
    ],
)
def test_the_lock_is_looked_at_where_it_tells_and_nobody_alive_can_be_asked(
    held: Lease, proof: Proof, disks: tuple[Disk, ...], dead: set[str], is_asked: bool
) -> None:
    assert asks_lock(record(disks=disks), held, DeathProof(proof, "because"), dead) is is_asked


def test_both_ends_of_a_move_must_have_promised_a_guard() -> None:
    statuses = [host("h1", Verdict.FAILED), host("h2", Verdict.FAILED), host("h3")]
    moving = Situation(record(), lease(heir="h2", migration_id="m"))
    found = waits(snapshot(moving, statuses=statuses, guarded={"h1"}, proof=DeathProof(Proof.GUARD, "x")))
    assert found.why.startswith("h2 is failed, but nothing proves")


def test_both_ends_of_a_migration_are_fenced() -> None:
    statuses = [host("h1", Verdict.FAILED), host("h2", Verdict.FAILED), host("h3")]
    fences = {name: Fenced(Fencing.UNTRIED) for name in ("h1", "h2")}
    found = decide(
        snapshot(Situation(record(), lease(heir="h2", migration_id="m")), statuses=statuses, fences=fences)
    )
    assert found[:2] == [FenceHost("h1"), FenceHost("h2")]


def test_a_fence_is_evidence() -> None:
    done = {"h1": Fenced(Fencing.DONE, "chassis power is off")}
    decision = only(snapshot(Situation(record(), lease()), proof=DeathProof(Proof.FENCE, "x"), fences=done))
    assert isinstance(decision, ReleaseLease)
    assert "chassis power is off" in decision.why


# starting again ------------------------------------------------------------------------------------------------


def test_a_released_vm_is_started_on_the_roomiest_host() -> None:
    order = started(snapshot(Situation(record(), FAILED)))
    assert (order.host, order.epoch, order.attempt) == ("h2", 7, 1)
    assert (order.cause, order.is_own_failure) == ("it broke", False)
    assert "GiB of memory" in order.reason


def test_preferred_hosts_come_first_in_their_order() -> None:
    assert started(snapshot(Situation(record(preferred_hosts=("h1", "h3", "h2")), FAILED))).host == "h3"


def test_a_vm_of_the_same_group_keeps_others_away() -> None:
    statuses = [host("h1", Verdict.FAILED), host("h2", vms=(seen("db1"),)), host("h3", gib=8)]
    groups = {"db1": "db", "web": "db"}
    order = started(snapshot(Situation(record(anti_affinity="db"), FAILED), statuses=statuses, groups=groups))
    assert order.host == "h3"
    told = waits(snapshot(Situation(record(anti_affinity="db"), FAILED), statuses=statuses[:2], groups=groups))
    assert told.wait is Wait.ROOM
    assert "h2 has db1 of the same anti-affinity group db" in told.why


def test_two_of_a_group_in_one_round_go_to_different_hosts() -> None:
    vms = [Situation(record(n, anti_affinity="db"), FAILED) for n in ("db1", "db2")]
    found = decide(snapshot(*vms, groups={"db1": "db", "db2": "db"}))
    assert [d.host for d in found if isinstance(d, GiveStartOrder)] == ["h2", "h3"]


@pytest.mark.parametrize("verdict", [v for v in Verdict if v is not Verdict.LIVE])
def test_only_live_hosts_are_targets(verdict: Verdict) -> None:
    found = waits(
        snapshot(Situation(record(), FAILED), statuses=[host("h1", Verdict.FAILED), host("h2", verdict)])
    )
    assert found.wait is Wait.ROOM
    assert f"h2 is {verdict}" in found.why


def test_hosts_without_the_datastore_in_maintenance_or_without_the_bridge_are_no_targets() -> None:
    lost = host("h2")
    assert lost.report is not None
    away = DatastoreReport(name="nfs1", is_usable=False)
    lost = lost.model_copy(update={"report": lost.report.model_copy(update={"datastores": (away,)})})
    resting = host("h3")
    resting = resting.model_copy(update={"host": resting.host.model_copy(update={"is_in_maintenance": True})})
    vm = record(nics=(Nic(network="lan", mac="52:54:00:00:00:01"),))
    networks = {"lan": Network(name="lan", bridges={"h4": "br9"})}
    statuses = [host("h1", Verdict.FAILED), lost, resting, host("h4")]
    why = waits(snapshot(Situation(vm, FAILED), statuses=statuses, networks=networks)).why
    for part in ("h2 does not reach datastore nfs1", "h3 is in maintenance", "h4 has no bridge for network lan"):
        assert part in why
    assert "network lan does not exist" in waits(snapshot(Situation(vm, FAILED))).why


def test_a_host_that_refused_it_lately_is_passed_over() -> None:
    assert started(snapshot(Situation(record(), FAILED, refusals={"h2": "no bridge"}))).host == "h3"
    told = waits(snapshot(Situation(record(), FAILED, refusals={"h2": "no bridge", "h3": "full"}))).why
    assert "h2 refused it: no bridge" in told


def test_memory_of_orders_under_way_is_taken() -> None:
    under_way = [Ordered(record("other", gib=15).definition, "h2")]
    assert started(snapshot(Situation(record(), FAILED), ordered=under_way)).host == "h3"
    statuses = [host("h1", Verdict.FAILED), host("h2")]
    told = waits(snapshot(Situation(record(), FAILED), ordered=under_way, statuses=statuses))
    assert told.wait is Wait.ROOM
    assert "h2 lacks 1.00 GiB" in told.why


# order -----------------------------------------------------------------------------------------------------------


def test_vms_come_by_priority_then_size_then_name() -> None:
    vms = [
        Situation(record("a", restart_priority=RestartPriority.LOW), FAILED),
        Situation(record("b"), FAILED),
        Situation(record("c"), FAILED),
        Situation(record("d", gib=4), FAILED),
        Situation(record("e", restart_priority=RestartPriority.HIGH), FAILED),
    ]
    assert [d.vm for d in decide(snapshot(*vms)) if isinstance(d, GiveStartOrder)] == ["e", "d", "b", "c", "a"]


def test_the_last_room_goes_to_the_higher_priority() -> None:
    vms = [
        Situation(record("a", gib=3), FAILED),
        Situation(record("z", gib=3, restart_priority=RestartPriority.HIGH), FAILED),
    ]
    found = decide(snapshot(*vms, statuses=[host("h1", Verdict.FAILED), host("h2", gib=4)]))
    assert isinstance(found[0], GiveStartOrder)
    assert found[0].vm == "z"
    assert isinstance(found[1], WaitFor)
    assert found[1].wait is Wait.ROOM


@pytest.mark.parametrize("state", ["released a moment later", "being worked on", "being fenced"])
def test_a_higher_one_that_will_start_in_a_moment_keeps_its_place(state: str) -> None:
    high = Situation(record("z", gib=3, restart_priority=RestartPriority.HIGH), lease())
    fences = {}
    if state == "being worked on":
        high = replace(high, worker="the judge")
    if state == "being fenced":
        fences = {"h1": Fenced(Fencing.PENDING)}
    low = Situation(record("a", gib=3), FAILED)
    statuses = [host("h1", Verdict.FAILED), host("h2", gib=4)]
    found = decide(snapshot(low, high, statuses=statuses, fences=fences))
    assert isinstance(found[1], WaitFor)
    assert (found[1].vm, found[1].wait) == ("a", Wait.ROOM)


def test_a_host_works_on_so_many_at_a_time_and_the_others_wait_their_turn() -> None:
    vms = [Situation(record(f"v{i}", gib=1), FAILED) for i in range(5)]
    found = decide(snapshot(*vms, settings=FailoverSettings(per_host=2)))
    assert [d.host for d in found if isinstance(d, GiveStartOrder)] == ["h2", "h3", "h2", "h3"]
    last = found[-1]
    assert isinstance(last, WaitFor)
    assert last.wait is Wait.TURN
    under_way = [Ordered(record(f"o{i}", gib=1).definition, name) for i, name in enumerate(["h2", "h2", "h3"])]
    found = decide(snapshot(*vms, settings=FailoverSettings(per_host=2), ordered=under_way))
    assert [d.vm for d in found if isinstance(d, GiveStartOrder)] == ["v0"]


def test_what_is_under_way_is_waited_for() -> None:
    assert waits(snapshot(Situation(record(), FAILED, worker="h2"))).wait is Wait.ANSWER


# attempts ---------------------------------------------------------------------------------------------


def test_attempts_come_at_0_2_6_14_and_30_minutes() -> None:
    at, times = 0.0, [0.0]
    for made in range(1, 6):
        at += due_in_s(made, 0.0)
        times.append(at / 60)
    assert times[:5] == [0, 2, 6, 14, 30]
    assert times[5] == 46


@pytest.mark.parametrize(("made", "gap_s"), [(1, 120), (2, 240), (3, 480), (4, 960)])
def test_an_attempt_is_made_when_its_time_has_come(made: int, gap_s: float) -> None:
    restart = RestartRecord(vm="web", failed_epoch=5, attempts=made, why="h2: QEMU said no")
    early = Situation(record(), FAILED, restart=restart, since_order_s=gap_s - 1)
    assert waits(snapshot(early)).wait is Wait.TIME
    assert started(snapshot(replace(early, since_order_s=gap_s))).attempt == made + 1


def test_a_new_judge_counts_the_time_from_its_own_first_look() -> None:
    restart = RestartRecord(vm="web", failed_epoch=5, attempts=1)
    assert waits(snapshot(Situation(record(), FAILED, 119.0, restart))).wait is Wait.TIME
    assert started(snapshot(Situation(record(), FAILED, 120.0, restart))).attempt == 2


def test_after_the_last_attempt_somebody_must_look() -> None:
    restart = RestartRecord(vm="web", failed_epoch=5, attempts=5, why="h2: QEMU said no")
    found = waits(snapshot(Situation(record(), FAILED, 1e6, restart)))
    assert found.wait is Wait.ATTEMPTS
    assert "5 attempts failed" in found.why
    assert "QEMU said no" in found.why
    assert "zv vm start web" in found.why


@pytest.mark.parametrize(
    ("failed_epoch", "is_verified", "counts"),
    [
        (7, False, True),  # ordered, nothing was linked since
        (6, False, True),  # the ordered host loads its memory, or did
        (5, False, True),  # its run has ended
        (5, True, False),  # it ran: this is another failure
        (4, False, False),  # it has gone on in between
        (1, False, False),
        (9, False, False),
    ],
)
def test_attempts_count_until_the_vm_was_seen_to_run(failed_epoch: int, is_verified: bool, counts: bool) -> None:
    restart = RestartRecord(vm="web", failed_epoch=failed_epoch, attempts=3, is_verified=is_verified)
    assert attempts_made(restart, FAILED) == (3 if counts else 0)
    assert attempts_made(None, FAILED) == 0


def test_memory_that_was_loaded_and_could_not_be_run_has_taken_three_epochs() -> None:
    restart = RestartRecord(vm="web", failed_epoch=4, attempts=3)
    assert attempts_made(restart, SAVED) == 3
    assert attempts_made(restart, FAILED) == 0


def test_a_held_lock_uses_up_no_attempt_and_is_tried_again_ever_more_slowly() -> None:
    assert [due_in_s(0, 0.0, tries) for tries in range(1, 6)] == [10, 20, 40, 60, 60]
    restart = RestartRecord(vm="web", failed_epoch=5, attempts=0, why="a disk of web is locked")
    waiting = Situation(record(), FAILED, 0.0, restart, since_order_s=3.0, lock_tries=1)
    found = waits(snapshot(waiting))
    assert found.wait is Wait.LOCK
    assert "hangs rather than being dead" in found.why
    assert started(snapshot(replace(waiting, since_order_s=10.0))).attempt == 1


# failures of its own ---------------------------------------------------------------------------------------------


OWN = FAILED.model_copy(update={"is_own_failure": True})


def test_a_vm_that_died_by_itself_is_restarted_in_place() -> None:
    order = started(snapshot(Situation(record(), OWN), statuses=[host("h1", gib=6), host("h2")]))
    assert (order.host, order.reason, order.is_own_failure) == ("h1", "it ran there", True)


def test_it_goes_elsewhere_when_its_host_has_no_room_or_is_in_maintenance() -> None:
    full = host("h1", gib=1)
    assert started(snapshot(Situation(record(), OWN), statuses=[full, host("h2")])).host == "h2"
    resting = host("h1", Verdict.MAINTENANCE)
    assert started(snapshot(Situation(record(), OWN), statuses=[resting, host("h2")])).host == "h2"


def test_one_that_keeps_failing_is_left_for_somebody_to_look_at() -> None:
    statuses = [host("h1"), host("h2")]
    assert started(snapshot(Situation(record(), OWN, own_failures=2), statuses=statuses)).attempt == 1
    found = waits(snapshot(Situation(record(), OWN, own_failures=3), statuses=statuses))
    assert found.wait is Wait.ATTEMPTS
    assert "failed by itself 3 times" in found.why


def test_one_that_is_not_monitored_stays_down_unless_its_host_failed() -> None:
    vm = record(monitoring=Monitoring.OFF)
    assert waits(snapshot(Situation(vm, OWN), statuses=[host("h1"), host("h2")])).wait is Wait.STOPPED
    assert started(snapshot(Situation(vm, FAILED))).host == "h2"


# saved memory ---------------------------------------------------------------------------------------------


def test_saved_memory_nobody_takes_is_resumed_elsewhere() -> None:
    early = Situation(record(), SAVED, RESUME_AFTER_S - 1)
    assert waits(snapshot(early)).wait is Wait.TIME
    decision = only(snapshot(replace(early, lease_age_s=RESUME_AFTER_S)))
    assert isinstance(decision, GiveResumeOrder)
    assert (decision.host, decision.epoch) == ("h2", 7)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_loading_is_taken_over_only_from_a_failed_host(verdict: Verdict) -> None:
    loading = lease("resuming", "h1", memory_id="m")
    decision = only(snapshot(Situation(record(), loading), h1=verdict))
    assert isinstance(decision, GiveResumeOrder if verdict is Verdict.FAILED else WaitFor)


def test_memory_that_cannot_be_loaded_is_left_for_somebody_to_look_at() -> None:
    restart = RestartRecord(vm="web", failed_epoch=5, attempts=5)
    found = waits(snapshot(Situation(record(), SAVED, 1e6, restart)))
    assert found.wait is Wait.ATTEMPTS
    assert "zv vm resume web" in found.why


# isolated hosts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "default"), list(product(["default", *IsolationResponse], IsolationResponse)))
def test_an_isolated_hosts_vm_is_accepted_for_its_response(policy: str, default: IsolationResponse) -> None:
    vm = record(isolation_response=policy)
    settings = FailoverSettings(response=default)
    decision = only(snapshot(Situation(vm, lease()), h1=Verdict.ISOLATED, settings=settings))
    response = default if policy == "default" else IsolationResponse(policy)
    if response is IsolationResponse.LEAVE:
        assert isinstance(decision, WaitFor)
        assert decision.wait is Wait.RESPONSE
        return
    assert isinstance(decision, AcceptIsolated)
    assert (decision.host, decision.epoch, decision.response, decision.target) == ("h1", 7, response, "h2")


def test_it_runs_on_there_when_no_other_host_has_room() -> None:
    vm = record(isolation_response="poweroff")
    statuses = [host("h1", Verdict.ISOLATED), host("h2", gib=1)]
    found = waits(snapshot(Situation(vm, lease()), statuses=statuses))
    assert found.wait is Wait.ROOM
    assert "it runs on there, since no host can take it" in found.why


def test_it_is_accepted_once_for_each_epoch_of_its_lease() -> None:
    vm = record(isolation_response="suspend")
    there = Situation(vm, lease(), accepted_epoch=7)
    assert waits(snapshot(there, h1=Verdict.ISOLATED)).wait is Wait.RESPONSE
    again = only(snapshot(replace(there, accepted_epoch=6), h1=Verdict.ISOLATED))
    assert isinstance(again, AcceptIsolated)


# hosts that are cut off and have lost this datastore ----------------------------------------------------


def cut_off(verdict: Verdict, still_s: float = 16.0) -> HostStatus:
    """h1: it lives on another datastore, its beat here stands still."""
    found = host("h1", verdict)
    return found.model_copy(update={"frozen_on": ("nfs1",), "beat_ages_s": {"nfs1": still_s, "nfs2": 0.4}})


CUT_OFF = pytest.mark.parametrize("verdict", [Verdict.ISOLATED, Verdict.PARTITIONED])


@CUT_OFF
@pytest.mark.parametrize("response", IsolationResponse)
def test_a_vm_of_a_host_that_is_dead_here_and_lives_elsewhere_is_released(
    verdict: Verdict, response: IsolationResponse
) -> None:
    there = Situation(record(isolation_response=response), lease(), accepted_epoch=7)
    statuses = [cut_off(verdict), host("h2")]
    decision = only(snapshot(there, statuses=statuses, dead={"h1"}, guarded={"h1"}))
    assert isinstance(decision, ReleaseLease)
    assert (decision.host, decision.dead) == ("h1", frozenset({"h1"}))
    assert decision.why == f"h1 is {verdict}: the test calls it {verdict}"


@CUT_OFF
def test_there_too_death_must_be_proven(verdict: Verdict) -> None:
    held = Situation(record(disks=(Disk(file="d.raw", format="raw", size_bytes=1),)), lease(), is_locked=True)
    statuses = [cut_off(verdict), host("h2")]
    assert waits(snapshot(held, statuses=statuses, dead={"h1"}, guarded={"h1"})).wait is Wait.LOCK
    free = replace(held, is_locked=False)
    found = waits(snapshot(free, statuses=statuses, dead={"h1"}, proof=DeathProof(Proof.CONFIRM, "x")))
    assert found.wait is Wait.PROOF
    assert found.why.startswith(f"h1 is {verdict} and dead there, but nothing proves")
    guard = DeathProof(Proof.GUARD, "x")
    assert waits(snapshot(free, statuses=statuses, dead={"h1"}, proof=guard)).wait is Wait.PROOF
    guarded = snapshot(free, statuses=statuses, dead={"h1"}, proof=guard, guarded={"h1"})
    assert isinstance(only(guarded), ReleaseLease)


@CUT_OFF
def test_before_that_no_isolation_response_is_accepted_for_it(verdict: Verdict) -> None:
    there = Situation(record(isolation_response="poweroff"), lease())
    for situation in (there, replace(there, accepted_epoch=7)):
        found = waits(snapshot(situation, statuses=[cut_off(verdict), host("h2")]))
        assert (found.wait, found.look_again_s) == (Wait.HOLDER, 0.0)
        assert "its beat on nfs1 stands still for 16 s, so it keeps it frozen" in found.why
    found = waits(snapshot(there, statuses=[cut_off(verdict, still_s=141.0), host("h2")]))
    assert found.wait is Wait.STORAGE
    assert "mend its network or its path to the storage" in found.why


def test_of_a_migration_the_side_that_is_not_dead_here_is_asked() -> None:
    """Dead here is each side of it by itself; the one that lives is asked."""
    statuses = [cut_off(Verdict.ISOLATED), host("h2"), host("h3")]
    there = Situation(record(), lease(holder="h1", heir="h2", migration_id="m"))
    found = only(snapshot(there, statuses=statuses, dead={"h1"}, guarded={"h1"}))
    assert isinstance(found, AskHeir)
    assert found.heir == "h2"
    back = Situation(record(), lease(holder="h2", heir="h1", migration_id="m"))
    given_up = only(snapshot(back, statuses=statuses, dead={"h1"}, guarded={"h1"}))
    assert isinstance(given_up, AskToGiveUp)
    assert (given_up.host, given_up.dead_heir) == ("h2", "h1")
    assert waits(snapshot(back, statuses=statuses)).wait is Wait.HOLDER


@CUT_OFF
def test_memory_that_a_host_loaded_which_is_dead_here_is_resumed_elsewhere(verdict: Verdict) -> None:
    there = Situation(record(), lease("resuming", "h1", memory_id="m"))
    statuses = [cut_off(verdict), host("h2")]
    assert waits(snapshot(there, statuses=statuses)).wait is Wait.HOLDER
    assert isinstance(only(snapshot(there, statuses=statuses, dead={"h1"})), GiveResumeOrder)


# lost storage ---------------------------------------------------------------------------------------------


def on_lost(vm: VmRecord | None = None, silent_s: float = 141.0, **more: Any) -> Snapshot:
    there = Stranded(vm or record(), "h1", 7, silent_s, more.pop("worker", ""))
    return snapshot(h1=Verdict.STORAGE_LOST, stranded=(there,), **more)


def test_a_vm_without_storage_is_given_up_after_das_apdtimeout() -> None:
    decision = only(on_lost())
    assert isinstance(decision, AskToGiveUp)
    assert (decision.vm, decision.host, decision.epoch) == ("web", "h1", 7)


def test_one_that_is_not_even_reported_any_more_is_given_up_as_well() -> None:
    """Its QEMU is gone, and the host cannot release its lease."""

    def lost(still_s: float) -> Snapshot:
        h1 = host("h1", Verdict.STORAGE_LOST).model_copy(update={"beat_ages_s": {"nfs1": still_s}})
        return snapshot(there, statuses=[h1, host("h2")])

    there = Situation(record(), lease(), lease_age_s=1.0)
    assert waits(lost(139.0)).wait is Wait.HOLDER
    decision = only(lost(141.0))
    assert isinstance(decision, AskToGiveUp)
    assert (decision.vm, decision.host, decision.epoch, decision.dead_heir) == ("web", "h1", 7, "")
    there = replace(there, is_asked=True)
    assert waits(lost(141.0)).wait is Wait.HOLDER


WRITEBACK = record(disks=(Disk(file="disk0.raw", format="raw", size_bytes=1, cache="writeback"),))


@pytest.mark.parametrize(
    ("found", "wait", "told"),
    [
        (on_lost(silent_s=139.0), Wait.HOLDER, "after 140 s it is to give it up (das.apdtimeout)"),
        (on_lost(settings=FailoverSettings(apd_timeout_s=0)), Wait.HOLDER, "das.apdtimeout is 0"),
        (on_lost(proof=DeathProof(Proof.CONFIRM, "its locks stay")), Wait.STORAGE, "(its locks stay)"),
        (on_lost(proof=DeathProof(Proof.FENCE, "x")), Wait.STORAGE, "nothing tells when its last writes are over"),
        (on_lost(vm=WRITEBACK), Wait.STORAGE, "writes of its disk disk0.raw may be left in that host's cache"),
        (
            on_lost(statuses=[host("h1", Verdict.STORAGE_LOST), host("h2", gib=1)]),
            Wait.ROOM,
            "no host can take it: h2 lacks",
        ),
    ],
    ids=["early", "for ever", "no proof", "no fence", "cached writes", "no room"],
)
def test_it_is_kept_where_giving_it_up_would_not_help_or_not_be_safe_and_why_is_told(
    found: Snapshot, wait: Wait, told: str
) -> None:
    decision = waits(found)
    assert decision.wait is wait
    assert decision.why.startswith("h1 does not reach nfs1 for ")
    assert told in decision.why
    assert (wait in TOLD) == (wait is not Wait.HOLDER)


def test_one_that_is_being_given_up_is_left_alone() -> None:
    assert decide(on_lost(worker="h1")) == []


def test_a_host_whose_report_does_not_come_through_is_not_asked_to_settle() -> None:
    mute = host("h1").model_copy(update={"is_report_stale": True})
    held = Situation(record(), lease(), lease_age_s=SETTLE_AFTER_S)
    assert isinstance(only(snapshot(held, statuses=[host("h1"), host("h2")])), AskToSettle)
    assert isinstance(only(snapshot(held, statuses=[mute, host("h2")])), WaitFor)


def test_an_order_whose_epoch_nobody_claimed_was_no_attempt() -> None:
    restart = RestartRecord(vm="web", failed_epoch=7, attempts=3, is_ordered=True)
    assert attempts_made(restart, FAILED) == 2
    assert attempts_made(restart, lease("released", None, epoch=9, is_failure=True)) == 3


def test_memory_that_a_removed_host_was_to_load_is_resumed_elsewhere() -> None:
    found = only(snapshot(Situation(record(), lease("resuming", "h9", memory_id="m"))))
    assert isinstance(found, GiveResumeOrder)
    assert "h9, which loaded its memory, is no host of the cluster any more" in found.cause
