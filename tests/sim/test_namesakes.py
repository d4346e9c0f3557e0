"""Two machines of one name: one comes back with its old data after another joined in its place, or is a copy."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.small_world import agent, does, mount, small_world
from zugvogel.core import lease_rules
from zugvogel.domain.datastore import Beat
from zugvogel.domain.lease import Holder, Lease, LeaseState
from zugvogel.domain.vm import VmRecord, VmState
from zugvogel.errors import Unreachable
from zugvogel.ports.peers import Handler
from zugvogel.sim.storage import Fault
from zugvogel.sim.world import World

NEW = Holder(host="h2", boot_id="boot of the new machine")
LATER = "2030-02-01T00:00:00.000Z"
LOOK_S = 10.0
"""Less than the detection time: nobody else has judged h2 by then."""


def _power_cycled(
    *,
    is_replaced: bool = False,
    other_beats_s: int = 0,
    look_s: float = LOOK_S,
    fault: Fault = Fault.NONE,
) -> World:
    """h2 was off and comes back. v1 is told to run there, and its lease is of another boot than h2's, which beats
    for the next `other_beats_s`. `fault`: of h2's path to the datastore, for 4 s."""
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
    begun = world.loop.now
    h2.paths["ds"].set_fault(fault)
    for second in range(other_beats_s):
        if second == 4:
            h2.paths["ds"].set_fault(Fault.NONE)
        h2.paths["ds"].files.beats["h2"] = Beat(host="h2", boot_id=NEW.boot_id, counter=1000 * (1 + second))
        world.run_until(begun + 1.0 + second)
    world.run_until(begun + look_s)
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
    world = _power_cycled()
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


def test_a_copy_of_a_machine_that_lives_stands_down_though_the_registry_knows_no_other() -> None:
    world = _power_cycled(other_beats_s=int(LOOK_S))
    assert (_lease(world).epoch, _lease(world).holder) == (1, NEW)
    assert _beat_of_h2(world).boot_id == NEW.boot_id
    services = agent(world, "h2").services
    assert "another machine writes beats as h2" in services.beats.usable("ds")[1]
    assert services.heartbeats.hears() == ("h1", "h3")
    heard = agent(world, "h1").services.heartbeats.heard("h2")
    assert heard is not None
    assert heard.heartbeat.boot_id == "h2-boot-1"  # not one of the copy's
    told = [event for _, event in world.events if event.kind == "host.replaced"]
    assert len(told) == 1


def test_a_copy_that_stood_down_does_not_take_over_when_the_other_one_halts() -> None:
    world = _power_cycled(other_beats_s=6)
    world.run_until(world.loop.now + LOOK_S)
    assert _beat_of_h2(world).boot_id == NEW.boot_id
    assert _lease(world).holder == NEW


@pytest.mark.parametrize("is_enabled", [True, False])
def test_a_vm_that_it_still_has_does_not_run_beside_another(*, is_enabled: bool) -> None:
    """h2 was cut off from everything, confirmed dead, and replaced; then all of it comes back."""
    world = small_world(begins=True, is_enabled=is_enabled)
    world.run_until(20.0)
    _spawn(world, "h2", "vm.start", {"vm": "v1", "why": "a user starts it"})
    world.run_until(30.0)
    h2 = world.hosts["h2"]
    assert [machine.host.name for machine in world.going("v1")] == ["h2"]
    world.wires.cut(["h2"])
    h2.set_storage(Fault.HANG, ["ds"])
    world.run_until(60.0)
    released = lease_rules.release_confirmed_dead(_lease(world), "v1", "h2", frozenset({"h2"}), why="confirmed")
    if released is not None:
        does(world, mount(world, "h1").leases.claim(released))
    record = world.record_of("h2").model_copy(update={"joined_at": LATER})
    world.registry.write("h1", "hosts/h2", record.model_dump_json().encode())
    world.wires.heal(["h2"])
    world.run_until(63.0)
    h2.set_storage(Fault.NONE, ["ds"])
    world.run_until(70.0)
    assert not h2.machines
    if not is_enabled:
        _spawn(world, "h1", "vm.start", {"vm": "v1", "why": "a user starts it"})
    world.run_until(130.0)
    assert [machine.host.name for machine in world.going("v1")] in (["h1"], ["h3"])


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.HANG])
def test_a_datastore_that_fails_for_a_while_lets_no_copy_speak(fault: Fault) -> None:
    world = _power_cycled(other_beats_s=14, look_s=14.0, fault=fault)
    heard = agent(world, "h1").services.heartbeats.heard("h2")
    assert heard is not None
    assert heard.heartbeat.boot_id == "h2-boot-1"
    assert _lease(world).holder == NEW


@pytest.mark.parametrize("other_beats_s", [0, int(LOOK_S)], ids=["it does not know yet", "it stands down"])
def test_it_gives_no_word_that_may_be_taken_for_the_other_one_s(other_beats_s: int) -> None:
    world = _power_cycled(other_beats_s=other_beats_s, look_s=LOOK_S if other_beats_s else 2.5)
    handlers = agent(world, "h2").services.world.handlers
    for command in ("ha.give_up", "migration.status", "ha.settle"):
        with pytest.raises(Unreachable):
            does(world, _call(handlers[command], {"vm": "v1", "epoch": 1, "migration_id": "m"}))
    assert _lease(world).holder == NEW


def test_a_restart_of_the_agent_is_heard_at_once() -> None:
    world = small_world(begins=True)
    world.run_until(20.0)
    h2 = world.hosts["h2"]
    h2.kill_agent()
    world.run_until(25.0)
    h2.start_agent()
    world.run_until(25.5)
    assert agent(world, "h2").services.namesakes.may_speak()
    heard = agent(world, "h1").services.heartbeats.heard("h2")
    assert heard is not None
    assert heard.heartbeat.sequence == 1


def _spawn(world: World, host: str, command: str, payload: dict[str, Any]) -> None:
    there = agent(world, host)
    there.domain.spawn(_call(there.services.world.handlers[command], payload))


async def _call(handler: Handler, payload: dict[str, Any]) -> dict[str, Any]:
    return await handler(payload)


def _beat_of_h2(world: World) -> Beat:
    return world.hosts["h2"].paths["ds"].files.beats["h2"]
