"""zugvogel.services.ha.guarding"""

from __future__ import annotations

from typing import cast

from tests.services.ha.held_world import FakeMachine, HeldHost, settle
from zugvogel.domain.datastore import Beat
from zugvogel.domain.guard import GuardedVm, GuardOrders
from zugvogel.ports.hypervisor import Machine

EARLIER = GuardOrders(
    is_armed=True,
    freeze_after_s=1.8,
    good_at={"ds": 990.0, "gone": 900.0},
    heard_at=991.0,
    vms=(
        GuardedVm(vm="old", pid=7, start=70, datastore="ds"),
        GuardedVm(vm="over", pid=8, start=80, datastore="ds"),
    ),
)


async def test_a_good_beat_is_told_at_once_with_when_it_began() -> None:
    host = HeldHost()
    await host.load()
    await host.beats.tick()
    began = host.clock.now
    await settle()  # no tick of its own is needed
    assert host.orders.good_at == {"ds": began}
    await host.seconds(1)
    host.mounts["ds"].fault = "hang"
    await host.seconds(3)
    assert host.orders.good_at == {"ds": began + 1}
    assert host.orders.is_armed
    assert host.orders.freeze_after_s == 9.0


async def test_a_vm_is_told_before_it_may_run() -> None:
    host = HeldHost()
    await host.load()
    _, machine = host.admit("web", pid=5)
    assert host.orders.vms == (GuardedVm(vm="web", pid=5, start=50, datastore="ds"),)
    heir = FakeMachine("heir", host.leases["ds"], pid=6)
    host.vms.run_unclaimed(cast(Machine, heir), "ds")
    assert [v.vm for v in host.orders.vms] == ["heir", "web"]
    await heir.kill()
    await machine.kill()
    await host.seconds(2)
    assert len(host.orders.vms) == 0
    host.close()


async def test_a_new_agent_goes_on_from_what_the_earlier_one_told() -> None:
    host = HeldHost(before=EARLIER)
    host.vms.expect(["old"])
    await host.guarding.tick()  # the registry is not read yet
    assert host.orders.is_armed
    assert host.orders.freeze_after_s == 1.8
    assert host.orders.good_at == EARLIER.good_at
    assert host.orders.heard_at == 991.0
    assert [v.vm for v in host.orders.vms] == ["old"]


async def test_what_the_new_agent_knows_itself_replaces_it_piece_by_piece() -> None:
    host = HeldHost(before=EARLIER)
    await host.load()
    host.vms.expect(["old"])
    host.mounts["ds"].fault = "hang"
    await host.seconds(1)
    assert host.orders.good_at == {"ds": 990.0}  # no vm lies on the one that is gone
    assert host.orders.freeze_after_s == 1.8  # the beat that stands there may tell of it
    host.mounts["ds"].fault = ""
    host.beats._watches.clear()
    host.beats._followed.clear()
    host.heard_at = 1001.5
    await host.seconds(1)
    assert host.orders.good_at == {"ds": host.clock.now}
    assert host.orders.freeze_after_s == 9.0
    assert host.orders.heard_at == 1001.5
    host.admit("old", pid=9)
    assert [v.pid for v in host.orders.vms] == [9]
    await host.close()


async def test_a_beat_of_now_is_never_replaced_by_an_older_one() -> None:
    host = HeldHost(before=EARLIER.model_copy(update={"good_at": {"ds": 1000.5}}))
    await host.load()
    host.clock.now = 1000.0
    await host.beats.tick()
    await host.guarding.tick()
    assert host.orders.good_at == {"ds": 1000.5}


async def test_a_longer_detection_time_counts_only_when_the_beats_tell_it() -> None:
    host = HeldHost()
    await host.load()
    await host.set("das.failuredetectiontime", 3000)
    await host.seconds(1)
    assert host.orders.freeze_after_s == 1.8
    host.mounts["ds"].fault = "hang"
    await host.seconds(1)
    await host.set("das.failuredetectiontime", 15000)
    await host.seconds(1)
    assert host.orders.freeze_after_s == 1.8
    host.mounts["ds"].fault = ""
    host.beats._watches["ds"].rounds.cut_off()
    await settle()
    await host.seconds(1)
    assert host.orders.freeze_after_s == 9.0


async def test_a_beat_that_may_still_arrive_counts_with_its_detection_time() -> None:
    host = HeldHost()
    await host.load()
    await host.seconds(1)
    host.mounts["ds"].fault = "error"
    await host.set("das.failuredetectiontime", 3000)
    await host.seconds(1)
    await host.set("das.failuredetectiontime", 15000)
    await host.seconds(1)
    assert host.orders.freeze_after_s == 1.8


async def test_without_high_availability_the_guard_is_told_once_to_let_be() -> None:
    host = HeldHost(before=EARLIER)
    await host.load(is_enabled=False)
    await host.seconds(3)
    assert [o.is_armed for o in host.guard.orders] == [True, True, False]  # at first the earlier beat still stands
    assert host.guard.starts == 0
    assert host.guarding.may_write()[0]
    await host.set("das.enabled", True)
    await host.seconds(1)
    assert host.orders.is_armed


async def test_no_guard_tick_no_beat() -> None:
    host = HeldHost()
    await host.load()
    await host.seconds(1)
    host.guard.is_running = False
    written = dict(host.mounts["ds"].files)
    await host.seconds(2)
    assert host.mounts["ds"].files == written
    assert host.guarding.may_write() == (False, "the guard of this host does not tick, so no beat is written")
    assert host.beats.usable("ds") == host.guarding.may_write()
    assert host.guard.starts == 2
    host.guard.is_running = True
    await host.seconds(1)
    assert host.mounts["ds"].files != written
    assert host.beats.usable("ds") == (True, "")


async def test_a_guard_whose_last_round_is_old_does_not_tick() -> None:
    host = HeldHost()
    await host.load()
    report = host.guard.report()
    assert report is not None
    host.guard.report = lambda: report  # type: ignore[method-assign]
    host.clock.now += 1.0
    assert host.guarding.may_write()[0]
    host.clock.now += 0.01
    assert not host.guarding.may_write()[0]


async def test_nobody_to_hear_is_no_silence() -> None:
    host = HeldHost()
    await host.load(hosts=1)
    await host.seconds(1)
    assert host.orders.heard_at == host.clock.now
    host = HeldHost()
    await host.load()
    await host.seconds(1)
    assert host.orders.heard_at is None


# what a beat promises --------------------------------------------------------------------------------------


def promises(host: HeldHost, datastore: str = "ds") -> bool:
    return host.mounts[datastore].files["h1"].is_guarded


async def test_a_beat_promises_a_guard_once_that_has_had_a_round_since_it_was_armed() -> None:
    host = HeldHost()
    await host.load(is_enabled=False)
    await host.seconds(2)
    assert not promises(host)
    await host.set("das.enabled", True)
    await host.seconds(1)
    assert not promises(host)
    report = host.guard.report()
    host.guard.report = lambda: report  # type: ignore[method-assign]
    await host.seconds(1)
    assert not promises(host)  # it has not looked since
    del host.guard.report
    await host.seconds(2)
    assert promises(host)
    host.guard.is_running = False
    assert not host.guarding.may_promise()
    host.guard.is_running = True
    await host.set("das.enabled", False)
    await host.seconds(2)
    assert not promises(host)


async def test_a_beat_promises_no_guard_for_what_an_earlier_agent_left_and_nobody_told() -> None:
    host = HeldHost()
    await host.load()
    host.vms._expected = None
    await host.seconds(3)
    assert not promises(host)  # it has not looked for QEMUs yet
    host.vms.expect(["left"])
    await host.seconds(1)
    assert not promises(host)
    host.vms.run_unclaimed(cast(Machine, FakeMachine("left", host.leases["ds"])), "ds")
    await host.seconds(1)
    assert promises(host)


async def test_what_the_earlier_agent_told_of_is_promised_at_once() -> None:
    host = HeldHost(before=EARLIER)
    await host.load()
    host.vms.expect(["old", "over"])
    await host.seconds(3)
    assert promises(host)


async def test_a_promise_that_stands_is_kept_though_high_availability_was_turned_off() -> None:
    """It may be on again before this host hears so."""
    host = HeldHost(datastores=("ds", "hung"))
    await host.load()
    host.admit("web")
    host.admit("db", "hung", pid=101)
    await host.seconds(3)
    assert promises(host)
    assert promises(host, "hung")
    host.mounts["hung"].fault = "hang"
    await host.seconds(1)
    await host.set("das.enabled", False)
    await host.seconds(3)
    assert host.orders.is_armed
    assert [vm.vm for vm in host.orders.vms] == ["db"]
    host.guard.is_running = False
    assert host.guarding.may_write()[0]
    host.mounts["hung"].fault = ""
    host.beats._watches["hung"].rounds.cut_off()
    await settle()
    await host.seconds(1)
    assert not promises(host, "hung")
    assert not host.orders.is_armed
    host.close()


async def test_the_guard_knows_of_a_promise_before_the_beat_that_makes_it_is_written() -> None:
    """The agent may be killed right after the write."""
    host = HeldHost()
    await host.load(is_enabled=False)
    await host.seconds(2)
    mount, known = host.mounts["ds"], list[tuple[int, bool, float, bool]]()
    real = mount.write

    async def write(beat: Beat) -> None:
        orders = host.guard.told()
        assert orders is not None
        known.append((beat.detection_time_ms, beat.is_guarded, orders.freeze_after_s, orders.is_armed))
        await real(beat)

    mount.write = write  # type: ignore[method-assign]
    await host.set("das.enabled", True)
    await host.seconds(3)
    await host.set("das.failuredetectiontime", 3000)
    host.clock.now += 1.0
    await host.beats.tick()  # before any tick of the guarding itself
    await settle()
    assert (15000, True, 9.0, True) in known
    assert known[-1] == (3000, True, 1.8, True)


async def test_a_promise_stands_while_a_write_that_was_given_up_may_still_land() -> None:
    host = HeldHost()
    await host.load()
    await host.seconds(3)
    mount = host.mounts["ds"]
    await host.set("das.failuredetectiontime", 3000)
    mount.fault = "error"  # given up: it may land whenever the storage answers
    mount.late.append(Beat(host="h1", boot_id="boot-h1", counter=1, is_guarded=True, detection_time_ms=3000))
    await host.seconds(1)
    mount.fault = ""
    await host.set("das.failuredetectiontime", 15000)
    await host.set("das.enabled", False)
    await host.seconds(5)
    assert not promises(host)
    assert host.beats.guards_promised() == {"ds"}
    assert (host.orders.is_armed, host.orders.freeze_after_s) == (True, 1.8)
    mount.late.clear()  # it came back
    await host.seconds(2)
    assert host.beats.guards_promised() == set()
    assert not host.orders.is_armed
    await host.set("das.enabled", True)
    await host.seconds(3)
    assert host.orders.freeze_after_s == 9.0


# who may be let go -----------------------------------------------------------------------------------------


async def test_a_vm_may_run_while_no_beat_came_too_late_since_its_claim() -> None:
    host = HeldHost()
    await host.load()
    assert not host.guarding.may_run("ds", host.clock.now)
    await host.seconds(2)
    claimed_at = host.clock.now
    assert host.guarding.may_run("ds", claimed_at)
    assert not host.guarding.may_run("ds", claimed_at - 10)
    assert not host.guarding.may_run("other", claimed_at)
    host.clock.now += 8.9
    assert host.guarding.may_run("ds", claimed_at)
    host.clock.now += 0.1
    assert not host.guarding.may_run("ds", claimed_at)  # the agent stood still
    await host.seconds(1)
    assert not host.guarding.may_run("ds", claimed_at)  # and beats again, but who knows what was in between
    assert host.guarding.may_run("ds", host.clock.now)
    await host.set("das.enabled", False)
    await host.seconds(2)
    assert host.guarding.may_run("ds", claimed_at)
