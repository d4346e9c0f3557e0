"""What primaries conclude, host by host, from beats and heartbeats that the services themselves make."""

import pytest

from tests.services.liveness_world import World
from zugvogel.domain.host import Verdict
from zugvogel.errors import NotFound, Refused, Unreachable


async def verdicts(world: World, judge: str = "h1") -> dict[str, Verdict]:
    return {s.host.name: s.verdict for s in await world.nodes[judge].view.statuses()}


async def test_all_well_is_live_everywhere_with_reports() -> None:
    world = World(hosts=3)
    assert set((await verdicts(world)).values()) == {Verdict.LIVE, Verdict.PARTITIONED}  # nobody heard yet
    await world.pass_time(3)
    for judge in world.nodes:
        statuses = await world.nodes[judge].view.statuses()
        assert [s.host.name for s in statuses] == ["h1", "h2", "h3"]
        assert {s.verdict for s in statuses} == {Verdict.LIVE}
        assert all(s.report is not None and s.load1 == 0.5 for s in statuses)


async def test_a_dead_host_is_failed_after_t_and_live_again_after_its_return() -> None:
    world = World()
    await world.pass_time(5)
    world.dead = {"h3"}
    seen = []
    for _ in range(18):
        await world.pass_time(1)
        seen.append((await verdicts(world))["h3"])
    assert seen[:14] == [Verdict.LIVE] * 14
    assert seen[-1] is Verdict.FAILED
    assert set(seen) == {Verdict.LIVE, Verdict.FAILED}
    world.dead = set()
    await world.pass_time(2)
    assert (await verdicts(world))["h3"] is Verdict.LIVE


async def test_a_host_that_lost_its_network_is_partitioned_and_isolated_once_it_says_so() -> None:
    world = World()
    await world.pass_time(5)
    world.cut = {"h3"}
    await world.pass_time(20)
    assert (await verdicts(world))["h3"] is Verdict.PARTITIONED
    world.nodes["h3"].is_isolated = True
    await world.pass_time(2)
    status = await world.nodes["h1"].verdict_of("h3")
    assert (status.verdict, status.heartbeat_age_s) == (Verdict.ISOLATED, 22.0)


@pytest.mark.parametrize("fault", ["hang", "error"])
async def test_a_host_that_lost_its_storage_is_storage_lost_for_others_and_itself(fault: str) -> None:
    world = World()
    await world.pass_time(5)
    world.nodes["h3"].mounts[0].fault = fault
    await world.pass_time(12)
    assert (await verdicts(world, "h1"))["h3"] is Verdict.STORAGE_LOST
    assert (await verdicts(world, "h3"))["h3"] is Verdict.STORAGE_LOST


async def test_a_judge_that_cannot_read_fails_nobody() -> None:
    world = World()
    await world.pass_time(5)
    world.nodes["h1"].mounts[0].fault = "error"
    world.dead = {"h3"}
    await world.pass_time(30)
    assert (await verdicts(world))["h3"] is Verdict.PARTITIONED


async def test_after_an_outage_of_the_datastore_for_everybody_counting_starts_anew() -> None:
    world = World()
    await world.pass_time(5)
    for node in world.nodes.values():
        node.mounts[0].fault = "error"
    world.dead = {"h3"}
    await world.pass_time(30)
    for node in world.nodes.values():
        node.mounts[0].fault = ""
    await world.pass_time(1)
    assert (await verdicts(world))["h3"] is not Verdict.FAILED
    await world.pass_time(16)
    assert (await verdicts(world))["h3"] is Verdict.FAILED


async def test_a_judge_that_itself_hung_fails_nobody_at_its_return() -> None:
    world = World()
    await world.pass_time(5)
    world.clock.now += 60
    assert (await verdicts(world))["h2"] is not Verdict.FAILED
    await world.pass_time(2)
    assert set((await verdicts(world)).values()) == {Verdict.LIVE}


async def test_a_host_that_beats_on_another_file_system_is_never_failed() -> None:
    world = World()
    await world.pass_time(2)
    frozen = dict(world.files["ds"])
    world.nodes["h3"].mounts[0].files = {}  # mounted over: its beats go elsewhere now
    await world.pass_time(3)
    world.files["ds"]["h3"] = frozen["h3"]
    world.dead = {"h3"}
    await world.pass_time(40)
    status = await world.nodes["h1"].verdict_of("h3")
    assert status.verdict is Verdict.PARTITIONED
    assert "different file systems" in status.why


async def test_without_a_datastore_silence_alone_is_partitioned() -> None:
    world = World(datastores=())
    await world.pass_time(3)
    assert set((await verdicts(world)).values()) == {Verdict.LIVE}
    world.dead = {"h2"}
    await world.pass_time(60)
    assert (await verdicts(world))["h2"] is Verdict.PARTITIONED


async def test_a_secondary_asks_the_primaries_in_order_and_falls_back() -> None:
    world = World(hosts=4, primaries=2)
    await world.pass_time(3)
    assert set((await verdicts(world, "h4")).values()) == {Verdict.LIVE}
    await verdicts(world, "h4")
    asked = [call for call in world.calls if call[2] == "cluster.status"]
    assert asked == [("h4", "h1", "cluster.status")]  # the second answer came from the cache
    world.dead = {"h1"}
    await world.pass_time(2)
    await verdicts(world, "h4")
    await world.pass_time(2)
    await verdicts(world, "h4")
    order = [call[1] for call in world.calls if call[2] == "cluster.status"]
    assert order == ["h1", "h1", "h2", "h2"]  # h1 is avoided for a while
    world.dead = {"h1", "h2"}
    await world.pass_time(2)
    with pytest.raises(Unreachable, match="no primary answers: h"):
        await world.nodes["h4"].view.statuses()


async def test_a_secondary_refuses_to_judge_and_unknown_hosts_are_not_found() -> None:
    world = World(hosts=2, primaries=1)
    await world.pass_time(2)
    with pytest.raises(Refused):
        await world.nodes["h2"].handlers["cluster.status"]({})
    with pytest.raises(NotFound):
        await world.nodes["h1"].verdict_of("h9")
