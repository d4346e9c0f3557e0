"""services.ha.failover and services.ha.starting: vms of failed hosts run again, each on one host."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.services.ha.conftest import Make, web_lost
from tests.services.ha.failover_world import DS, World, turns
from zugvogel.core import lease_rules
from zugvogel.core.death_proof import proof_of
from zugvogel.core.failover_facts import Fencing
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.ha import Proof, RestartRecord, StartOrder
from zugvogel.domain.host import Verdict
from zugvogel.domain.lease import Holder, LeaseState
from zugvogel.domain.migration import TargetPhase
from zugvogel.domain.vm import VmState
from zugvogel.errors import DeadlineExceeded, NotFound, Refused, ZugvogelError
from zugvogel.ports.hypervisor import MachineSpec
from zugvogel.services.inventory import Observation
from zugvogel.services.local_vms import MIGRATING
from zugvogel.services.migration.incoming_session import Session

# a host dies ------------------------------------------------------------------------------


async def test_the_vms_of_a_failed_host_run_elsewhere(make: Make) -> None:
    world = await make()
    await world.add("web")
    await world.add("db", at="h3")
    world.fail("h1")
    await world.pass_time(2)
    assert world.running("web") == ["h2"]
    assert world.running("db") == ["h3"]
    states = [lease.state for lease in world.files.leases["web"]]
    assert states == [LeaseState.RUNNING, LeaseState.RELEASED, LeaseState.RUNNING]
    assert [e.subject for e in await world.told("host.failed")] == ["h1"]
    assert [e.subject for e in await world.told("vm.lease-released")] == ["web"]
    (restarted,) = await world.told("vm.restarted")
    assert "what it had not saved is lost" in restarted.message
    assert restarted.evidence["host"] == "h2"
    assert world.files.orders["start"] == {}
    assert world.files.orders["start-answer"] == {}


async def test_it_takes_one_round_from_verdict_to_running(make: Make) -> None:
    world = await web_lost(make)
    await world.pass_time(1)
    assert world.running("web") == ["h2"]


async def test_nothing_is_read_while_nothing_is_missing(make: Make) -> None:
    world = await make()
    await world.add("web")
    await world.pass_time(2)
    judge = world.nodes["h2"]
    rounds, reads = judge.rounds, list[str]()
    judge.view.leases.read = reads.append
    await world.pass_time(10)
    assert judge.rounds == rounds + 10
    assert reads == []


async def test_without_high_availability_nothing_is_started_but_hosts_are_told(make: Make) -> None:
    world = await web_lost(make, settings={"das_enabled": False})
    await world.pass_time(5)
    assert world.running("web") == []
    assert world.nodes["h2"].rounds == 5
    assert len(await world.told("host.failed")) == 1


async def test_orders_are_found_on_the_datastore_when_no_call_gets_through(make: Make) -> None:
    world = await make()
    await world.add("web")
    world.is_network_down = True
    world.fail("h1")
    await world.pass_time(3)
    assert len(world.running("web")) == 1


async def test_only_the_judge_acts(make: Make) -> None:
    world = await make()
    await world.add("web")
    world.judge = "h9"
    world.nodes["h9"] = world.nodes["h2"]
    world.fail("h1")
    for _ in range(5):
        await world.nodes["h2"].failover.tick()
        await world.nodes["h3"].failover.tick()
        await turns()
    assert world.lease("web").state is LeaseState.RUNNING


async def test_a_vm_the_registry_never_heard_of_is_known_from_its_hosts_last_report(make: Make) -> None:
    world = await make()
    await world.add("web", at=None)
    await world.nodes["h1"].vms.start("web")
    world.fail("h1")
    await world.pass_time(3)
    assert world.running("web") == ["h2"]


# what users did ------------------------------------------------------------------------------


async def test_a_vm_stopped_by_a_user_is_not_restarted_though_the_registry_does_not_know(make: Make) -> None:
    world = await make()
    await world.add("web")
    await world.nodes["h1"].vms.kill("web")
    await turns()
    world.fail("h1")
    await world.pass_time(30)
    assert world.running("web") == []
    assert await world.told("vm.restart-waits") == []


async def test_a_vm_with_priority_disabled_stays_down(make: Make) -> None:
    world = await make()
    await world.add("web", restart_priority="disabled")
    world.fail("h1")
    await world.pass_time(30)
    assert world.running("web") == []
    assert world.lease("web").state is LeaseState.RUNNING


async def test_a_vm_suspended_by_a_user_is_not_resumed(make: Make) -> None:
    world = await make()
    await suspended(world, is_to_resume=False)
    await world.pass_time(60)
    assert world.running("web") == []


async def suspended(world: World, *, is_to_resume: bool = True) -> None:
    """h1 has saved web, and is gone."""
    await world.add("web")
    held, me = world.lease("web"), world.nodes["h1"].vms.me
    claim = lease_rules.suspend(held, "web", me, "m1", is_to_resume=is_to_resume, why="quick migration to h9")
    world.files.leases["web"].append(claim)
    world.fail("h1")


async def test_saved_memory_that_was_to_go_on_is_resumed(make: Make) -> None:
    world = await make()
    await suspended(world)
    await world.pass_time(14)
    assert world.running("web") == []
    await world.pass_time(4)
    assert world.running("web") == ["h2"]
    states = [lease.state for lease in world.files.leases["web"]]
    assert states[1:] == [LeaseState.SUSPENDED, LeaseState.RESUMING, LeaseState.RUNNING]
    assert await world.told("vm.restarted") == []
    assert len(await world.told("vm.resumed")) == 1


async def test_loading_on_a_host_that_fails_is_taken_over(make: Make) -> None:
    world = await make(4)
    await suspended(world)
    claim = lease_rules.begin_resume(world.lease("web"), "web", world.nodes["h4"].vms.me, why="")
    world.files.leases["web"].append(claim)
    with world.nodes["h4"].vms.being_started("web"):
        await world.pass_time(20)
    assert world.running("web") == []
    world.fail("h4")
    await world.pass_time(2)
    assert len(world.running("web")) == 1


async def test_a_disk_that_stays_locked_costs_neither_the_memory_nor_an_attempt(make: Make) -> None:
    world = await make()
    await suspended(world)
    world.locks.add("web")
    await world.pass_time(60)
    others = [node for node in world.nodes.values() if node.name != "h1"]
    (waiting,) = [vm for node in others for vm in node.vms.reports()]
    assert (waiting.state, "locked" in waiting.why) == (VmState.FROZEN, True)
    await world.pass_time(90)
    lease = world.lease("web")
    assert (lease.state, lease.memory_id, lease.is_to_resume) == (LeaseState.SUSPENDED, "m1", True)
    assert [m.is_alive for node in others for m in node.machines] == [False]
    assert world.files.discarded == set()
    note = RestartRecord.model_validate_json(world.files.notes["web", "restart.json"])
    assert (note.attempts, note.is_verified) == (0, False)
    (told,) = await world.told("vm.resume-failed")
    assert "stays locked" in told.message
    world.locks.clear()
    await world.pass_time(70)
    assert len(world.running("web")) == 1
    assert world.lease("web").migration_id == "m1"
    assert world.files.discarded == {"web"}


async def test_memory_that_is_gone_when_the_disk_stays_locked_is_a_failure(make: Make) -> None:
    world = await make()
    await suspended(world)
    world.locks.add("web")
    world.files.discarded.add("web")
    await world.pass_time(142)
    released = [lease for lease in world.files.leases["web"] if lease.state is LeaseState.RELEASED]
    assert [lease.is_failure for lease in released] == [True]


async def test_memory_that_does_not_load_stays_saved_and_is_tried_again(make: Make) -> None:
    world = await make(settings={"das_maxvmrestartcount": 2})
    await suspended(world)
    for node in world.nodes.values():
        node.load_failure = "the memory cannot be read"
    await world.pass_time(20)
    assert world.lease("web").state is LeaseState.SUSPENDED
    assert world.lease("web").is_to_resume
    await world.pass_time(600)
    assert len(await world.told("vm.restart-ordered")) == 2
    last = (await world.told("vm.restart-failed"))[-1]
    assert "zv vm resume web" in last.message
    assert world.lease("web").state is LeaseState.SUSPENDED


# migrations ------------------------------------------------------------------------------


def name_heir(world: World) -> None:
    """web is on its way from h1 to h4."""
    named = lease_rules.name_heir(world.lease("web"), "web", world.nodes["h1"].vms.me, "h4", "m", why="")
    world.files.leases["web"].append(named)
    guest = world.nodes["h1"].vms.guests["web"]
    guest.epoch, guest.busy = named.epoch, MIGRATING


async def take_in(world: World, phase: TargetPhase) -> Session:
    """h4 has web's memory."""
    node, made = world.nodes["h4"], world.files.definitions["web"]
    machine = await node.spawn(MachineSpec(made, Path("/srv"), (), tags={"role": "incoming"}))
    session = Session("m", "web", made, DS, "h1", phase, heard_at=0.0, machine=cast(Any, machine), is_loaded=True)
    node.incoming.sessions["m"] = session
    return session


async def test_a_vm_whose_source_died_before_the_word_is_restarted(make: Make) -> None:
    world = await make(4)
    await world.add("web")
    name_heir(world)
    session = await take_in(world, TargetPhase.PREPARED)
    world.fail("h1")
    await world.pass_time(3)
    assert session.machine is not None
    assert (session.phase, session.machine.is_alive) == (TargetPhase.GONE, False)
    assert [state.state for state in world.files.leases["web"][2:]] == [LeaseState.RELEASED, LeaseState.RUNNING]
    assert len(world.running("web")) == 1
    await world.nodes["h4"].incoming.take_word(session)  # as a file that comes late
    await world.pass_time(3)
    assert session.phase is TargetPhase.GONE


async def test_a_vm_of_which_its_heir_has_nothing_is_restarted(make: Make) -> None:
    world = await make(4)
    await world.add("web")
    name_heir(world)
    world.fail("h1")
    await world.pass_time(3)
    assert len(world.running("web")) == 1


async def test_an_heir_that_still_has_something_of_the_vm_is_waited_for(make: Make) -> None:
    world = await make(4)
    await world.add("web")
    name_heir(world)
    world.fail("h1")
    world.nodes["h4"].vms.expect(["web"])  # a QEMU that did not answer when its agent started
    await world.pass_time(30)
    assert (world.running("web"), world.lease("web").epoch) == ([], 2)


async def test_a_source_that_shows_itself_while_the_heir_is_asked_keeps_its_vm(make: Make) -> None:
    world = await make(4)
    await world.add("web")
    name_heir(world)
    world.judge_failed("h1")
    heir = world.nodes["h4"].incoming

    async def and_it_is_back(payload: dict[str, Any]) -> dict[str, Any]:
        del world.verdicts["h1"]
        return {"migration_id": "m", "phase": "gone", "is_loaded": False}

    heir.handlers = lambda: {"migration.abort": and_it_is_back}
    await world.pass_time(5)
    assert (world.lease("web").epoch, world.running("web")) == (2, ["h1"])


async def test_a_vm_whose_target_died_with_it_is_restarted(make: Make) -> None:
    world = await make(4)
    await world.add("web")
    name_heir(world)
    world.machine("web").runs = False  # postmigrate
    world.fail("h4")
    await world.pass_time(20)
    assert world.lease("web").epoch == 2  # the source settles it as long as it has not handed over
    world.nodes["h1"].vms.guests["web"].awaits_heir = True
    await world.pass_time(5)
    (machine,) = (m for m in world.nodes["h1"].machines if m.vm == "web")
    assert not machine.is_alive
    assert world.running("web") in (["h2"], ["h3"])


async def test_a_host_gives_up_only_what_it_handed_over_to_the_dead_heir(make: Make) -> None:
    world = await make(4)
    await world.add("web")
    name_heir(world)
    give_up = world.nodes["h1"].starting.handlers()["ha.give_up"]
    with pytest.raises(Refused, match="not been handed over to h4"):
        await give_up({"vm": "web", "epoch": 2, "dead_heir": "h4"})
    assert world.running("web") == ["h1"]


async def test_a_vm_whose_both_ends_are_dead_is_restarted(make: Make) -> None:
    world = await make(4)
    await world.add("web")
    name_heir(world)
    await take_in(world, TargetPhase.RUNNING)
    world.fail("h1")
    await world.pass_time(10)
    assert world.lease("web").state is LeaseState.RUNNING
    assert world.running("web") == []
    world.fail("h4")
    await world.pass_time(2)
    assert len(world.running("web")) == 1


# the judge dies in the middle ------------------------------------------------------------------------------


STEPS = 20


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(1, STEPS + 1))
async def test_another_judge_goes_on_wherever_the_first_was_cut(make: Make, number: int, when: str) -> None:
    world = await make(4)
    await world.add("web")
    await world.add("db")
    world.nodes["h2"].cut_at = (number, when)
    world.fail("h1")
    await world.pass_time(400)
    assert len(world.running("web")) == 1, world.nodes["h2"].steps
    assert len(world.running("db")) == 1, world.nodes["h2"].steps
    assert world.nodes["h2"].is_dead is (len(world.nodes["h2"].steps) >= number)
    assert world.files.orders["start"] == {}


async def test_the_cuts_above_cover_a_failover(make: Make) -> None:
    world = await make(4)
    await world.add("web")
    await world.add("db")
    world.fail("h1")
    await world.pass_time(5)
    steps = world.nodes["h2"].steps
    assert len(steps) <= STEPS
    assert steps.index("write note") < steps.index("give start")
    for part in ("claim 2 released", "write note", "give start", "call ha.start", "answer", "take back"):
        assert part in steps


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 4))
async def test_the_vm_runs_wherever_its_target_was_cut(make: Make, number: int, when: str) -> None:
    world = await make(4)
    world.nodes["h4"].gib = 64
    await world.add("web")
    world.nodes["h4"].cut_at = (number, when)
    world.fail("h1")
    await world.pass_time(400)
    assert len(world.running("web")) == 1, world.nodes["h4"].steps
    assert world.running("web") != ["h4"] or not world.nodes["h4"].is_dead


async def test_the_number_of_attempts_outlives_the_judge(make: Make) -> None:
    world = await make(5, settings={"das_maxvmrestartcount": 3})
    await world.add("web")
    for node in world.nodes.values():
        node.start_failure = "QEMU says no"
    world.fail("h1")
    await world.pass_time(130)
    assert len(await world.told("vm.restart-ordered")) == 2
    world.fail("h2")
    world.judge = "h3"
    await world.pass_time(2000)
    assert len(await world.told("vm.restart-ordered")) == 3
    note = RestartRecord.model_validate_json(world.files.notes["web", "restart.json"])
    assert (note.attempts, note.is_verified) == (3, False)
    last = (await world.told("vm.restart-failed"))[-1]
    assert "zv vm start web" in last.message


async def test_a_new_judge_tells_of_what_just_happened_and_not_of_old_failures(make: Make) -> None:
    world = await make(4)
    world.fail("h1")
    await world.pass_time(2)
    world.fail("h2")
    world.judge = "h3"
    await world.pass_time(2)
    told = await world.told("host.failed")
    assert {e.subject for e in told if e.host == "h3"} == {"h1", "h2"}  # both were heard 16 s ago
    world.verdicts["h1"] = Verdict.LIVE
    await world.pass_time(1)
    assert [e.subject for e in await world.told("host.returned")] == ["h1"]


# orders twice, late, refused ------------------------------------------------------------------------------


async def test_an_order_that_comes_twice_or_late_starts_nothing_more(make: Make) -> None:
    world = await web_lost(make)
    await world.pass_time(1)
    assert world.running("web") == ["h2"]
    order = StartOrder(id="late", vm="web", datastore=DS, epoch=2, judge="h2")
    for host in ("h2", "h3"):
        for id in ("late", "late", "later"):
            payload = {"order": order.model_copy(update={"id": id}).model_dump()}
            await world.nodes[host].starting.handlers()["ha.start"](payload)
            await turns()
    await world.pass_time(5)
    assert world.running("web") == ["h2"]
    assert world.lease("web").epoch == 3


async def test_an_order_that_comes_after_a_user_stopped_the_vm_starts_nothing(make: Make) -> None:
    world = await web_lost(make)
    await world.pass_time(1)
    await world.nodes["h2"].vms.kill("web")
    for epoch in (2, 3):
        order = StartOrder(id=f"late{epoch}", vm="web", datastore=DS, epoch=epoch, judge="h2")
        await world.nodes["h3"].starting.handlers()["ha.start"]({"order": order.model_dump()})
    await world.pass_time(20)
    assert world.running("web") == []
    assert world.lease("web").epoch == 4


async def test_a_judge_that_comes_back_orders_nothing_that_counts(make: Make) -> None:
    """Two judges at once, for a moment: the one epoch decides."""
    world = await web_lost(make)
    for node in (world.nodes["h2"], world.nodes["h3"]):
        node.judges = lambda _datastore: True  # type: ignore[method-assign]
        node.failover._role = node
    for _ in range(3):
        await world.nodes["h2"].failover.tick()
        await world.nodes["h3"].failover.tick()
        await turns()
    await world.pass_time(100)
    assert len(world.running("web")) == 1


async def test_what_was_judged_is_looked_at_again_before_a_lease_is_released(make: Make) -> None:
    world = await make()
    await world.add("web")
    judge = world.nodes["h2"]
    world.judge_failed("h1")
    read = judge.view.leases.read

    async def slowly(vm: str) -> Any:
        found = await read(vm)
        world.verdicts["h1"] = Verdict.LIVE  # it was only slow
        return found

    judge.view.leases.read = slowly
    await world.pass_time(3)
    assert world.lease("web").epoch == 1
    assert world.running("web") == ["h1"]


async def test_a_lease_is_released_only_by_beats_that_were_read_after_it(make: Make) -> None:
    world = await make()
    await world.add("web")
    world.power_off("h1")
    await world.pass_time(1)
    world.beats_read_at = world.clock.now
    await world.pass_time(3)
    assert world.lease("web").epoch == 1
    world.beats_read_at = world.clock.now  # the next reading, which shows nothing new
    await world.pass_time(2)
    assert world.running("web") == ["h2"]


async def test_a_host_that_beat_and_thawed_before_its_lease_was_read_keeps_its_vm(make: Make) -> None:
    """The judge's last reading of the beats is older than that: by it the host is still dead."""
    world = await make()
    await world.add("web")
    guest, me = world.nodes["h1"].vms.guests["web"], world.nodes["h1"].vms.me
    world.judge_failed("h1")
    world.beats_read_at = world.clock.now
    thawed = lease_rules.go_on(world.lease("web"), "web", me, why="thawed")
    world.files.leases["web"].append(thawed)
    guest.epoch = thawed.epoch
    await world.pass_time(2)
    assert world.lease("web") == thawed
    world.verdicts.clear()  # the next reading shows its beat
    world.silent.clear()
    world.beats_read_at = None
    await world.pass_time(3)
    assert world.lease("web") == thawed
    assert world.running("web") == ["h1"]
    assert await world.told("vm.lease-released") == []


async def test_a_lease_that_stays_the_same_need_not_be_older_than_each_reading(make: Make) -> None:
    world = await web_lost(make, proof=Proof.CONFIRM)
    await world.pass_time(10)
    lease = world.lease("web")
    judged = world.nodes["h2"].failover._judged[DS]
    assert judged.seen_since("web", lease) <= world.clock.now - 8
    assert judged.seen_since("web", lease.model_copy(update={"epoch": 2})) == float("inf")


@pytest.mark.parametrize("kind", ["CIFS", "NFS v4"])
async def test_a_host_that_promised_no_guard_waits_for_a_word(make: Make, kind: str) -> None:
    world = await make(kind=kind)
    await world.add("web")  # without a disk: no lock tells of it either
    world.unguarded.add("h1")
    world.fail("h1")
    await world.pass_time(60)
    assert world.running("web") == []
    assert world.lease("web").epoch == 1
    (waits,) = await world.told("vm.restart-waits")
    assert "its last beat there did not say that a guard would freeze its vms" in waits.message
    assert "zv host confirm-dead h1" in waits.message
    (shown,) = world.nodes["h2"].failover.waiting()
    assert "zv host confirm-dead h1" in shown


async def test_where_a_guard_was_not_promised_a_fence_is_tried_again(make: Make) -> None:
    fences = Fences(h1=ZugvogelError("no power meter"))
    world = await make(kind="CIFS", fences=fences)
    await world.add("web")
    world.unguarded.add("h1")
    world.fail("h1")
    await world.pass_time(70)
    assert fences.asked == ["h1", "h1"]
    assert world.running("web") == []


async def test_a_start_during_which_the_agent_stood_still_is_undone(make: Make) -> None:
    world = await make()
    await world.add("web")
    asked: list[tuple[str, float]] = []
    began = world.clock.now

    def may_run(datastore: str, since: float) -> bool:
        asked.append((datastore, since))
        return False

    world.nodes["h2"].vms.may_run = may_run
    world.fail("h1")
    await world.pass_time(3)
    (machine,) = world.nodes["h2"].machines
    assert (machine.is_alive, machine.runs) == (False, False)
    assert world.lease("web").is_failure
    assert asked[0][0] == DS
    assert began < asked[0][1] <= world.clock.now
    world.nodes["h2"].vms.may_run = lambda _datastore, _since: True
    await world.pass_time(130)
    assert len(world.running("web")) == 1


async def test_memory_loaded_by_an_agent_that_stood_still_waits_and_runs_by_the_next_epoch(make: Make) -> None:
    world = await make()
    await suspended(world)
    vms = world.nodes["h2"].vms
    works_since = [1e9]
    vms.may_run = lambda _datastore, since: works_since[0] <= since
    await world.pass_time(25)
    (machine,) = world.nodes["h2"].machines
    assert (machine.is_alive, machine.runs) == (True, False)
    held = world.lease("web")
    assert (held.state, held.holder) == (LeaseState.RUNNING, vms.me)
    works_since[0] = world.clock.now
    await world.pass_time(2)
    assert world.running("web") == ["h2"]
    assert (world.lease("web").epoch, vms.guests["web"].epoch) == (held.epoch + 1, held.epoch + 1)


async def test_memory_loaded_by_an_agent_that_stood_still_does_not_run_where_it_was_taken_over(make: Make) -> None:
    world = await make()
    await suspended(world)
    vms = world.nodes["h2"].vms
    works_since = [1e9]
    vms.may_run = lambda _datastore, since: works_since[0] <= since
    await world.pass_time(25)
    (machine,) = world.nodes["h2"].machines
    gone = lease_rules.release_confirmed_dead(world.lease("web"), "web", "h2", {"h2"}, why="")
    assert gone is not None
    world.files.leases["web"].append(gone)
    works_since[0] = world.clock.now
    await world.pass_time(2)
    assert (machine.is_alive, machine.runs) == (False, False)


async def test_a_host_that_refuses_before_it_claims_uses_up_no_attempt(make: Make) -> None:
    world = await make()
    await world.add("web")
    world.nodes["h2"].vms.expect(["web"])  # its agent has just started
    world.fail("h1")
    await world.pass_time(20)
    assert world.running("web") == ["h3"]
    note = RestartRecord.model_validate_json(world.files.notes["web", "restart.json"])
    assert (note.attempts, note.is_verified) == (1, True)


async def test_a_start_that_fails_is_tried_again_after_two_minutes(make: Make) -> None:
    world = await make()
    await world.add("web")
    world.nodes["h2"].start_failure = "QEMU says no"
    world.fail("h1")
    await world.pass_time(60)
    assert world.running("web") == []
    assert world.lease("web").is_failure
    (failed,) = await world.told("vm.restart-failed")
    assert "attempt 1 to start web failed: h2: QEMU says no" in failed.message
    world.nodes["h2"].start_failure = ""
    await world.pass_time(64)
    assert len(world.running("web")) == 1


async def test_a_target_that_does_not_answer_is_passed_over(make: Make) -> None:
    world = await make()
    await world.add("web")
    world.nodes["h2"].is_ordered = False
    world.is_network_down = True
    world.fail("h1")
    await world.pass_time(50)
    assert world.running("web") == []
    await world.pass_time(200)
    assert world.running("web") == ["h3"]


# order and room ------------------------------------------------------------------------------


async def test_vms_come_by_priority_and_the_limit_of_a_host_is_kept(make: Make) -> None:
    world = await make(2, settings={"das_perhostconcurrentfailoverslimit": 1})
    for name, priority in (("a", "low"), ("b", "medium"), ("c", "high"), ("d", "high")):
        await world.add(name, restart_priority=priority)
    world.fail("h1")
    await world.pass_time(10)
    assert [e.subject for e in await world.told("vm.restart-ordered")] == ["c", "d", "b", "a"]
    assert all(world.running(name) == ["h2"] for name in "abcd")


async def test_what_does_not_fit_waits_and_is_told_once(make: Make) -> None:
    world = await make(2)
    await world.add("big", gib=12)
    await world.add("other", at="h2", gib=8)
    world.fail("h1")
    await world.pass_time(20)
    (waits,) = await world.told("vm.restart-waits")
    assert "h2 lacks" in waits.message
    assert "big" in world.nodes["h2"].failover.waiting()[0]
    await world.nodes["h2"].vms.kill("other")
    world.nodes["h2"].inventory.observe(
        Observation(vm="other", observed="stopped", host="h2", epoch=9, wanted="stopped")
    )
    await world.pass_time(3)
    assert world.running("big") == ["h2"]
    assert world.nodes["h2"].failover.waiting() == ()


# a held lock ------------------------------------------------------------------------------


async def test_a_held_image_lock_is_waited_for_without_using_up_attempts(make: Make) -> None:
    world = await make()
    await world.add("web")
    world.locks.add("web")
    world.fail("h1")
    await world.pass_time(200)
    assert world.running("web") == []
    (waits,) = await world.told("vm.restart-waits")
    assert "hangs rather than being dead" in waits.message
    note = RestartRecord.model_validate_json(world.files.notes["web", "restart.json"])
    assert note.attempts == 0
    world.locks.clear()
    await world.pass_time(70)
    assert len(world.running("web")) == 1


# proof of death ------------------------------------------------------------------------------


class Fences:
    """A device for each host in `said`, which says that; an error it raises."""

    def __init__(self, **said: str | Exception) -> None:
        self.said, self.asked = said, list[str]()

    async def power_off(self, host: Any) -> str:
        self.asked.append(host.name)
        said = self.said.get(host.name)
        if said is None:
            raise NotFound("no device")
        if isinstance(said, Exception):
            raise said
        return said


async def test_on_nfs_v3_somebody_must_vouch(make: Make) -> None:
    world = await web_lost(make, kind="NFS v3")
    await world.pass_time(30)
    assert world.running("web") == []
    (waits,) = await world.told("vm.restart-waits")
    assert "zv host confirm-dead h1" in waits.message
    freed = lease_rules.release_confirmed_dead(
        world.lease("web"), "web", "h1", frozenset({"h1"}), why="vouched for"
    )
    assert freed is not None
    world.files.leases["web"].append(freed)
    await world.pass_time(5)
    assert world.running("web") == ["h2"]


async def test_a_power_fence_vouches_too(make: Make) -> None:
    fences = Fences(h1="chassis power is off")
    world = await web_lost(make, kind="NFS v3", fences=fences)
    await world.pass_time(3)
    assert world.running("web") == ["h2"]
    assert fences.asked == ["h1"]
    assert len(await world.told("host.fenced")) == 1
    (released,) = await world.told("vm.lease-released")
    assert "chassis power is off" in released.message


async def test_a_fence_of_an_earlier_failure_vouches_for_none_that_came_while_others_judged(make: Make) -> None:
    """Between the two h1 may have come back; nobody told this host, which judged nothing."""
    world = await web_lost(make, kind="NFS v3", fences=Fences(h1="chassis power is off"))
    await world.pass_time(3)
    steps = world.nodes["h2"].failover._steps
    proof, statuses = (
        proof_of(Datastore(name="x", path="/x", id="x", kind="NFS v3", is_shared=True)),
        world.statuses(),
    )
    assert steps.fences(proof, statuses, set())["h1"].fencing is Fencing.DONE
    world.judge = "h3"
    await world.pass_time(2)
    world.judge = "h2"
    await world.pass_time(1)
    assert steps.fences(proof, statuses, set())["h1"].fencing is Fencing.UNTRIED


@pytest.mark.parametrize("kind", ["NFS v4", "FUSE (bindfs)"])
async def test_a_dead_fence_device_holds_nothing_up_where_the_datastore_proves_it(make: Make, kind: str) -> None:
    fences = Fences(h1=DeadlineExceeded("the device does not answer"))
    world = await web_lost(make, kind=kind, fences=fences)
    await world.pass_time(3)
    assert world.running("web") == ["h2"]
    assert fences.asked == ["h1"]
    assert len(await world.told("host.fence-failed")) == 1


async def test_where_only_the_fence_vouches_it_is_tried_again(make: Make) -> None:
    fences = Fences(h1=DeadlineExceeded("the device does not answer"))
    world = await web_lost(make, proof=Proof.FENCE, fences=fences)
    await world.pass_time(50)
    assert world.running("web") == []
    fences.said["h1"] = "off"
    await world.pass_time(30)
    assert world.running("web") == ["h2"]
    assert fences.asked == ["h1", "h1"]


class SlowFences(Fences):
    """The device of h1 is at work until it `answers`."""

    def __init__(self) -> None:
        super().__init__(h1="off")
        self.answers = asyncio.Event()
        self.called_off = 0

    async def power_off(self, host: Any) -> str:
        self.asked.append(host.name)
        try:
            await self.answers.wait()
        except asyncio.CancelledError:
            self.called_off += 1
            raise
        return "off, at last"


async def test_a_slow_board_gets_the_time_it_needs_where_its_word_is_needed(make: Make) -> None:
    fences = SlowFences()
    world = await web_lost(make, proof=Proof.CONFIRM, fences=fences)
    await world.pass_time(58)
    assert (world.running("web"), fences.asked) == ([], ["h1"])
    fences.answers.set()
    await world.pass_time(3)
    assert (world.running("web"), fences.asked) == (["h2"], ["h1"])


async def test_a_slow_board_holds_a_restart_up_for_20_s_where_the_datastore_is_proof(make: Make) -> None:
    fences = SlowFences()
    world = await web_lost(make, fences=fences)
    await world.pass_time(19)
    assert world.running("web") == []
    await world.pass_time(5)
    assert (world.running("web"), fences.called_off) == (["h2"], 0)


async def test_a_host_that_shows_itself_again_keeps_its_power(make: Make) -> None:
    fences = SlowFences()
    world = await make(proof=Proof.FENCE, fences=fences)
    await world.add("web")
    world.judge_failed("h1")
    await world.pass_time(5)
    world.verdicts.clear()
    world.silent.clear()
    await world.pass_time(2)
    assert (world.running("web"), fences.called_off) == (["h1"], 1)
    assert await world.told("host.fenced") == []


async def test_fencing_waits_for_no_turn_of_a_datastore_that_hangs(make: Make) -> None:
    fences = Fences(h1="off")
    world = await make(fences=fences)
    await world.add("web")
    await world.pass_time(1)
    turns_taken = world.nodes["h2"].failover._judged[DS].turns = asyncio.Semaphore(0)
    world.fail("h1")
    await world.pass_time(3)
    assert (fences.asked, world.running("web")) == (["h1"], [])
    for _ in range(64):
        turns_taken.release()
    await world.pass_time(3)
    assert world.running("web") == ["h2"]


@pytest.mark.parametrize("meanwhile", ["alive", "beats", "no judge", "switched off"])
async def test_a_host_is_fenced_only_while_what_was_judged_still_holds(make: Make, meanwhile: str) -> None:
    """The judge stood still, or waited for its turn, between deciding and telling the device."""
    fences = Fences(h1="off")
    world = await make(proof=Proof.FENCE, fences=fences)
    await world.add("web")
    judge = world.nodes["h2"]
    turn = judge.failover._steps._fences._turn["h1"]
    await turn.acquire()
    world.judge_failed("h1")
    await world.pass_time(2)
    assert world.lease("web").state is LeaseState.RUNNING
    if meanwhile == "alive":
        world.verdicts["h1"] = Verdict.LIVE
    elif meanwhile == "beats":
        world.silent.discard("h1")
    elif meanwhile == "no judge":
        world.judge = "h3"
    else:
        await judge.inventory.set_setting("das.enabled", False)
    turn.release()
    await turns()
    assert fences.asked == []
    assert await world.told("host.fence-failed") == []


async def test_a_fence_that_was_dropped_is_decided_anew(make: Make) -> None:
    fences = Fences(h1="off")
    world = await make(proof=Proof.FENCE, fences=fences)
    await world.add("web")
    judge = world.nodes["h2"]
    turn = judge.failover._steps._fences._turn["h1"]
    await turn.acquire()
    world.fail("h1")
    await world.pass_time(2)
    world.silent.discard("h1")
    turn.release()
    await turns()
    assert fences.asked == []
    world.silent.add("h1")
    await world.pass_time(3)
    assert fences.asked == ["h1"]
    assert world.running("web") == ["h2"]


# high availability is turned off -------------------------------------------------------------


async def switch(world: World, is_on: bool) -> None:
    for node in world.nodes.values():
        await node.inventory.set_setting("das.enabled", is_on)


async def test_orders_are_taken_back_when_high_availability_is_turned_off(make: Make) -> None:
    world = await make()
    await world.add("web")
    for node in world.nodes.values():
        node.is_ordered = False
    world.is_network_down = True
    world.fail("h1")
    await world.pass_time(2)
    assert len(world.files.orders["start"]) == 1
    await switch(world, False)
    await world.pass_time(2)
    assert world.files.orders["start"] == {}
    assert world.nodes["h2"].failover.waiting() == ()
    await switch(world, True)
    world.is_network_down = False
    for node in world.nodes.values():
        node.is_ordered = True
    await world.pass_time(130)  # the next attempt
    assert len(world.running("web")) == 1


async def test_a_new_judge_takes_back_what_another_left_though_high_availability_is_off(make: Make) -> None:
    world = await make()
    await world.add("web", isolation_response="poweroff")
    world.verdicts["h1"] = Verdict.ISOLATED
    await world.pass_time(3)
    assert len(world.files.orders["isolation"]) == 1
    world.judge = "h3"
    await switch(world, False)
    await world.pass_time(2)
    assert world.files.orders["isolation"] == {}


async def test_an_order_that_is_being_given_is_taken_back_after_it_was_written(make: Make) -> None:
    world = await make()
    await world.add("web", isolation_response="poweroff")
    judge = world.nodes["h2"]
    orders, may_go = judge.view.isolation_orders, asyncio.Event()
    give = orders.give

    async def slow(host: str, vm: str, order: bytes) -> None:
        await may_go.wait()
        await give(host, vm, order)

    orders.give = slow
    world.verdicts["h1"] = Verdict.ISOLATED
    await world.pass_time(2)
    await switch(world, False)
    await world.pass_time(2)
    may_go.set()
    await turns()
    await world.pass_time(2)
    assert world.files.orders["isolation"] == {}


async def test_nothing_is_released_once_high_availability_is_off(make: Make) -> None:
    world = await make()
    await world.add("web")
    world.beats_read_at = world.clock.now
    world.fail("h1")
    await world.pass_time(2)
    await switch(world, False)
    world.beats_read_at = None
    await world.pass_time(5)
    assert world.lease("web").state is LeaseState.RUNNING


# fences ---------------------------------------------------------------------------------------


async def test_a_host_without_a_device_is_not_waited_for(make: Make) -> None:
    world = await web_lost(make, fences=Fences())
    await world.pass_time(2)
    assert world.running("web") == ["h2"]


async def test_a_host_is_not_fenced_for_nothing(make: Make) -> None:
    fences = Fences(h1="off")
    world = await make(fences=fences)
    world.fail("h1")
    await world.pass_time(5)
    assert fences.asked == []


# failures of its own ------------------------------------------------------------------------------


async def test_a_vm_whose_qemu_dies_is_restarted_in_place_within_its_limit(make: Make) -> None:
    world = await make(settings={"das_vmmonitoring_maxfailures": 2, "das_vmmonitoring_window": 600})
    world.nodes["h3"].gib = 64
    await world.add("web")
    for _ in range(2):
        world.machine("web").end()
        await world.pass_time(10)
        assert world.running("web") == ["h1"]
    world.machine("web").end()
    await world.pass_time(100)
    assert world.running("web") == []
    assert "failed by itself 2 times" in (await world.told("vm.restart-failed"))[-1].message
    await world.pass_time(600)
    assert world.running("web") == ["h1"]


async def crash(world: World, times: int) -> None:
    for _ in range(times):
        world.machine("web").end()
        await world.pass_time(10)


async def test_failures_of_long_ago_are_none_for_the_next_judge(make: Make) -> None:
    world = await make(4, settings={"das_vmmonitoring_maxfailures": 3, "das_vmmonitoring_window": 3600})
    await world.add("web")
    await crash(world, 3)
    await world.pass_time(3600)
    world.judge = "h3"
    await world.pass_time(2)
    await crash(world, 1)
    assert world.running("web") == ["h1"]


async def test_failures_of_a_moment_ago_count_for_the_next_judge_too(make: Make) -> None:
    world = await make(4, settings={"das_vmmonitoring_maxfailures": 3, "das_vmmonitoring_window": 600})
    await world.add("web")
    await crash(world, 2)
    world.judge = "h3"
    await crash(world, 1)
    world.judge = "h2"
    await crash(world, 1)
    assert world.running("web") == []
    assert "failed by itself 3 times" in (await world.told("vm.restart-failed"))[-1].message
    await world.pass_time(600)
    assert world.running("web") == ["h1"]


async def test_a_note_that_does_not_say_when_its_failures_were_counts_none(make: Make) -> None:
    world = await make()
    await world.add("web")
    await crash(world, 1)
    note = json.loads(world.files.notes["web", "restart.json"])
    del note["own_failed_at"]
    world.files.notes["web", "restart.json"] = json.dumps(note | {"own_failures": 3, "attempts": 1}).encode()
    world.judge = "h3"
    await crash(world, 1)
    assert world.running("web") == ["h1"]


# cut off, and without this datastore ------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", [Verdict.ISOLATED, Verdict.PARTITIONED])
async def test_what_a_host_froze_that_lives_elsewhere_is_restarted_and_its_power_is_kept(
    make: Make, verdict: Verdict
) -> None:
    fences = Fences(h1="off")
    world = await make(fences=fences, settings={"das_isolationresponse": "poweroff"})
    await world.add("web")
    world.verdicts["h1"] = verdict
    world.cut_off = {"h1"}
    world.machine("web").is_frozen = True
    await world.pass_time(3)
    assert len(await world.told("vm.lease-released")) == 0  # no reading of its beats shows that it is silent
    world.silent = {"h1"}
    await world.pass_time(5)
    assert world.running("web")[-1] == "h2"
    assert (fences.asked, world.files.orders.get("isolation", {})) == ([], {})
    (released,) = await world.told("vm.lease-released")
    assert f"h1 is {verdict}" in released.message
    assert released.evidence["why"] == (
        "h1 is cut off and has lost nfs1; what it had not written to its disks is lost"
    )


async def test_a_host_that_beats_again_before_its_lease_is_released_keeps_its_vm(make: Make) -> None:
    world = await make()
    await world.add("web")
    world.verdicts["h1"] = Verdict.ISOLATED
    world.cut_off = world.silent = {"h1"}
    world.beats_read_at = 0.0  # the release waits for a reading after the lease
    await world.pass_time(3)
    world.cut_off = set()
    world.beats_read_at = None
    await world.pass_time(5)
    assert world.running("web") == ["h1"]
    assert world.lease("web").epoch == 1


# lost storage ------------------------------------------------------------------------------


async def test_a_host_that_lost_its_storage_gives_its_vm_up_after_das_apdtimeout(make: Make) -> None:
    world = await make()
    await world.add("web")
    world.verdicts["h1"] = Verdict.STORAGE_LOST
    world.beat_ages_s["h1"] = 139.0
    await world.pass_time(5)
    assert world.running("web") == ["h1"]
    world.beat_ages_s["h1"] = 141.0
    await world.pass_time(4)
    assert world.running("web") in (["h2"], ["h3"])
    assert [e.subject for e in await world.told("vm.restarted")] == ["web"]


async def test_a_host_that_does_not_answer_keeps_its_vm(make: Make) -> None:
    world = await make()
    await world.add("web")
    world.verdicts["h1"] = Verdict.STORAGE_LOST
    world.beat_ages_s["h1"] = 141.0
    world.is_network_down = True
    await world.pass_time(30)
    assert world.running("web") == ["h1"]
    assert world.lease("web").epoch == 1


async def test_a_vm_that_is_not_given_up_is_told_of_once_and_shown_while_it_is_so(make: Make) -> None:
    world = await make()
    await world.add("web")
    world.verdicts["h1"] = Verdict.STORAGE_LOST
    world.beat_ages_s["h1"] = 141.0
    world.is_network_down = True
    await world.pass_time(35)
    (failed,) = await world.told("vm.give-up-failed")
    assert (failed.subject, failed.evidence["host"]) == ("web", "h1")
    assert "did not give web up: h1 does not answer" in failed.message
    judge = world.nodes["h2"].failover
    assert judge.waiting() == (f"web: {judge.why_waiting('web')}",)
    assert "h1 does not answer" in judge.why_waiting("web")
    del world.verdicts["h1"]
    await world.pass_time(2)
    assert (judge.waiting(), judge.why_waiting("web")) == ((), "")


async def test_why_a_vm_is_never_given_up_is_told_once_and_shown(make: Make) -> None:
    world = await make(kind="NFS v3")
    await world.add("web")
    world.verdicts["h1"] = Verdict.STORAGE_LOST
    world.beat_ages_s["h1"] = 100.0
    judge = world.nodes["h2"].failover
    await world.pass_time(5)
    assert (judge.waiting(), await world.told("vm.restart-waits")) == ((), [])
    assert "after 140 s it is to give it up" in judge.why_waiting("web")
    world.beat_ages_s["h1"] = 141.0
    await world.pass_time(60)
    (told,) = await world.told("vm.restart-waits")
    assert "it is not asked to give it up, since nothing tells when its last writes are over" in told.message
    assert judge.waiting() == (f"web: {judge.why_waiting('web')}",)
    world.verdicts.clear()
    await world.pass_time(2)
    assert (judge.waiting(), judge.why_waiting("web"), world.running("web")) == ((), "", ["h1"])


async def test_a_host_whose_beats_work_again_gives_nothing_up(make: Make) -> None:
    world = await make()
    await world.add("web")
    give_up = world.nodes["h1"].starting.handlers()["ha.give_up"]
    with pytest.raises(Refused, match="the beats of h1 on nfs1 work again, so web stays there"):
        await give_up({"vm": "web", "epoch": 1})
    assert (world.running("web"), world.nodes["h1"].vms.guests["web"].failure_why) == (["h1"], "")


async def test_a_host_gives_up_what_runs_there_by_an_epoch_it_does_not_know_it_linked(make: Make) -> None:
    world = await make()
    await world.add("web")
    world.beat_ages_s["h1"] = 150.0
    await world.nodes["h1"].starting.handlers()["ha.give_up"]({"vm": "web", "epoch": 2})
    assert world.running("web") == []


async def test_a_vm_that_ended_on_a_host_without_storage_is_given_up_too(make: Make) -> None:
    """Its lease cannot be released there, and nobody reports it."""
    world = await make()
    await world.add("web")
    node = world.nodes["h1"]

    async def hangs(_what: Any) -> Any:
        raise DeadlineExceeded("it does not answer")

    node.view.leases.claim = node.view.leases.read = hangs
    world.machine("web").end()
    world.verdicts["h1"] = Verdict.STORAGE_LOST
    world.beat_ages_s["h1"] = 139.0
    await world.pass_time(5)
    assert (world.lease("web").epoch, node.vms.is_in_care("web")) == (1, True)
    world.beat_ages_s["h1"] = 141.0
    await world.pass_time(15)
    assert world.running("web") in (["h2"], ["h3"])


@pytest.mark.parametrize(
    ("payload", "beat_age_s", "why_not"),
    [
        ({"epoch": 1}, 150.0, ""),
        ({"epoch": 2}, 150.0, ""),  # this host may have linked it and not know
        ({"epoch": 0}, 150.0, "was started here later than epoch 0"),
        ({"epoch": 1}, None, "work again, so web stays there"),
        ({"epoch": 1, "dead_heir": "h2"}, 150.0, "still looks at what it has of web"),
    ],
)
async def test_what_an_agent_that_was_started_again_cannot_look_at_is_given_up_too(
    make: Make, payload: dict[str, Any], beat_age_s: float | None, why_not: str
) -> None:
    """The lease of a QEMU that outlived the agent before is never read while the datastore does not answer."""
    world = await make()
    await world.add("web")
    node, machine = world.nodes["h1"], world.machine("web")
    machine.tags["epoch"] = 1
    node.vms.guests.pop("web").is_handed_over = True
    node.vms.expect(["web"])
    node.vms.run_unclaimed(machine, "nfs1")
    if beat_age_s is not None:
        world.beat_ages_s["h1"] = beat_age_s
    asked = asyncio.create_task(node.starting.handlers()["ha.give_up"]({"vm": "web", **payload}))
    await world.pass_time(12)
    assert asked.done()
    assert why_not in str(asked.exception() or "")
    assert machine.is_alive is bool(why_not)


async def test_an_epoch_that_a_host_linked_without_knowing_keeps_no_vm_there(make: Make) -> None:
    """Its storage carried the claim out and could not say so any more."""
    world = await make()
    await world.add("web")
    world.files.leases["web"].append(world.lease("web").model_copy(update={"epoch": 2}))
    world.verdicts["h1"] = Verdict.STORAGE_LOST
    world.beat_ages_s["h1"] = 141.0
    await world.pass_time(15)
    assert world.running("web") in (["h2"], ["h3"])


async def test_what_is_being_started_is_not_given_up(make: Make) -> None:
    world = await make()
    await world.add("web", at=None)
    with world.nodes["h1"].vms.being_started("web"), pytest.raises(Refused, match="still has something"):
        await world.nodes["h1"].starting.handlers()["ha.give_up"]({"vm": "web", "epoch": 1})


async def test_the_wrong_epoch_is_not_given_up(make: Make) -> None:
    world = await make()
    await world.add("web")
    give_up = world.nodes["h1"].starting.handlers()["ha.give_up"]
    with pytest.raises(Exception, match="at epoch 1, not 0"):
        await give_up({"vm": "web", "epoch": 0})
    assert await give_up({"vm": "gone", "epoch": 1}) == {}
    assert world.running("web") == ["h1"]


async def test_a_vm_whose_move_does_not_end_without_the_datastore_is_given_up(make: Make) -> None:
    world = await make()
    await world.add("web")
    give_up = world.nodes["h1"].starting.handlers()["ha.give_up"]
    world.nodes["h1"].vms.guests["web"].busy = MIGRATING
    with pytest.raises(Refused, match="work again, so web stays there"):
        await give_up({"vm": "web", "epoch": 1})
    world.beat_ages_s["h1"] = 150.0
    assert await give_up({"vm": "web", "epoch": 1}) == {}
    assert world.running("web") == []


# other things ------------------------------------------------------------------------------


async def test_a_datastore_that_does_not_answer_finishes_no_round(make: Make) -> None:
    world = await make()
    await world.add("web")
    await world.pass_time(2)
    judge = world.nodes["h2"]

    async def hangs(_vm: str) -> Any:
        raise DeadlineExceeded("datastore nfs1 does not answer")

    judge.view.leases.read = hangs
    world.fail("h1")
    rounds = judge.rounds
    await world.pass_time(5)
    assert judge.rounds == rounds


# leases without a QEMU ----------------------------------------------------------------------


async def test_a_claim_that_came_late_is_settled_and_the_vm_started_elsewhere(make: Make) -> None:
    """h2's start gave up waiting for its claim, which a hung datastore linked all the same later."""
    world = await web_lost(make)
    await world.pass_time(1)
    (machine,) = world.nodes["h2"].machines
    guest = world.nodes["h2"].vms.guests.pop("web")
    guest.is_handed_over = True
    machine.end()
    assert world.lease("web").holder == world.nodes["h2"].vms.me
    await world.pass_time(8)
    assert world.running("web") == []
    await world.pass_time(130)
    assert len(world.running("web")) == 1
    (settled,) = await world.told("vm.lease-settled")
    assert (settled.subject, settled.evidence["host"], settled.evidence["judged_epoch"]) == ("web", "h2", 3)
    (failed,) = await world.told("vm.failed")
    assert failed.evidence == {"epoch": 4, "asked_by": "h2", "judged_epoch": 3}
    assert world.files.leases["web"][3].is_failure


async def test_a_load_that_came_late_is_given_back_with_its_memory(make: Make) -> None:
    world = await make()
    await world.add("web")
    me = world.nodes["h1"].vms.me
    saved = lease_rules.suspend(world.lease("web"), "web", me, "m", is_to_resume=True, why="quick migration")
    world.files.leases["web"].append(saved)
    world.files.leases["web"].append(lease_rules.begin_resume(saved, "web", world.nodes["h3"].vms.me, why="late"))
    world.nodes["h1"].vms.guests.pop("web").is_handed_over = True
    world.nodes["h1"].machines[0].end()
    await world.pass_time(14)
    assert [lease.state for lease in world.files.leases["web"][3:]] == [LeaseState.SUSPENDED]
    await world.pass_time(20)
    assert len(world.running("web")) == 1
    assert world.lease("web").migration_id == "m"


async def test_a_host_that_is_at_work_on_it_settles_nothing(make: Make) -> None:
    world = await web_lost(make)
    await world.pass_time(1)
    node = world.nodes["h2"]
    del node.vms.guests["web"]
    with node.vms.being_started("web"):
        await world.pass_time(60)
        assert world.lease("web").epoch == 3
    node.vms.unclaimed["web"] = (cast(Any, node.machines[0]), DS)
    await world.pass_time(60)
    assert world.lease("web").epoch == 3
    assert await world.told("vm.lease-settled") == []


async def test_while_it_is_settled_nothing_else_begins_with_it(make: Make) -> None:
    world = await make()
    await world.add("web")
    node = world.nodes["h1"]
    await node.machines[0].kill()
    await turns()
    held = lease_rules.start(world.lease("web"), "web", node.vms.me, has_qemu=False, why="a claim came late")
    world.files.leases["web"].append(held)
    read, may_go = node.view.leases.read, asyncio.Event()

    async def slow(vm: str) -> Any:
        found = await read(vm)
        await may_go.wait()
        return found

    node.view.leases.read = slow
    settle = node.adoption.handlers()["ha.settle"]
    settling = asyncio.ensure_future(settle({"vm": "web", "epoch": held.epoch, "judge": "h2"}))
    await turns()
    with pytest.raises(Refused), node.vms.being_started("web"):
        pass
    may_go.set()
    assert await settling == {"epoch": held.epoch + 1}
    assert world.lease("web").state is LeaseState.RELEASED
    with node.vms.being_started("web"):  # and is free again
        pass


async def test_a_lease_that_has_gone_on_since_it_was_judged_is_not_settled(make: Make) -> None:
    world = await make()
    await world.add("web")
    settle = world.nodes["h2"].adoption.handlers()["ha.settle"]
    assert await settle({"vm": "web", "epoch": 7, "judge": "h3"}) == {"epoch": 1}
    assert await settle({"vm": "web", "epoch": 1, "judge": "h3"}) == {"epoch": 1}  # held by another
    assert world.running("web") == ["h1"]


async def test_a_lease_that_is_held_elsewhere_is_not_touched_by_an_order(make: Make) -> None:
    world = await make()
    await world.add("web", at=None)
    held = lease_rules.start(None, "web", Holder(host="h3", boot_id="1"), has_qemu=False, why="")
    world.files.leases["web"] = [held]
    order = StartOrder(id="x", vm="web", datastore=DS, epoch=0, judge="h2")
    await world.nodes["h2"].starting.handlers()["ha.start"]({"order": order.model_dump()})
    await world.pass_time(2)
    assert world.files.leases["web"] == [held]


async def test_a_datastore_that_hangs_holds_up_no_orders_of_another(make: Make) -> None:
    world = await make()
    node, hung = world.nodes["h2"], asyncio.Event()
    looked: list[str] = []

    async def hangs(_host: str) -> dict[str, bytes]:
        looked.append("hung")
        await hung.wait()
        return {}

    async def answers(_host: str) -> dict[str, bytes]:
        looked.append("healthy")
        return {}

    stores: list[Any] = [
        SimpleNamespace(datastore=SimpleNamespace(name=name), start_orders=SimpleNamespace(given=given))
        for name, given in (("hung", hangs), ("healthy", answers))
    ]
    node.starting._stores = lambda: stores
    for _ in range(3):
        async with asyncio.timeout(5):
            await node.starting.tick()
        await turns()
    assert (looked.count("hung"), looked.count("healthy")) == (1, 3)
    await node.starting.stop()
