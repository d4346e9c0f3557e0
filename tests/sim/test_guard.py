"""The simulated guard: it freezes at the rounds at which the real one would, whatever becomes of its agent."""

from __future__ import annotations

import pytest

from tests.sim.small_world import going, small_world
from zugvogel.domain.guard import GuardedVm, GuardOrders
from zugvogel.sim.guard import START_S, TICK_S
from zugvogel.sim.machine import SimMachine
from zugvogel.sim.world import World

FREEZE_S = 9.0


@pytest.fixture
def world() -> World:
    world = small_world()
    world.hosts["h1"].guard.ensure_running()
    return world


def orders(world: World, machine: SimMachine, good_at: float | None, *, is_armed: bool = True) -> GuardOrders:
    vm = GuardedVm(vm=machine.vm, pid=machine.pid, start=machine.start_ticks, datastore="ds")
    return GuardOrders(
        is_armed=is_armed, freeze_after_s=FREEZE_S, good_at={} if good_at is None else {"ds": good_at}, vms=(vm,)
    )


def now(world: World) -> float:
    return world.hosts["h1"].clock.monotonic()


def test_it_freezes_when_the_last_good_beat_is_too_old(world: World) -> None:
    one, guard = going(world, "h1", "v1"), world.hosts["h1"].guard
    good_at = now(world)
    guard.tell(orders(world, one, good_at))
    world.loop.run_until(world.loop.now + FREEZE_S - 0.05)
    assert one.is_going
    world.loop.run_until(world.loop.now + 0.05 + TICK_S)
    assert one.is_frozen
    report = guard.report()
    assert report is not None
    assert report.frozen["v1"] - good_at == pytest.approx(FREEZE_S, abs=TICK_S + 1e-6)


def test_each_good_beat_puts_it_off(world: World) -> None:
    one, guard = going(world, "h1", "v1"), world.hosts["h1"].guard
    for _ in range(30):
        guard.tell(orders(world, one, now(world)))
        world.loop.run_until(world.loop.now + 1.0)
    assert one.is_going


def test_a_vm_without_a_known_beat_is_frozen_at_once(world: World) -> None:
    one, guard = going(world, "h1", "v1"), world.hosts["h1"].guard
    world.loop.run_until(1.0)
    guard.tell(orders(world, one, None))
    world.loop.run_until(world.loop.now + TICK_S)
    assert one.is_frozen


def test_it_does_nothing_when_it_is_not_armed(world: World) -> None:
    one, guard = going(world, "h1", "v1"), world.hosts["h1"].guard
    guard.tell(orders(world, one, now(world), is_armed=False))
    world.loop.run_until(world.loop.now + 60)
    assert one.is_going


def test_it_never_thaws_and_freezes_again_what_is_let_go_without_right(world: World) -> None:
    one, guard = going(world, "h1", "v1"), world.hosts["h1"].guard
    guard.tell(orders(world, one, now(world)))
    world.loop.run_until(world.loop.now + FREEZE_S + TICK_S)
    world.loop.create_task(one.thaw())
    world.loop.run_until(world.loop.now + 0.001)
    world.loop.run_until(world.loop.now + 2 * TICK_S)
    assert one.is_frozen
    guard.tell(orders(world, one, now(world)))
    world.loop.run_until(world.loop.now + 2 * TICK_S)
    report = guard.report()
    assert report is not None
    assert (report.frozen, one.is_frozen) == ({}, True)


def test_it_looks_at_once_after_its_host_has_hung(world: World) -> None:
    host = world.hosts["h1"]
    one = going(world, "h1", "v1")
    host.guard.tell(orders(world, one, now(world)))
    host.hang()
    world.loop.run_until(world.loop.now + 60)
    host.resume()
    assert one.is_going
    world.loop.run_until(world.loop.now + 0.01)
    assert one.is_frozen


def test_another_process_of_the_same_number_is_left_alone(world: World) -> None:
    one, guard = going(world, "h1", "v1"), world.hosts["h1"].guard
    told = orders(world, one, None)
    wrong = told.vms[0].model_copy(update={"start": one.start_ticks + 1})
    guard.tell(told.model_copy(update={"vms": (wrong,)}))
    world.loop.run_until(world.loop.now + 60)
    assert one.is_going


def test_it_ticks_ten_times_a_second_as_its_report_tells(world: World) -> None:
    guard = world.hosts["h1"].guard
    assert guard.report() is None
    world.loop.run_until(START_S + 5.0)
    report = guard.report()
    assert report is not None
    assert 0 <= now(world) - report.ticked_at <= TICK_S


def test_one_that_was_killed_ticks_no_more_until_it_is_started(world: World) -> None:
    guard = world.hosts["h1"].guard
    world.loop.run_until(5.0)
    guard.end()
    world.loop.run_until(10.0)
    report = guard.report()
    assert report is not None
    assert now(world) - report.ticked_at > 4.9
    guard.ensure_running()
    world.loop.run_until(11.0)
    report = guard.report()
    assert report is not None
    assert now(world) - report.ticked_at <= TICK_S


def test_a_vm_that_ended_while_it_was_kept_stopped_is_told_no_more(world: World) -> None:
    one, guard = going(world, "h1", "v1"), world.hosts["h1"].guard
    guard.tell(orders(world, one, now(world)))
    world.loop.run_until(world.loop.now + FREEZE_S + 60)
    report = guard.report()
    assert report is not None
    assert list(report.frozen) == ["v1"]
    one.die("killed by signal 9")
    world.loop.run_until(world.loop.now + 0.02 + TICK_S)
    report = guard.report()
    assert report is not None
    assert report.frozen == {}


def test_vms_of_another_datastore_are_frozen_in_their_turn(world: World) -> None:
    one, other = going(world, "h1", "v1"), going(world, "h1", "v2")
    guard = world.hosts["h1"].guard
    told, at = orders(world, one, now(world)), now(world)
    later = GuardedVm(vm="v2", pid=other.pid, start=other.start_ticks, datastore="ds2")
    guard.tell(told.model_copy(update={"good_at": {"ds": at, "ds2": at + 5.0}, "vms": (*told.vms, later)}))
    world.loop.run_until(world.loop.now + FREEZE_S + TICK_S)
    assert (one.is_frozen, other.is_frozen) == (True, False)
    world.loop.run_until(world.loop.now + 5.0)
    assert (one.is_frozen, other.is_frozen) == (True, True)
