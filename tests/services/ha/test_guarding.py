"""zugvogel.services.ha.guarding"""

from __future__ import annotations

from typing import cast

from tests.services.ha.held_world import FakeMachine, HeldHost, settle
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
    host.heard_at = 1001.5
    await host.seconds(1)
    assert host.orders.good_at == {"ds": host.clock.now}
    assert host.orders.freeze_after_s == 9.0
    assert host.orders.heard_at == 1001.5
    host.admit("old", pid=9)
    assert [v.pid for v in host.orders.vms] == [9]
    host.close()


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
    host.beats._watches["ds"].task = None
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
    assert [o.is_armed for o in host.guard.orders] == [False]
    assert host.guard.starts == 0
    assert host.guarding.may_beat()
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
    assert host.guarding.may_beat()
    host.clock.now += 0.01
    assert not host.guarding.may_beat()


async def test_nobody_to_hear_is_no_silence() -> None:
    host = HeldHost()
    await host.load(hosts=1)
    await host.seconds(1)
    assert host.orders.heard_at == host.clock.now
    host = HeldHost()
    await host.load()
    await host.seconds(1)
    assert host.orders.heard_at is None
