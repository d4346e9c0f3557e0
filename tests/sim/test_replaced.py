"""A machine that comes back with its old data after another one joined under its name."""

from __future__ import annotations

from tests.sim.small_world import agent, does, mount, small_world
from zugvogel.domain.lease import Holder, Lease, LeaseState
from zugvogel.domain.vm import VmRecord, VmState
from zugvogel.sim.world import World

NEW = Holder(host="h2", boot_id="boot of the new machine")
LATER = "2030-02-01T00:00:00.000Z"
LOOK_S = 10.0
"""Less than the detection time: nobody else has judged h2 by then."""


def _power_cycled(*, is_replaced: bool) -> World:
    """h2 was off and comes back. v1 is told to run there, and its lease is of another boot than h2's."""
    world = small_world(begins=True)
    world.run_until(20.0)
    h2 = world.hosts["h2"]
    h2.power_off()
    if is_replaced:
        record = world.record_of("h2").model_copy(update={"joined_at": LATER})
        world.registry.write("h1", "hosts/h2", record.model_dump_json().encode())
    raw = world.registry.look("vms/v1")
    assert raw is not None
    told = VmRecord.model_validate_json(raw).model_copy(
        update={"host": "h2", "observed": VmState.RUNNING, "wanted": "running", "epoch": 1}
    )
    world.registry.write("h1", "vms/v1", told.model_dump_json().encode())
    lease = Lease(vm="v1", epoch=1, state=LeaseState.RUNNING, holder=NEW, why="started", written_at="")
    does(world, mount(world, "h1").leases.claim(lease))
    h2.power_on(boot_s=0.0)
    world.run_until(world.loop.now + LOOK_S)
    return world


def _lease(world: World) -> Lease:
    found = does(world, mount(world, "h1").leases.read("v1"))
    assert found is not None
    return found


def test_its_leases_are_those_of_the_new_machine() -> None:
    world = _power_cycled(is_replaced=True)
    assert (_lease(world).epoch, _lease(world).holder) == (1, NEW)
    is_usable, why = agent(world, "h2").services.beats.usable("ds")
    assert not is_usable
    assert "another machine joined the cluster as h2" in why
    heard = agent(world, "h1").services.heartbeats.hears()
    assert "h3" in heard
    assert "h2" not in heard


def test_a_host_that_only_had_no_power_settles_those_of_its_earlier_boot() -> None:
    world = _power_cycled(is_replaced=False)
    assert _lease(world).epoch > 1  # and v1 is started anew somewhere
    assert _lease(world).holder != NEW
    assert agent(world, "h2").services.beats.usable("ds") == (True, "")
    assert "h2" in agent(world, "h1").services.heartbeats.hears()


def test_one_that_is_up_when_it_is_replaced_stands_down_for_good() -> None:
    world = small_world(begins=True)
    world.run_until(20.0)
    replaced = world.record_of("h2").model_copy(update={"joined_at": LATER})
    world.registry.write("h1", "hosts/h2", replaced.model_dump_json().encode())
    world.run_until(world.loop.now + 5.0)
    assert not agent(world, "h2").services.beats.usable("ds")[0]
    world.hosts["h2"].kill_agent()
    world.hosts["h2"].start_agent()
    world.run_until(world.loop.now + 5.0)
    assert not agent(world, "h2").services.beats.usable("ds")[0]
