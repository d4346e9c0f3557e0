"""One judge a datastore, whatever dies, hangs or is cut off. A beat is read a second after it was written here, so
T of stillness is seen up to two seconds after T."""

import asyncio

import pytest

from tests.services.ha.judge_world import JudgeWorld
from zugvogel.domain.host import Role

T = 15


async def test_the_first_primary_takes_the_role_and_keeps_it() -> None:
    world = JudgeWorld(hosts=6)
    await world.pass_time(3)
    assert world.judging() == ["h1"]
    await world.pass_time(60)
    assert world.judging() == ["h1"]
    assert [lease.epoch for lease in world.chains["ds"]] == [1]
    assert world.judges["h1"].primary.round_of("ds") > 50
    assert world.judges["h3"].primary.round_of("ds") == 0
    assert {j.primary.judge_of("ds") for j in world.judges.values()} == {"h1"}
    assert {j.primary.holders() for j in world.judges.values()} == {frozenset({"h1"})}


@pytest.mark.parametrize("hosts", [1, 2])
async def test_small_clusters_have_a_judge_too(hosts: int) -> None:
    world = JudgeWorld(hosts=hosts)
    await world.pass_time(3)
    assert world.judging() == ["h1"]
    world.dead = {"h1"}
    if hosts == 2:
        assert await world.until("h2", T + 3) >= T - 1


async def test_the_next_one_takes_over_about_t_after_the_judge_died_and_nobody_races() -> None:
    world = JudgeWorld(hosts=5)
    await world.pass_time(10)
    world.dead = {"h1"}
    before = {name: world.roles(name).claims for name in world.nodes}
    assert T - 1 <= (await world.until("h2", T + 3)) <= T + 1
    await world.pass_time(30)
    assert world.judging() == ["h2"]
    assert {name: world.roles(name).claims - before[name] for name in world.nodes if name != "h2"} == {
        "h1": 0, "h3": 0, "h4": 0, "h5": 0,
    }  # fmt: skip
    assert [lease.holder.host for lease in world.chains["ds"] if lease.holder] == ["h1", "h2"]
    assert "no round for 15 s" in world.chains["ds"][-1].why
    assert [e.kind for e in world.judges["h2"].told()] == ["ha.role-taken"]


async def test_the_last_of_five_primaries_takes_over_as_soon() -> None:
    world = JudgeWorld(hosts=6)
    await world.pass_time(10)
    world.dead = {"h1", "h2", "h3", "h4"}
    await world.until("h5", T + 3)


async def test_a_secondary_never_judges_but_knows_who_does() -> None:
    world = JudgeWorld(hosts=3, primaries=1)
    await world.pass_time(10)
    world.dead = {"h1"}
    await world.pass_time(5 * T)
    assert world.judging() == []
    assert world.judges["h3"].primary.judge_of("ds") == "h1"


async def test_a_returning_judge_finds_the_role_taken() -> None:
    world = JudgeWorld()
    await world.pass_time(5)
    world.dead = {"h1"}
    await world.until("h2", T + 3)
    world.reboot("h1")
    await world.pass_time(30)
    assert world.judging() == ["h2"]
    assert len(world.chains["ds"]) == 2


async def test_a_judge_that_reboots_quickly_claims_its_role_anew_with_its_first_beat() -> None:
    world = JudgeWorld()
    await world.pass_time(5)
    world.reboot("h1")
    await world.until("h1", 5)
    assert [lease.why for lease in world.chains["ds"]][1:] == ["an earlier boot of h1 had it"]


async def test_a_paused_judge_that_wakes_up_does_not_judge_on_old_readings() -> None:
    world = JudgeWorld()
    await world.pass_time(5)
    world.paused = {"h1"}
    await world.until("h2", T + 3)
    assert not world.judges["h1"].primary.judges("ds")
    world.paused = set()
    for _ in range(10):
        assert world.judging() == ["h2"]
        await world.pass_time(1)
    told = world.judges["h1"].told()
    assert [e.kind for e in told] == ["ha.role-taken", "ha.role-left"]
    assert "h2 has it now" in told[-1].message


async def test_a_judge_stops_judging_at_the_latest_at_0_6_t_after_its_last_beat() -> None:
    world = JudgeWorld()
    await world.pass_time(5)
    world.nodes["h1"].mounts[0].fault = "hang"
    await world.pass_time(8)
    assert world.judging() == ["h1"]
    await world.pass_time(1)
    assert world.judging() == []
    await world.until("h2", T - 6)


async def test_beats_without_a_readable_lease_do_not_make_a_judge() -> None:
    world = JudgeWorld()
    await world.pass_time(5)
    roles = world.roles("h1")

    async def fail(vm: str) -> None:
        raise OSError("stale file handle")

    roles.read = fail  # type: ignore[method-assign]
    await world.pass_time(9)
    assert world.judging() == []
    await world.until("h2", T + 3)


async def test_an_outage_of_the_datastore_for_everybody_moves_no_role() -> None:
    world = JudgeWorld(hosts=4)
    await world.pass_time(5)
    for fault in ("error", "hang"):
        for node in world.nodes.values():
            node.mounts[0].fault = fault
        await world.pass_time(40)
        assert world.judging() == []
        for node in world.nodes.values():
            node.mounts[0].fault = ""
            for watch in node.beats._watches.values():
                watch.rounds.cut_off()  # as its deadline would
            for standing in world.judges[node.name].primary._standings.values():
                standing.rounds.cut_off()
        await world.pass_time(5)
        assert world.judging() == ["h1"]
    assert len(world.chains["ds"]) == 1


async def test_a_judge_that_finishes_no_rounds_loses_the_role_though_it_beats() -> None:
    world = JudgeWorld()
    await world.pass_time(5)
    world.judges["h1"].finishes_rounds = False
    assert T - 1 <= (await world.until("h2", T + 3)) <= T + 2
    await world.pass_time(30)
    assert world.judging() == ["h2"]


async def test_an_isolated_judge_gives_the_role_up() -> None:
    world = JudgeWorld()
    await world.pass_time(5)
    world.cut = {"h1"}
    world.nodes["h1"].is_isolated = True
    assert world.judging() == []
    await world.until("h2", 3)
    await world.pass_time(30)
    assert [(lease.state, lease.why) for lease in world.chains["ds"]][1] == ("released", "it is isolated")
    assert world.judging() == ["h2"]
    world.cut = set()
    world.nodes["h1"].is_isolated = False
    await world.pass_time(5)
    assert world.judging() == ["h2"]


async def test_an_isolated_judge_that_cannot_give_it_up_is_replaced_at_once() -> None:
    world = JudgeWorld()
    await world.pass_time(5)
    world.roles("h1").fails_claims = True
    world.cut = {"h1"}
    world.nodes["h1"].is_isolated = True
    await world.until("h2", 4)
    assert [e.kind for e in world.judges["h1"].told()] == ["ha.role-taken", "ha.role-left"]


@pytest.mark.parametrize("change", [{"is_in_maintenance": True}, {"role": Role.SECONDARY}])
async def test_a_judge_in_maintenance_or_demoted_hands_over(change: dict[str, object]) -> None:
    world = JudgeWorld(hosts=4)
    await world.pass_time(5)
    world.hosts[0] = world.hosts[0].model_copy(update=change)
    await world.until("h2", 3)
    await world.pass_time(10)
    assert world.judging() == ["h2"]


async def test_a_removed_judge_is_replaced_at_once() -> None:
    world = JudgeWorld()
    await world.pass_time(5)
    world.dead = {"h1"}
    world.hosts = world.hosts[1:]
    await world.until("h2", 3)


async def test_a_claim_whose_reply_was_lost_is_found_by_the_next_reading() -> None:
    world = JudgeWorld()
    world.roles("h1").loses_replies = True
    await world.until("h1", 4)
    assert len(world.chains["ds"]) == 1


async def test_each_datastore_has_a_judge_of_its_own() -> None:
    world = JudgeWorld(datastores=("a", "b"))
    await world.pass_time(5)
    assert (world.judging("a"), world.judging("b")) == (["h1"], ["h1"])
    world.nodes["h1"].mounts[1].fault = "hang"
    await world.pass_time(T + 4)
    assert (world.judging("a"), world.judging("b")) == (["h1"], ["h2"])
    assert world.judges["h3"].primary.holders() == {"h1", "h2"}
    world.nodes["h2"].mounts = world.nodes["h2"].mounts[:1]
    await world.pass_time(1)
    assert world.judging("b") == []


async def test_others_read_the_lease_seldom_while_they_see_the_holder_judge() -> None:
    world = JudgeWorld()
    await world.pass_time(5)
    before = {name: world.roles(name).reads for name in world.nodes}
    await world.pass_time(50)
    after = {name: world.roles(name).reads - before[name] for name in world.nodes}
    assert after == {"h1": 50, "h2": 10, "h3": 10}


async def test_the_judges_own_longer_t_counts() -> None:
    """A T that was lowered counts once the holder lives by it."""
    world = JudgeWorld()
    await world.pass_time(5)
    for name in ("h2", "h3"):
        world.nodes[name].detection_time_ms = 5000
    world.dead = {"h1"}
    await world.pass_time(T - 2)
    assert world.judging() == []
    await world.until("h2", 4)


async def test_a_stale_listing_gives_nobody_the_role_and_takes_it_from_nobody() -> None:
    world = JudgeWorld()
    await world.pass_time(5)
    world.roles("h1").stale = [None]
    await world.pass_time(1)
    assert world.judging() == ["h1"]
    world.paused = {"h1"}
    await world.until("h2", T + 3)
    world.paused = set()
    await world.pass_time(3)
    world.roles("h1").stale = [world.chains["ds"][0]] * 3
    for _ in range(10):
        await world.pass_time(1)
        assert world.judging() == ["h2"]
    assert [e.kind for e in world.judges["h1"].told()] == ["ha.role-taken", "ha.role-left"]


async def test_a_candidate_that_cannot_read_any_more_claims_nothing_by_what_it_saw() -> None:
    """Rank 4 waits four seconds; the holder goes on meanwhile, and nobody else gets a claim through."""
    world = JudgeWorld(hosts=6, primaries=6)
    await world.pass_time(5)
    for name in ("h2", "h3", "h4", "h5"):
        world.roles(name).fails_claims = True
    world.paused = {"h1"}
    last = world.judges["h6"].primary._standings["ds"]
    while last.free_since is None:
        await world.pass_time(1)
    world.paused = set()
    world.nodes["h6"].beats._judge = lambda *_: None  # type: ignore[method-assign]
    await world.pass_time(8)
    assert len(world.chains["ds"]) == 1
    assert world.judging() == ["h1"]


async def test_the_beat_of_an_earlier_boot_says_nothing_of_the_holder() -> None:
    world = JudgeWorld(hosts=2)
    await world.pass_time(5)
    seen = dict(world.nodes["h2"].beats.seen("ds"))
    before = seen["h1"].beat.model_copy(update={"boot_id": "earlier", "is_isolated": True, "judge_round": 0})
    seen["h1"] = seen["h1"]._replace(beat=before)
    world.nodes["h2"].beats._watches["ds"].seen = seen
    for _ in range(3):
        await world.judges["h2"].tick()
        await asyncio.sleep(0)
    assert world.roles("h2").claims == 0


async def test_a_candidate_that_was_paused_does_not_claim_by_what_it_saw_before() -> None:
    world = JudgeWorld()
    await world.pass_time(5)
    world.paused = {"h1", "h3"}
    world.dead = {"h2"}
    await world.pass_time(60)
    world.paused = set()
    await world.pass_time(10)
    assert world.judging() == ["h1"]
    assert len(world.chains["ds"]) == 1


def deafen(world: JudgeWorld, host: str) -> None:
    """Heartbeats to it are lost; an address outside the cluster answers it, so it is not isolated."""
    world.unheard = {(other, host) for other in world.nodes if other != host}


async def test_a_judge_that_hears_nobody_hands_over_to_those_that_hear_each_other() -> None:
    world = JudgeWorld()
    await world.pass_time(5)
    deafen(world, "h1")
    await world.pass_time(11)
    assert world.judging() == ["h1"]
    await world.until("h2", 5)
    assert world.chains["ds"][1].why == "it hears nobody, while others hear each other"
    await world.pass_time(40)
    assert world.judging() == ["h2"]
    world.unheard = set()
    await world.pass_time(20)
    assert world.judging() == ["h2"]


async def test_a_deaf_judge_of_two_hosts_keeps_the_role() -> None:
    world = JudgeWorld(hosts=2)
    await world.pass_time(5)
    deafen(world, "h1")
    await world.pass_time(60)
    assert world.judging() == ["h1"]


@pytest.mark.parametrize("why", ["dead", "isolated", "apart", "in maintenance"])
async def test_a_judge_that_hears_nobody_keeps_the_role_where_nobody_else_could_do_better(why: str) -> None:
    world = JudgeWorld()
    await world.pass_time(5)
    deafen(world, "h1")
    if why == "dead":
        world.dead = {"h2", "h3"}
    elif why == "isolated":
        world.nodes["h2"].is_isolated = world.nodes["h3"].is_isolated = True
    elif why == "apart":
        world.unheard |= {("h2", "h3")}
    else:
        world.hosts[1:] = [h.model_copy(update={"is_in_maintenance": True}) for h in world.hosts[1:]]
    await world.pass_time(60)
    assert world.judging() == ["h1"]
