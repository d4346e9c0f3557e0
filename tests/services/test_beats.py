from tests.services.liveness_world import World


async def test_a_hung_datastore_holds_up_neither_the_loop_nor_the_other_datastore() -> None:
    world = World(hosts=2, datastores=("a", "b"))
    h1 = world.nodes["h1"]
    await world.pass_time(3)
    h1.mounts[0].fault = "hang"
    before = h1.beats.counters()
    await world.pass_time(5)
    after = h1.beats.counters()
    assert after["a"] == before["a"]
    assert after["b"] == before["b"] + 5000  # milliseconds of the clock
    assert h1.beats.usable("a") == (False, "it does not answer: the last beat is still under way")
    assert h1.beats.usable("b") == (True, "")


async def test_a_failing_datastore_is_unusable_with_its_cause_until_it_works_again() -> None:
    world = World(hosts=1)
    h1 = world.nodes["h1"]
    assert h1.beats.usable("ds") == (False, "no beat was written on it yet")
    await world.pass_time(1)
    assert h1.beats.usable("ds") == (True, "")
    h1.mounts[0].fault = "error"
    await world.pass_time(1)
    assert h1.beats.usable("ds") == (False, "the datastore is gone")
    assert h1.beats.own_age_s("ds") == 1.0
    h1.mounts[0].fault = ""
    await world.pass_time(1)
    assert h1.beats.usable("ds") == (True, "")


async def test_stillness_of_others_grows_only_while_own_rounds_succeed() -> None:
    world = World(hosts=2)
    await world.pass_time(2)
    h1 = world.nodes["h1"]
    assert h1.beats.seen("ds")["h1"].beat.hears == ("h2",)
    world.dead = {"h2"}
    await world.pass_time(5)
    # h1 reads before h2 writes, so it saw the last beat a second later
    assert h1.beats.seen("ds")["h2"].stillness.still_s == 4.0
    h1.mounts[0].fault = "error"
    await world.pass_time(2)
    assert h1.beats.seen("ds")["h2"].stillness.still_s == 4.0
    assert h1.beats.seen("ds")["h1"].beat.hears == ()


async def test_a_removed_datastore_is_forgotten() -> None:
    world = World(hosts=1, datastores=("a", "b"))
    h1 = world.nodes["h1"]
    h1.mounts[0].fault = "hang"
    await world.pass_time(1)
    h1.mounts = h1.mounts[1:]
    await world.pass_time(1)
    assert h1.beats.names() == ("b",)
    assert h1.beats.usable("a")[0] is False


async def test_a_round_under_way_counts_as_the_beats_latency() -> None:
    world = World(hosts=1)
    h1 = world.nodes["h1"]
    assert h1.beats.latency_s("ds") == 0.0
    await world.pass_time(2)
    assert h1.beats.latency_s("ds") < 1.0
    h1.mounts[0].fault = "hang"
    await world.pass_time(4)
    assert h1.beats.latency_s("ds") >= 3.0
    assert h1.beats.latency_s("other") == 0.0
