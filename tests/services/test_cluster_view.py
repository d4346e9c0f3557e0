"""What primaries conclude, host by host, from beats and heartbeats that the services themselves make."""

import asyncio
from typing import Any, cast

import pytest

from tests.services.liveness_world import Mount, Node, World
from zugvogel.domain.host import HostReport, Verdict
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


@pytest.mark.parametrize("works", [True, False])
async def test_a_host_that_was_started_anew_is_live_until_it_should_have_beaten(works: bool) -> None:
    world = World()
    await world.pass_time(5)
    world.dead = {"h3"}
    await world.pass_time(13)
    world.dead = set()
    host, mount = world.hosts[2], Mount("ds", world.files["ds"])
    world.nodes["h3"] = Node(world, host, [mount], boot=2)
    mount.fault = "hang"
    seen = []
    for second in range(1, 13):
        if works and second == 4:
            mount.fault = ""
            world.nodes["h3"].beats._watches["ds"].rounds.cut_off()
            await asyncio.sleep(0)
        await world.pass_time(1)
        seen.append((await verdicts(world))["h3"])
    if works:
        assert set(seen) == {Verdict.LIVE}
    else:
        assert seen[:9] == [Verdict.LIVE] * 9
        assert seen[-1] is Verdict.STORAGE_LOST


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


async def test_a_live_host_in_maintenance_is_shown_as_such_and_a_failed_one_as_failed() -> None:
    world = World()
    await world.pass_time(3)
    world.hosts[0] = world.hosts[0].model_copy(update={"is_in_maintenance": True})
    world.hosts[2] = world.hosts[2].model_copy(update={"is_in_maintenance": True})
    expected = {"h1": Verdict.MAINTENANCE, "h2": Verdict.LIVE, "h3": Verdict.MAINTENANCE}
    assert await verdicts(world, "h1") == await verdicts(world, "h2") == expected
    world.dead = {"h3"}
    await world.pass_time(18)
    assert (await verdicts(world))["h3"] is Verdict.FAILED


async def test_who_holds_the_role_of_a_datastore_is_an_active_primary() -> None:
    world = World()
    await world.pass_time(3)
    world.active_primaries = frozenset({"h2"})
    for judge in ("h1", "h2"):
        statuses = await world.nodes[judge].view.statuses()
        assert [s.host.name for s in statuses if s.is_active_primary] == ["h2"]


async def test_an_isolated_host_calls_itself_so() -> None:
    world = World()
    await world.pass_time(3)
    world.nodes["h1"].is_isolated = True
    assert (await verdicts(world))["h1"] is Verdict.ISOLATED


async def test_all_who_ask_at_the_same_instant_get_one_judgement() -> None:
    world = World()
    await world.pass_time(3)
    view = world.nodes["h1"].view
    first, second = view.judged(), view.judged()
    assert first is not second
    assert all(a is b for a, b in zip(first, second, strict=True))
    world.clock.now += 0.1
    assert view.judged()[1] is not first[1]


async def test_what_a_secondary_hears_keeps_a_host_from_being_failed() -> None:
    """h2 lost its storage and its network to h1, not to the secondary h3."""
    world = World(hosts=3, primaries=2)
    await world.pass_time(5)
    world.nodes["h2"].mounts[0].fault = "error"
    world.unheard = {("h2", "h1")}
    await world.pass_time(20)
    status = await world.nodes["h1"].verdict_of("h2")
    assert status.verdict is Verdict.STORAGE_LOST
    assert "still heard by h3" in status.why
    world.dead = {"h2"}
    await world.pass_time(6)
    assert (await world.nodes["h1"].verdict_of("h2")).verdict is Verdict.FAILED


async def test_a_t_that_was_lowered_counts_for_a_host_once_it_lives_by_it() -> None:
    world = World()
    await world.pass_time(5)
    for name in ("h1", "h2"):
        world.nodes[name].detection_time_ms = 5000
    world.dead = {"h3"}
    await world.pass_time(13)
    assert (await verdicts(world))["h3"] is Verdict.LIVE
    await world.pass_time(4)
    assert (await verdicts(world))["h3"] is Verdict.FAILED
    world.dead = {"h2", "h3"}
    await world.pass_time(7)
    assert (await verdicts(world))["h2"] is Verdict.FAILED


async def test_a_beat_that_was_not_read_lately_proves_nothing() -> None:
    """h3 had lost its storage when the judge read last. It has it again, and is then cut off."""
    world = World()
    await world.pass_time(5)
    world.nodes["h3"].mounts[0].fault = "error"
    await world.pass_time(20)
    assert (await verdicts(world))["h3"] is Verdict.STORAGE_LOST
    world.nodes["h1"].beats._judge = lambda *_: None  # type: ignore[method-assign]
    world.nodes["h3"].mounts[0].fault = ""
    world.cut = {"h3"}
    await world.pass_time(20)
    assert (await verdicts(world))["h3"] is Verdict.PARTITIONED


async def test_a_host_is_explained_by_the_primary_that_judges_it_also_to_a_secondary() -> None:
    world = World(hosts=3, primaries=2)
    await world.pass_time(5)
    world.active_primaries = frozenset({"h1"})
    own = await world.nodes["h1"].view.explain("h1")
    assert own.judgement == "h1 is live: this host judges"
    assert "it is the active primary: it judges hosts and starts failover" in own.evidence
    assert "own beat on ds: 0.0 s ago" in own.evidence
    world.dead = {"h2"}
    await world.pass_time(20)
    told = await world.nodes["h3"].view.explain("h2")
    assert told == world.nodes["h1"].view.explained("h2")
    assert (told.judge, told.subject) == ("h1", "h2")
    assert told.judgement.startswith("h2 is failed: no heartbeat for 20 s")
    assert "heard by: no host says that it hears it" in told.evidence
    with pytest.raises(NotFound):
        await world.nodes["h1"].view.explain("h9")
    with pytest.raises(NotFound):
        await world.nodes["h3"].view.explain("h9")
    with pytest.raises(Refused):
        await world.nodes["h3"].handlers["cluster.explain"]({"host": "h1"})


async def test_a_report_that_is_not_the_hosts_any_more_is_stale_after_three_intervals() -> None:
    world = World(hosts=2)
    world.drops_reports = True
    await world.pass_time(5)
    judge, h2 = world.nodes["h1"], world.nodes["h2"]
    call, h2.report = judge.call, cast(HostReport, h2.report).model_copy(update={"reserved_cpus": 3})

    async def fails(*_: Any, **__: Any) -> dict[str, Any]:
        raise Unreachable("h2 cannot be reached")

    judge.call = fails  # type: ignore[method-assign]
    stale = []
    for _ in range(6):
        await world.pass_time(1)
        found = await judge.verdict_of("h2")
        assert found.verdict is Verdict.LIVE
        stale.append(found.is_report_stale)
    assert stale == [False, False, False, False, True, True]
    h2.report = h2.report.model_copy(update={"reserved_cpus": 4})  # another change makes it no fresher
    await world.pass_time(1)
    assert (await judge.verdict_of("h2")).is_report_stale
    judge.call = call  # type: ignore[method-assign]
    await world.pass_time(1)
    found = await judge.verdict_of("h2")
    assert (found.is_report_stale, found.report) == (False, h2.report)
