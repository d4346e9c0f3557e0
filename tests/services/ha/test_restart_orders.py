"""services.ha.restart_orders: what is wrong with one vm, or one host, holds up nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from tests.services.ha.failover_world import World
from zugvogel.domain.ha import RestartRecord
from zugvogel.errors import DeadlineExceeded, StorageError


@pytest.fixture
async def world() -> AsyncIterator[World]:
    found = World(4)
    await found.begin()
    yield found
    await found.close()


def break_folder(world: World, vm: str, *, is_broken: Callable[[], bool]) -> None:
    """Nobody can write a note of `vm`."""
    for node in world.nodes.values():
        write = node.view.folders.write_note

        async def fails(name: str, note: str, data: bytes, write: Callable[..., object] = write) -> None:
            if name == vm and is_broken():
                raise StorageError(f"{vm}: Permission denied")
            await write(name, note, data)  # type: ignore[misc]

        node.view.folders.write_note = fails


def note_of(world: World, vm: str) -> RestartRecord:
    return RestartRecord.model_validate_json(world.files.notes[vm, "restart.json"])


async def test_an_order_that_cannot_be_looked_after_holds_up_no_other_vm(world: World) -> None:
    await world.add("web")
    await world.add("db", at="h3")
    break_folder(
        world, "web", is_broken=lambda: "start" in world.files.orders and bool(world.files.orders["start"])
    )
    world.fail("h1")
    await world.pass_time(2)
    assert len(world.running("web")) == 1
    rounds = world.nodes["h2"].rounds
    world.fail("h3")
    await world.pass_time(3)
    assert len(world.running("db")) == 1
    assert world.nodes["h2"].rounds >= rounds + 3
    await world.pass_time(5)
    assert world.nodes["h2"].failover._orders.under_way == {}
    assert world.files.orders["start"] == {}


async def test_a_vm_whose_folder_is_bad_waits_is_told_once_and_is_started_when_it_is_well_again(
    world: World,
) -> None:
    bad, tries = [True], list[float]()

    def is_broken() -> bool:
        tries.append(world.clock.now)
        return bad[0]

    await world.add("web")
    await world.add("db")
    break_folder(world, "web", is_broken=is_broken)
    world.fail("h1")
    await world.pass_time(60)
    assert world.running("web") == []
    assert len(world.running("db")) == 1
    (told,) = await world.told("vm.restart-waits")
    assert "Permission denied" in told.message
    assert any("web: what it has on nfs1 cannot be used" in told for told in world.nodes["h2"].failover.waiting())
    assert world.nodes["h2"].rounds > 50
    assert 3 <= len(tries) <= 10
    bad[0] = False
    await world.pass_time(20)
    assert len(world.running("web")) == 1


async def test_a_vm_whose_lease_cannot_be_understood_holds_up_no_other(world: World) -> None:
    await world.add("web")
    await world.add("db")
    read = world.nodes["h2"].view.leases.read

    async def fails(vm: str) -> object:
        if vm == "web":
            raise ValueError("no JSON")
        return await read(vm)

    world.nodes["h2"].view.leases.read = fails
    world.fail("h1")
    await world.pass_time(3)
    assert len(world.running("db")) == 1
    assert world.nodes["h2"].rounds >= 3


async def test_orders_to_one_host_that_cannot_be_read_do_not_keep_a_new_judge_from_its_work(world: World) -> None:
    await world.add("web")
    for kind in (world.nodes["h2"].view.start_orders, world.nodes["h2"].view.isolation_orders):
        given = kind.given

        async def fails(host: str, given: Callable[[str], object] = given) -> object:
            if host == "h3":
                raise StorageError("Permission denied")
            return await given(host)  # type: ignore[misc]

        kind.given = fails  # type: ignore[method-assign,assignment]
    world.fail("h1")
    await world.pass_time(3)
    assert len(world.running("web")) == 1


async def test_a_datastore_that_does_not_answer_about_an_order_finishes_no_round(world: World) -> None:
    await world.add("web")
    for name in ("h2", "h3", "h4"):
        world.nodes[name].is_ordered = False
    world.is_network_down = True
    world.fail("h1")
    await world.pass_time(3)

    async def late(*_: str) -> bytes | None:
        raise DeadlineExceeded("no answer in 10 s")

    world.nodes["h2"].view.start_orders.answer_of = late  # type: ignore[method-assign,assignment]
    rounds = world.nodes["h2"].rounds
    await world.pass_time(10)
    assert world.nodes["h2"].rounds == rounds
    assert "web" in world.nodes["h2"].failover._orders.under_way


async def test_an_order_to_a_host_that_dies_before_it_claims_uses_up_no_attempt(world: World) -> None:
    world.nodes["h4"].gib = 64
    world.nodes["h4"].is_ordered = False
    world.is_network_down = True
    await world.add("web")
    world.fail("h1")
    await world.pass_time(5)
    assert world.nodes["h2"].failover._orders.under_way["web"].host == "h4"
    world.fail("h4")
    await world.pass_time(3)
    assert len(world.running("web")) == 1
    assert (note_of(world, "web").attempts, note_of(world, "web").is_verified) == (1, True)
    assert await world.told("vm.restart-failed") == []


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_later_attempt_that_spawned_nothing_is_made_up_for_at_once(world: World, number: int) -> None:
    await world.add("web")
    starts = 0
    for node in world.nodes.values():
        node.start_failure = "QEMU says no"
    world.fail("h1")
    while starts < number - 1:
        await world.pass_time(1)
        starts = len(await world.told("vm.restart-failed"))
    for node in world.nodes.values():
        node.start_failure = ""
        node.is_ordered = node.name == "h3"
    world.is_network_down = True
    world.nodes["h4"].gib = world.nodes["h2"].gib = 64
    while "web" not in world.nodes["h2"].failover._orders.under_way:
        await world.pass_time(1)
    assert world.nodes["h2"].failover._orders.under_way["web"].host != "h3"
    await world.pass_time(200)  # two of them do not answer within a minute each, one of them twice
    assert world.running("web") == ["h3"]
    assert note_of(world, "web").attempts == number


async def test_an_attempt_whose_host_died_after_its_claim_counts_but_nothing_pauses(world: World) -> None:
    world.nodes["h4"].gib = 64
    await world.add("web")
    world.nodes["h4"].cut_at = (1, "after")  # the claim is linked
    world.fail("h1")
    await world.pass_time(8)
    (failed,) = await world.told("vm.restart-failed")
    assert "h4, which was told to start it, is failed" in failed.message
    assert len(world.running("web")) == 1
    assert (note_of(world, "web").attempts, note_of(world, "web").is_verified) == (2, True)


async def test_a_judge_that_dies_between_its_note_and_its_order_costs_no_attempt(world: World) -> None:
    await world.add("web")
    world.fail("h1")
    steps = world.nodes["h2"].steps
    world.nodes["h2"].cut_at = (2, "after")
    await world.pass_time(1)
    assert steps[1] == "write note"
    assert note_of(world, "web").attempts == 1
    await world.pass_time(5)
    assert len(world.running("web")) == 1
    assert note_of(world, "web").attempts == 1


async def test_restarts_that_never_began_are_no_failures_of_the_vms_own(world: World) -> None:
    await world.add("web", at="h3")
    world.machine("web").end()
    world.nodes["h3"].is_ordered = False
    world.is_network_down = True
    await world.pass_time(5)
    orders = world.nodes["h2"].failover._orders
    assert orders.own_failures("web", 3600) == 1
    await world.pass_time(70)
    assert orders.own_failures("web", 3600) == 1  # another host's, which did begin, or is under way
    assert note_of(world, "web").own_failures <= 1


async def test_a_vm_that_was_made_anew_under_a_name_has_no_history(world: World) -> None:
    await world.add("web")
    orders = world.nodes["h2"].failover._orders
    orders._history("web").own.append(world.clock.now)
    assert orders.own_failures("web", 60.0) == 1
    inventory = world.nodes["h2"].inventory
    record = inventory.vm("web")
    anew = record.definition.model_copy(update={"uuid": "another"})
    await inventory.put("vms/web", record.model_copy(update={"definition": anew}))
    assert orders.own_failures("web", 60.0) == 0
