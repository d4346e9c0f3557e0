"""Simulated QEMUs: states, events, moves, saved memory, locks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim.small_world import begin, does, going, machine, small_world
from zugvogel.errors import ProcedureFailed, Unreachable
from zugvogel.ports.hypervisor import MachineStatus
from zugvogel.sim.machine import SimMachine
from zugvogel.sim.memory import SimMemory
from zugvogel.sim.storage import Fault
from zugvogel.sim.world import World


@pytest.fixture
def world() -> World:
    return small_world()


def events(world: World, of: SimMachine) -> list[str]:
    """Filled as they come."""
    seen: list[str] = []

    async def follow() -> None:
        async for event in of.events():
            seen.append(event.name)  # noqa: PERF401 - filled while it goes on

    begin(world, follow())
    return seen


def test_it_runs_stops_and_ends(world: World) -> None:
    one = machine(world, "h1", "v1")
    assert one.state is MachineStatus.PRELAUNCH
    seen = events(world, one)
    does(world, one.cont())
    assert one.is_going
    does(world, one.stop())
    assert not one.is_going
    does(world, one.quit())
    world.loop.run_until(world.loop.now + 1)
    assert (one.is_alive, seen) == (False, ["RESUME", "STOP", "EXITED"])
    with pytest.raises(Unreachable):
        does(world, one.status())


def test_a_guest_powers_itself_off_when_asked(world: World) -> None:
    one = going(world, "h1", "v1")
    seen = events(world, one)
    does(world, one.powerdown())
    world.loop.run_until(world.loop.now + 5)
    assert seen == ["SHUTDOWN", "EXITED"]


def test_a_frozen_one_does_not_run_and_does_not_answer_but_can_be_killed(world: World) -> None:
    one = going(world, "h1", "v1")
    one.freeze()
    assert one.is_frozen
    assert not one.is_going
    with pytest.raises(Unreachable):
        does(world, one.status())
    does(world, one.thaw())
    assert one.is_going
    one.freeze()
    does(world, one.kill())
    assert not one.is_alive


def test_nothing_of_a_host_that_hangs_runs(world: World) -> None:
    one, host = going(world, "h1", "v1"), world.hosts["h1"]
    host.hang()
    assert not one.is_going
    host.resume()
    assert one.is_going
    one.freeze()
    host.hang()
    host.resume()
    assert not one.is_going


def test_storage_errors_stop_it_and_it_goes_on_when_told(world: World) -> None:
    one = going(world, "h1", "v1")
    seen = events(world, one)
    world.hosts["h1"].set_storage(Fault.CUT, ["ds"])
    world.loop.run_until(world.loop.now + 5)
    assert one.state is MachineStatus.IO_ERROR
    world.hosts["h1"].set_storage(Fault.NONE, ["ds"])
    does(world, one.cont())
    assert (one.is_going, seen) == (True, ["STOP", "RESUME"])


def test_the_image_lock_stays_with_a_hung_host_and_goes_with_a_dead_one(world: World) -> None:
    going(world, "h1", "v1")
    other = machine(world, "h2", "v1")
    world.hosts["h1"].hang()
    with pytest.raises(ProcedureFailed, match="Failed to get"):
        does(world, other.cont())
    world.hosts["h1"].power_off()
    world.loop.run_until(world.loop.now + 1)
    does(world, other.cont())
    assert other.is_going


def test_after_its_lock_was_dropped_it_stops_again_until_its_images_are_opened_anew(world: World) -> None:
    one = going(world, "h1", "v1")
    for _ in range(2):  # a second outage brings the files that are open back no more than the first
        world.hosts["h1"].set_storage(Fault.CUT, ["ds"])
        world.loop.run_until(world.loop.now + 120)
        world.hosts["h1"].set_storage(Fault.NONE, ["ds"])
        does(world, one.cont())
        world.loop.run_until(world.loop.now + 1)
        assert one.state is MachineStatus.IO_ERROR
    assert does(world, one.reopen_images(keeps_answered_writes=True))
    does(world, one.cont())
    world.loop.run_until(world.loop.now + 10)
    assert one.is_going


def test_its_images_are_not_opened_anew_while_another_process_has_their_lock(world: World) -> None:
    one = going(world, "h1", "v1")
    world.hosts["h1"].set_storage(Fault.CUT, ["ds"])
    world.loop.run_until(world.loop.now + 120)
    world.hosts["h1"].set_storage(Fault.NONE, ["ds"])
    other = going(world, "h2", "v1")
    with pytest.raises(ProcedureFailed, match="Failed to get"):
        does(world, one.reopen_images(keeps_answered_writes=True))
    does(world, other.kill())
    does(world, one.reopen_images(keeps_answered_writes=True))
    does(world, one.cont())
    assert one.is_going


def test_a_killed_process_may_hang_in_the_kernel_with_its_storage(world: World) -> None:
    world.files["ds"].holds_killed = True
    one = going(world, "h1", "v1")
    world.hosts["h1"].set_storage(Fault.HANG, ["ds"])
    killing = begin(world, one.kill())
    world.loop.run_until(world.loop.now + 60)
    assert (one.is_going, one.is_alive, killing.done()) == (False, True, False)
    world.hosts["h1"].set_storage(Fault.NONE, ["ds"])
    world.loop.run_until(world.loop.now + 1)
    assert (one.is_alive, killing.done()) == (False, True)


# moves -----------------------------------------------------------------------------------------------


def moving(world: World) -> tuple[SimMachine, SimMachine]:
    source, target = going(world, "h1", "v1"), machine(world, "h2", "v1", incoming=True)
    does(world, target.listen(world.hosts["h2"].address, 7450))
    does(world, source.migrate_to(world.hosts["h2"].address, 7450))
    return source, target


def test_a_live_migration_hands_the_memory_over(world: World) -> None:
    source, target = moving(world)
    seen = events(world, source)
    world.loop.run_until(world.loop.now + 5)
    assert source.state is MachineStatus.POSTMIGRATE
    assert does(world, target.migration()).status == "completed"
    assert not target.is_going
    does(world, target.cont())
    assert (target.is_going, target.token) == (True, source.token)
    assert seen[0] == "MIGRATION_PASS"
    assert seen[-2:] == ["STOP", "MIGRATION"]


def test_a_migration_that_is_cancelled_leaves_the_source_running_and_ends_the_target(world: World) -> None:
    source, target = moving(world)
    does(world, source.cancel_migration())
    world.loop.run_until(world.loop.now + 1)
    assert source.is_going
    assert does(world, source.migration()).status == "cancelled"
    assert not target.is_alive


def test_a_migration_stalls_while_the_network_is_cut(world: World) -> None:
    source, target = moving(world)
    world.wires.cut(["h2"])
    world.loop.run_until(world.loop.now + 30)
    assert does(world, source.migration()).status in {"active", "device"}
    world.wires.heal(["h2"])
    world.loop.run_until(world.loop.now + 5)
    assert does(world, target.migration()).status == "completed"


def test_a_source_whose_target_dies_goes_on_by_itself(world: World) -> None:
    source, target = moving(world)
    target.die("killed by signal 9")
    world.loop.run_until(world.loop.now + 5)
    assert source.is_going
    assert does(world, source.migration()).status == "failed"


# saved memory ----------------------------------------------------------------------------------------


def memory(world: World, host: str) -> SimMemory:
    there = world.hosts[host]
    return SimMemory(there.paths["ds"], there.pipes)


def test_memory_is_saved_and_loaded(world: World) -> None:
    source = going(world, "h1", "v1")
    path = does(world, memory(world, "h1").make("v1", "m1"))
    does(world, source.stop())
    does(world, source.save_to(path))
    world.loop.run_until(world.loop.now + 5)
    assert does(world, source.migration()).status == "completed"
    target = machine(world, "h2", "v1", incoming=True)
    does(world, target.load_from(Path(path)))
    world.loop.run_until(world.loop.now + 5)
    assert does(world, target.migration()).status == "completed"
    assert target.token == source.token


def test_memory_is_loaded_while_it_is_written(world: World) -> None:
    source, target = going(world, "h1", "v1"), machine(world, "h2", "v1", incoming=True)
    does(world, memory(world, "h1").make("v1", "m1"))
    writer = memory(world, "h1").writer("v1", "m1", is_compressed=False)
    reader = memory(world, "h2").reader("v1", "m1")
    does(world, source.save_stream(writer.fd))
    does(world, target.load_stream(reader.fd))
    world.loop.run_until(world.loop.now + 5)
    assert writer.is_over
    reader.end_at(writer.file_bytes)
    world.loop.run_until(world.loop.now + 1)
    assert (reader.is_over, reader.error, reader.sum.checksum) == (True, "", writer.sum.checksum)
    assert target.token == source.token


def test_a_saved_memory_does_not_go_with_a_disk_that_was_used_since(world: World) -> None:
    store = memory(world, "h1")
    source = going(world, "h1", "v1")
    does(world, store.make("v1", "m1"))
    before = world.files["ds"].folder("v1").disk_version
    does(world, source.stop())
    does(world, source.cont())
    assert world.files["ds"].folder("v1").disk_version > before


def test_commands_under_way_are_told_that_it_ended(world: World) -> None:
    one = going(world, "h1", "v1")
    one.freeze()
    one.domain.pause()

    async def ask() -> None:
        with pytest.raises(Unreachable):
            await one.status()

    asking = begin(world, ask())
    world.loop.run_until(world.loop.now)
    one.die("killed by signal 9")
    world.loop.run_until(world.loop.now + 1)
    assert asking.done()
    assert asking.exception() is None


def test_an_agent_that_is_started_while_its_host_hangs_runs_when_it_goes_on() -> None:
    world = small_world(begins=True)
    world.run_until(10.0)
    host = world.hosts["h1"]
    host.hang()
    host.kill_agent()
    host.start_agent()
    assert host.agent is None
    host.resume()
    assert host.agent is not None
    host.hang()
    host.kill_agent()
    host.start_agent()
    host.power_off()
    assert host.agent is None
