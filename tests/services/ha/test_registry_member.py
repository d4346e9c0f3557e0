"""When etcd starts, and with whose data: the chain of generations on the datastore decides, not etcd."""

from __future__ import annotations

import pytest

from tests.services.ha.registry_world import PLACE, World
from zugvogel.domain.host import Role, Verdict
from zugvogel.errors import Refused
from zugvogel.services.ha.registry_member import KEYLESS_TRIES

T = 15


async def running(count: int = 3) -> World:
    world = World(count)
    await world.pass_time(10)
    assert all(a.own.is_running for a in world.agents.values())
    assert world.leases.latest is None, "generation 0 has no lease"
    return world


def generations(world: World) -> dict[str, int]:
    return {name: disk.generation for name, disk in world.disks.items()}


# formed anew --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "lost"), [(2, 1), (3, 2), (5, 3), (5, 4), (4, 2)])
async def test_formed_anew_when_the_members_not_failed_are_no_majority(count: int, lost: int) -> None:
    world = await running(count)
    world.power_off(*(f"h{n}" for n in range(count - lost + 1, count + 1)))
    await world.pass_time(T - 1)
    assert world.leases.latest is None, "the verdicts have to last for the detection time"
    await world.pass_time(12)
    one = world.agents["h1"]
    assert world.leases.latest is not None
    assert (world.leases.latest.epoch, world.leases.latest.holder and world.leases.latest.holder.host) == (1, "h1")
    assert (one.own.reforms, one.disk.generation, one.own.is_running) == (1, 1, True)
    assert await one.own.is_current()
    assert "registry.reformed" in await one.kinds()
    await world.pass_time(10)
    left = count - lost
    assert one.disk.members == [f"h{n}" for n in range(1, left + 1)], "other survivors have joined"
    assert [world.disks[f"h{n}"].generation for n in range(1, left + 1)] == [1] * left
    entry = await world.registry.get("generation")
    assert entry is not None
    assert entry.value == b"1"


@pytest.mark.parametrize("verdict", [v for v in Verdict if v is not Verdict.FAILED])
async def test_never_while_the_datastore_does_not_prove_a_majority_dead(verdict: Verdict) -> None:
    world = await running()
    world.power_off("h2", "h3", verdict=verdict)
    await world.pass_time(20 * T)
    assert world.leases.latest is None
    assert world.agents["h1"].own.reforms == 0


async def test_never_by_one_that_does_not_judge_and_never_for_a_minority() -> None:
    world = await running(5)
    world.power_off("h4", "h5")
    await world.pass_time(5 * T)
    assert world.leases.latest is None
    world.judge = ""
    world.power_off("h3")
    await world.pass_time(5 * T)
    assert world.leases.latest is None


async def test_never_by_an_agent_that_saw_no_majority_since_it_started() -> None:
    """After a power loss of all the first to be back may be the one that had been away for weeks."""
    world = await running()
    world.power_off("h1", "h2", "h3")
    world.power_on("h1")
    await world.pass_time(20 * T)
    assert world.leases.latest is None
    assert world.agents["h1"].own.is_running, "it waits for the others"
    world.power_on("h2")
    await world.pass_time(5)
    assert await world.agents["h1"].own.is_current()


async def test_never_by_one_that_was_cut_off_while_the_others_went_on() -> None:
    world = await running()
    world.cut_off.add("h1")
    await world.pass_time(60)
    world.power_off("h2", "h3")
    await world.pass_time(5 * T)
    assert world.leases.latest is None
    assert "others may have newer data" in await world.agents["h1"].reforming._why_not(is_loss_accepted=False)


async def test_somebody_may_accept_the_loss() -> None:
    world = await running()
    with pytest.raises(Refused, match="3 of 3 members are not failed"):
        await world.call(world.host("h1"), "registry.reform", {})
    world.power_off("h1", "h2", "h3")
    world.judge = ""
    world.power_on("h1")
    await world.pass_time(2)
    await world.call(world.host("h1"), "registry.reform", {})
    await world.pass_time(2 * T)
    assert world.agents["h1"].disk.generation == 1


async def test_a_return_before_the_deed_makes_it_needless() -> None:
    world = await running()
    world.power_off("h2", "h3")
    await world.pass_time(T - 2)
    world.power_on("h3")
    await world.pass_time(5 * T)
    assert world.leases.latest is None


async def test_of_two_that_judge_at_once_one_forms_it() -> None:
    world = await running(5)
    world.power_off("h3", "h4", "h5")
    for agent in world.agents.values():
        agent.reforming._judges = lambda datastore: True
    await world.pass_time(3 * T)
    assert sum(a.own.reforms for a in world.agents.values()) == 1
    assert generations(world) == {"h1": 1, "h2": 1, "h3": 0, "h4": 0, "h5": 0}


# cut ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["registry.claimed", "registry.formed"])
async def test_the_winner_finishes_wherever_it_was_cut(step: str) -> None:
    world = await running()
    world.cut_at = step
    world.power_off("h2", "h3")
    await world.pass_time(2 * T)
    assert "h1" not in world.agents
    assert world.disks["h1"].generation == 0
    world.judge = ""
    world.power_on("h1")
    await world.pass_time(5)
    assert world.disks["h1"].generation == 1
    assert world.leases.latest is not None
    assert world.leases.latest.epoch == 1
    assert await world.agents["h1"].own.is_current()
    world.power_on("h2")
    world.power_on("h3")
    await world.pass_time(10)
    assert generations(world) == {"h1": 1, "h2": 1, "h3": 1}


async def test_an_old_majority_that_returns_while_the_winner_is_cut_waits_for_it() -> None:
    world = await running()
    world.cut_at = "registry.claimed"
    world.power_off("h2", "h3")
    await world.pass_time(2 * T)
    world.power_on("h2")
    world.power_on("h3")
    world.judge = "h2"
    await world.pass_time(10 * T)
    assert not any(a.own.is_running for a in world.agents.values())
    assert all(world.disks[n].members for n in ("h2", "h3")), "its data is kept until it is admitted to the newer"
    world.power_on("h1")
    await world.pass_time(10)
    assert generations(world) == {"h1": 1, "h2": 1, "h3": 1}


async def test_a_survivor_takes_over_from_a_winner_that_died_too_soon() -> None:
    world = await running(5)
    world.cut_at = "registry.claimed"
    world.power_off("h3", "h4", "h5")
    await world.pass_time(2 * T, "h1")
    assert world.leases.latest is not None
    world.judge = "h2"
    await world.pass_time(3 * T)
    assert world.leases.latest.epoch == 2
    assert world.disks["h2"].generation == 2
    world.power_on("h1")
    await world.pass_time(10)
    assert generations(world)["h1"] == 2
    assert world.agents["h1"].own.reforms == 0


async def test_a_winner_whose_etcd_does_not_come_up_gives_up_for_another() -> None:
    world = await running(5)
    world.power_off("h3", "h4", "h5")
    world.agents["h1"].own.is_broken = True
    await world.pass_time(2 * T)
    assert world.leases.latest is not None
    assert (world.leases.latest.epoch, world.leases.latest.holder) == (2, None)
    world.judge = "h2"
    await world.pass_time(2 * T)
    assert world.disks["h2"].generation == 3


# returning ----------------------------------------------------------------------------------------------


async def test_a_host_that_returns_discards_its_data_once_it_is_admitted() -> None:
    world = await running()
    world.power_off("h2", "h3")
    await world.pass_time(3 * T)
    world.agents["h1"].own.is_running = False  # nobody can admit it now
    world.power_on("h2")
    await world.pass_time(2, "h2")
    two = world.agents["h2"]
    assert (two.own.is_running, two.disk.put_aside, two.own.has_data) == (False, 0, True)
    await world.pass_time(5)
    assert (two.own.is_running, two.disk.put_aside, two.disk.generation) == (True, 1, 1)
    assert "registry.rejoined" in await two.kinds()


async def test_a_frozen_majority_that_wakes_up_stops_and_joins() -> None:
    """Its etcds never ended: they look at the chain and find that their data is past."""
    world = await running()
    asleep = {n: world.agents[n] for n in ("h2", "h3")}
    world.power_off("h2", "h3")
    await world.pass_time(3 * T)
    assert world.disks["h1"].generation == 1
    for name, agent in asleep.items():
        world.agents[name] = agent
        world.verdicts.pop(name)
    await world.pass_time(15)
    assert generations(world) == {"h1": 1, "h2": 1, "h3": 1}
    assert [a.disk.put_aside for a in asleep.values()] == [1, 1]


async def test_a_new_host_joins_with_the_keys_or_at_last_without() -> None:
    world = await running()
    world.power_off("h3")
    world.disks["h3"].members = None
    world.power_on("h3")
    world.agents["h3"].keys = False
    await world.pass_time(KEYLESS_TRIES / 2, "h3")
    assert not world.agents["h3"].own.is_running
    await world.pass_time(1)
    assert world.agents["h3"].own.is_running


async def test_one_whose_name_another_machine_has_stops_its_member_and_starts_none() -> None:
    world = await running()
    three = world.agents["h3"]
    three.stands_down = "another machine joined the cluster as h3"
    await world.pass_time(1)
    assert not three.own.is_running
    await world.pass_time(3 * T)
    assert (three.own.is_running, three.own.has_data) == (False, True)
    assert world.agents["h1"].own.is_running


# the datastore ------------------------------------------------------------------------------------------


async def test_with_data_on_disk_etcd_starts_only_after_the_chain_was_read() -> None:
    world = await running()
    world.power_off("h1", "h2", "h3")
    world.leases.is_away = True
    world.power_on("h1")
    world.power_on("h2")
    await world.pass_time(10 * T)
    assert not any(a.own.is_running for a in world.agents.values())
    assert "h3 did not say which generation" in world.agents["h1"].said
    world.leases.is_away = False
    await world.pass_time(1)
    assert all(a.own.is_running for a in world.agents.values())


async def test_with_the_datastore_gone_it_starts_when_every_primary_says_that_there_is_nothing_newer() -> None:
    world = await running()
    world.power_off("h1", "h2", "h3")
    world.leases.is_away = True
    for name in ("h1", "h2", "h3"):
        world.power_on(name)
    await world.pass_time(1)
    assert all(a.own.is_running for a in world.agents.values())


async def test_with_the_datastore_gone_older_data_is_not_started() -> None:
    world = await running()
    world.power_off("h2", "h3")
    await world.pass_time(3 * T)
    world.leases.is_away = True
    world.power_on("h2")
    world.power_on("h3")
    await world.pass_time(10)
    assert not world.agents["h2"].own.is_running
    assert "h1 has a newer generation" in world.agents["h2"].said


async def test_without_a_datastore_it_starts_at_once() -> None:
    world = World()
    for disk in world.disks.values():
        disk.datastores = [PLACE.model_copy(update={"is_shared": False})]
    world.leases.is_away = True
    await world.pass_time(1)
    assert all(a.own.is_running for a in world.agents.values())
    world.power_off("h2", "h3")
    await world.pass_time(5 * T)
    assert world.agents["h1"].own.reforms == 0


async def test_an_outage_of_the_datastore_stops_no_etcd_that_runs() -> None:
    world = await running()
    world.leases.is_away = True
    await world.pass_time(5 * T)
    assert all(a.own.is_running for a in world.agents.values())


async def test_the_generation_is_carried_over_to_another_datastore() -> None:
    world = await running()
    world.power_off("h2", "h3")
    await world.pass_time(3 * T)
    world.leases.latest = None
    await world.pass_time(10)
    assert world.leases.latest is not None
    assert world.leases.latest.epoch == 1
    world.power_on("h2")
    await world.pass_time(5)
    assert world.disks["h2"].generation == 1


# roles --------------------------------------------------------------------------------------------------


async def test_a_demoted_host_runs_its_member_until_it_is_none() -> None:
    world = await running()
    world.set_role("h3", Role.SECONDARY)
    await world.pass_time(20)
    three = world.agents["h3"]
    assert three.own.is_running
    world.power_off("h3")
    world.power_on("h3")
    await world.pass_time(5)
    assert world.agents["h3"].own.is_running, "its vote may be needed to remove it"
    for name in ("h1", "h2"):
        world.disks[name].members = ["h1", "h2"]
    await world.pass_time(5)
    assert not world.agents["h3"].own.is_running
    assert not world.agents["h3"].own.has_data


async def test_a_member_that_was_removed_though_it_is_a_primary_joins_again() -> None:
    world = await running()
    for name in ("h1", "h2"):
        world.disks[name].members = ["h1", "h2"]
    world.agents["h3"].own.failures = 3
    await world.pass_time(5)
    assert world.agents["h3"].own.is_running
    assert world.disks["h3"].members == ["h1", "h2", "h3"]
    assert world.disks["h3"].put_aside == 1
