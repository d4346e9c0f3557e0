"""services.ha.failover and services.ha.starting: vms of failed hosts run again, each on one host."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.services.ha.failover_world import DS, World, turns
from zugvogel.core import lease_rules
from zugvogel.domain.ha import Proof, RestartRecord, StartOrder
from zugvogel.domain.host import Verdict
from zugvogel.domain.lease import Holder, LeaseState
from zugvogel.errors import DeadlineExceeded, NotFound
from zugvogel.services.inventory import Observation

Make = Callable[..., Any]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[World] = []

    async def build(hosts: int = 3, *, settings: dict[str, Any] | None = None, **more: Any) -> World:
        world = World(hosts, **more)
        await world.begin(**(settings or {}))
        made.append(world)
        return world

    yield build
    for world in made:
        await world.close()


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
    world = await make()
    await world.add("web")
    world.fail("h1")
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
    world = await make(settings={"das_enabled": False})
    await world.add("web")
    world.fail("h1")
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
    await world.pass_time(20)
    assert world.running("web") == []
    world.fail("h4")
    await world.pass_time(2)
    assert len(world.running("web")) == 1


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


async def test_a_vm_whose_both_ends_are_dead_is_restarted(make: Make) -> None:
    world = await make(4)
    await world.add("web")
    named = lease_rules.name_heir(world.lease("web"), "web", world.nodes["h1"].vms.me, "h4", "m", why="")
    world.files.leases["web"].append(named)
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
    world = await make()
    await world.add("web")
    world.fail("h1")
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
    world = await make()
    await world.add("web")
    world.fail("h1")
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
    world = await make()
    await world.add("web")
    world.fail("h1")
    for node in (world.nodes["h2"], world.nodes["h3"]):
        node.judges = lambda _datastore: True
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
    world = await make(kind="NFS v3")
    await world.add("web")
    world.fail("h1")
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
    world = await make(kind="NFS v3", fences=fences)
    await world.add("web")
    world.fail("h1")
    await world.pass_time(3)
    assert world.running("web") == ["h2"]
    assert fences.asked == ["h1"]
    assert len(await world.told("host.fenced")) == 1
    (released,) = await world.told("vm.lease-released")
    assert "chassis power is off" in released.message


@pytest.mark.parametrize("kind", ["NFS v4", "FUSE (bindfs)"])
async def test_a_dead_fence_device_holds_nothing_up_where_the_datastore_proves_it(make: Make, kind: str) -> None:
    fences = Fences(h1=DeadlineExceeded("the device does not answer"))
    world = await make(kind=kind, fences=fences)
    await world.add("web")
    world.fail("h1")
    await world.pass_time(3)
    assert world.running("web") == ["h2"]
    assert fences.asked == ["h1"]
    assert len(await world.told("host.fence-failed")) == 1


async def test_where_only_the_fence_vouches_it_is_tried_again(make: Make) -> None:
    fences = Fences(h1=DeadlineExceeded("the device does not answer"))
    world = await make(proof=Proof.FENCE, fences=fences)
    await world.add("web")
    world.fail("h1")
    await world.pass_time(50)
    assert world.running("web") == []
    fences.said["h1"] = "off"
    await world.pass_time(30)
    assert world.running("web") == ["h2"]
    assert fences.asked == ["h1", "h1"]


async def test_a_host_without_a_device_is_not_waited_for(make: Make) -> None:
    world = await make(fences=Fences())
    await world.add("web")
    world.fail("h1")
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


async def test_the_wrong_epoch_and_a_vm_in_a_move_are_not_given_up(make: Make) -> None:
    world = await make()
    await world.add("web")
    give_up = world.nodes["h1"].starting.handlers()["ha.give_up"]
    with pytest.raises(Exception, match="at epoch 1, not 7"):
        await give_up({"vm": "web", "epoch": 7})
    world.nodes["h1"].vms.guests["web"].busy = "migrating"
    with pytest.raises(Exception, match="web is migrating"):
        await give_up({"vm": "web", "epoch": 1})
    assert await give_up({"vm": "gone", "epoch": 1}) == {}
    assert world.running("web") == ["h1"]


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


async def test_a_lease_that_is_held_elsewhere_is_not_touched_by_an_order(make: Make) -> None:
    world = await make()
    await world.add("web", at=None)
    held = lease_rules.start(None, "web", Holder(host="h3", boot_id="1"), has_qemu=False, why="")
    world.files.leases["web"] = [held]
    order = StartOrder(id="x", vm="web", datastore=DS, epoch=0, judge="h2")
    await world.nodes["h2"].starting.handlers()["ha.start"]({"order": order.model_dump()})
    await world.pass_time(2)
    assert world.files.leases["web"] == [held]
