"""Datastores of a simulated world: the contract of the real adapter, and its faults."""

from __future__ import annotations

import asyncio

import pytest

from tests.sim.small_world import begin, definition, does, lease, mount, small_world
from zugvogel.domain.datastore import Beat
from zugvogel.domain.lease import KEPT_EPOCHS
from zugvogel.errors import AlreadyExists, DeadlineExceeded, LeaseTaken, NotFound, StorageError
from zugvogel.sim.storage import DEADLINE_S, Fault
from zugvogel.sim.world import World


@pytest.fixture
def world() -> World:
    return small_world()


def test_a_lease_is_linked_once(world: World) -> None:
    one, other = mount(world, "h1").leases, mount(world, "h2").leases
    assert does(world, one.read("v1")) is None
    does(world, one.claim(lease("v1", 1, "h1")))
    with pytest.raises(LeaseTaken) as taken:
        does(world, other.claim(lease("v1", 1, "h2")))
    assert taken.value.epoch == 1
    assert does(world, other.read("v1")) == lease("v1", 1, "h1")


def test_the_same_claim_again_is_its_own_success(world: World) -> None:
    leases = mount(world, "h1").leases
    claim = lease("v1", 1, "h1")
    assert does(world, leases.claim(claim)) == does(world, leases.claim(claim)) == claim


def test_of_two_claims_at_once_one_wins(world: World) -> None:
    claims = [begin(world, mount(world, h).leases.claim(lease("v1", 1, h))) for h in ("h1", "h2", "h3")]
    world.loop.run_until(1.0)
    won = [c for c in claims if c.exception() is None]
    assert len(won) == 1
    assert does(world, mount(world, "h1").leases.read("v1")) == won[0].result()


def test_old_epochs_are_pruned_and_stay_taken(world: World) -> None:
    leases = mount(world, "h1").leases
    for epoch in range(1, KEPT_EPOCHS + 10):
        does(world, leases.claim(lease("v1", epoch, "h1")))
    assert len(world.files["ds"].leases["v1"].by_epoch) == KEPT_EPOCHS
    with pytest.raises(LeaseTaken):
        does(world, leases.claim(lease("v1", 1, "h2")))


def test_a_claim_without_a_folder_is_refused(world: World) -> None:
    with pytest.raises(NotFound):
        does(world, mount(world, "h1").leases.claim(lease("unknown", 1, "h1")))


def test_roles_need_no_folder(world: World) -> None:
    roles = mount(world, "h1").role_leases
    does(world, roles.claim(lease("active-primary", 1, "h1")))
    assert does(world, mount(world, "h2").role_leases.read("active-primary")) is not None


def test_folders_notes_and_orders_are_shared(world: World) -> None:
    one, other = mount(world, "h1"), mount(world, "h2")
    does(world, one.folders.create(definition("new")))
    with pytest.raises(AlreadyExists):
        does(world, other.folders.create(definition("new")))
    assert does(world, other.folders.names()) == ["new", "v1", "v2"]
    does(world, one.folders.write_note("new", "restart.json", b"1"))
    assert does(world, other.folders.read_note("new", "restart.json")) == b"1"
    does(world, one.orders.give("h2", "new", b"load"))
    assert does(world, other.orders.given("h2")) == {"new": b"load"}
    assert does(world, other.start_orders.given("h2")) == {}
    does(world, other.orders.answer("h2", "new", b"ready"))
    assert does(world, one.orders.answer_of("h2", "new")) == b"ready"
    does(world, one.orders.take_back("h2", "new"))
    assert does(world, one.orders.answer_of("h2", "new")) is None


def test_a_cut_path_answers_with_errors_and_the_others_do_not(world: World) -> None:
    world.hosts["h1"].set_storage(Fault.CUT, ["ds"])
    with pytest.raises(StorageError):
        does(world, mount(world, "h1").leases.read("v1"))
    assert does(world, mount(world, "h2").leases.read("v1")) is None


def test_a_hung_path_ends_each_call_at_its_deadline(world: World) -> None:
    world.hosts["h1"].set_storage(Fault.HANG, ["ds"])
    began = world.loop.now
    with pytest.raises(DeadlineExceeded):
        does(world, mount(world, "h1").leases.read("v1"))
    assert world.loop.now - began == pytest.approx(DEADLINE_S)


def test_what_hung_is_carried_out_when_the_path_works_again(world: World) -> None:
    """As the kernel does: whoever waited has been told that nothing is known."""
    world.hosts["h1"].set_storage(Fault.HANG, ["ds"])
    with pytest.raises(DeadlineExceeded):
        does(world, mount(world, "h1").leases.claim(lease("v1", 1, "h1")))
    assert does(world, mount(world, "h2").leases.read("v1")) is None
    world.hosts["h1"].set_storage(Fault.NONE, ["ds"])
    world.loop.run_until(world.loop.now + 5.0)
    assert does(world, mount(world, "h2").leases.read("v1")) == lease("v1", 1, "h1")


def test_a_beat_that_was_given_up_may_still_land(world: World) -> None:
    beats = mount(world, "h1").beats
    world.hosts["h1"].set_storage(Fault.HANG, ["ds"])
    with pytest.raises(DeadlineExceeded):
        does(world, beats.write(Beat(host="h1", boot_id="b", counter=3)))
    assert beats.may_still_land()
    world.hosts["h1"].set_storage(Fault.NONE, ["ds"])
    assert beats.may_still_land()
    world.loop.run_until(world.loop.now + 5.0)
    assert not beats.may_still_land()
    assert does(world, beats.read_all())["h1"].counter == 3


def test_what_hung_on_a_host_that_lost_its_power_never_happens(world: World) -> None:
    world.hosts["h1"].set_storage(Fault.HANG, ["ds"])
    begin(world, mount(world, "h1").leases.claim(lease("v1", 1, "h1")))
    world.loop.run_until(1.0)
    world.hosts["h1"].power_off()
    world.hosts["h1"].set_storage(Fault.NONE, ["ds"])
    assert does(world, mount(world, "h2").leases.read("v1")) is None


def test_hung_calls_are_bounded(world: World) -> None:
    world.hosts["h1"].set_storage(Fault.HANG, ["ds"])
    store = mount(world, "h1")
    calls = [begin(world, store.folders.names()) for _ in range(9)]
    world.loop.run_until(1.0)
    assert [c.done() for c in calls] == [False] * 8 + [True]
    assert isinstance(calls[8].exception(), DeadlineExceeded)


def test_beats_have_calls_of_their_own_and_are_told_to_the_world(world: World) -> None:
    store = mount(world, "h1")
    does(world, store.beats.write(Beat(host="h1", boot_id="b", counter=3)))
    assert world.beat_at["h1", "ds"] == pytest.approx(world.loop.now, abs=0.3)
    assert does(world, mount(world, "h2").beats.read_all())["h1"].counter == 3


def test_a_write_that_was_under_way_may_have_happened(world: World) -> None:
    """Between its effect and its answer: an agent that is killed there does not know."""

    async def until_linked() -> None:
        while not world.files["ds"].leases:  # noqa: ASYNC110 - on virtual time
            await asyncio.sleep(0.0005)

    task = begin(world, mount(world, "h1").leases.claim(lease("v1", 1, "h1")))
    does(world, until_linked())
    assert not task.done()
