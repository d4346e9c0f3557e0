import asyncio
from collections.abc import Mapping, Sequence
from typing import cast

import pytest

from tests.services.liveness_world import Mount, World
from zugvogel.domain.datastore import Beat
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.beats import BeatService


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


async def test_a_beat_that_cannot_be_read_is_no_stillness_and_holds_up_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(hosts=3)
    await world.pass_time(2)
    beats, mount = world.nodes["h1"].beats, world.nodes["h1"].mounts[0]
    world.dead = {"h2", "h3"}
    await world.pass_time(8)
    mount.unreadable = {"h2"}
    await world.pass_time(10)
    assert beats.usable("ds") == (True, "")
    assert beats.seen("ds")["h2"].stillness.still_s == 7.0
    assert (beats.is_silent("ds", "h2"), beats.is_silent("ds", "h3")) == (False, True)
    assert [r.getMessage() for r in caplog.records] == [
        "the beat of h2 on datastore ds cannot be read here: it has an I/O error"
    ]
    mount.unreadable = set()
    await world.pass_time(15)
    assert not beats.is_silent("ds", "h2")  # it may have beaten meanwhile
    await world.pass_time(3)
    assert beats.is_silent("ds", "h2")


async def test_a_mark_may_be_as_young_as_the_end_of_the_reading_that_showed_it() -> None:
    world = World(hosts=2)
    await world.pass_time(3)
    h1 = world.nodes["h1"]
    read = h1.mounts[0].read_all

    async def slow() -> Mapping[str, Beat | str]:
        await world.clock.sleep(2.0)
        return await read()

    h1.mounts[0].read_all = slow  # type: ignore[method-assign]
    await h1.beats.tick()
    await world.nodes["h2"].beats.tick()
    for _ in range(5):
        await asyncio.sleep(0)
    seen = h1.beats.seen("ds")["h2"].stillness
    assert (seen.since, seen.seen_at) == (world.clock.now, world.clock.now)


async def test_a_host_that_judges_nobody_reads_beats_while_it_is_asked_for_them() -> None:
    world = World(hosts=2)
    reads_always = False
    mount = Mount("ds", world.files["ds"])
    beats = BeatService(
        "h3", "b", world.clock, datastores=lambda: cast(Sequence[MountedDatastore], [mount]),
        interval_s=lambda: 1.0, detection_time_ms=lambda: 15000, reads_always=lambda: reads_always,
    )  # fmt: skip

    async def pass_time(seconds: int) -> None:
        for _ in range(seconds):
            await world.pass_time(1)
            await beats.tick()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    await pass_time(3)
    assert beats.counters()
    assert beats.seen("ds") == {}
    await pass_time(5)
    world.dead = {"h2"}
    await pass_time(10)
    assert not beats.is_silent("ds", "h2")
    await pass_time(7)
    assert beats.is_silent("ds", "h2")
    await pass_time(70)
    assert beats.seen("ds") == {}  # what was read a minute ago tells nothing of now
    reads_always = True
    await pass_time(17)
    assert beats.is_silent("ds", "h2")


async def test_what_was_read_before_an_outage_says_of_nobody_that_it_is_silent() -> None:
    world = World(hosts=2)
    await world.pass_time(2)
    world.dead = {"h2"}
    await world.pass_time(18)
    h1 = world.nodes["h1"]
    assert h1.beats.is_silent("ds", "h2")
    h1.mounts[0].fault = "error"
    await world.pass_time(4)
    assert not h1.beats.is_silent("ds", "h2")


async def test_a_beat_of_a_large_cluster_fits_its_block_and_names_those_that_do_not_move() -> None:
    world = World(hosts=2)
    await world.pass_time(2)
    h1 = world.nodes["h1"]
    crowd = tuple(f"host-{i:03}" for i in range(500))
    h1.beats.hears = lambda: ("h2", *crowd)
    await world.pass_time(1)
    beat = world.files["ds"]["h1"]
    assert "host-000" in beat.hears
    assert "h2" not in beat.hears
    assert len(beat.model_dump_json()) < 4000
    assert Beat.model_validate_json(beat.model_dump_json()) == beat


async def test_a_beat_carries_the_round_of_judging() -> None:
    world = World(hosts=1)
    world.nodes["h1"].judge_round = lambda datastore: {"ds": 7}[datastore]
    await world.pass_time(1)
    assert world.files["ds"]["h1"].judge_round == 7


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


async def test_a_host_that_may_not_beat_writes_none_and_says_why() -> None:
    world = World(hosts=2)
    h1 = world.nodes["h1"]
    told: list[float] = []
    may = [True]
    h1.beats.may_write = lambda: (may[0], "" if may[0] else "the guard does not tick")
    h1.beats.on_good = lambda: told.append(h1.beats.good_times()["ds"])
    assert h1.beats.promised_ms() is None
    await world.pass_time(2)
    assert told == [world.clock.now - 1, world.clock.now]
    assert h1.beats.promised_ms() == 15000
    may[0], before = False, world.files["ds"]["h1"]
    await world.pass_time(2)
    assert world.files["ds"]["h1"] == before
    assert h1.beats.usable("ds") == (False, "the guard does not tick")
    assert len(told) == 2
    may[0] = True
    await world.pass_time(1)
    assert h1.beats.usable("ds") == (True, "")


async def test_silence_counts_from_a_reading_that_began_since() -> None:
    world = World(hosts=2)
    await world.pass_time(2)
    world.dead = {"h2"}
    await world.pass_time(18)
    beats, now = world.nodes["h1"].beats, world.clock.now
    assert beats.silent_since_reading("ds", "h2", now)
    assert not beats.silent_since_reading("ds", "h2", now + 0.1)
    world.clock.now += 0.1
    assert beats.is_silent("ds", "h2")
    assert not beats.silent_since_reading("ds", "h2", world.clock.now)
    await world.pass_time(1)
    assert beats.silent_since_reading("ds", "h2", now + 0.1)
    assert not beats.silent_since_reading("ds", "h3", now)
    world.dead = set()
    await world.pass_time(2)
    assert not beats.silent_since_reading("ds", "h2", now)


async def test_a_streak_of_beats_breaks_where_others_may_have_counted_the_host_as_dead() -> None:
    world = World(hosts=1)
    h1 = world.nodes["h1"]
    assert h1.beats.unbroken_since("ds") is None
    await world.pass_time(1)
    begun = world.clock.now
    await world.pass_time(20)
    assert h1.beats.unbroken_since("ds") == begun
    for pause_s, is_broken in ((8, False), (9, True)):  # 0.6 T is 9 s
        world.paused = {"h1"}
        await world.pass_time(pause_s - 1)
        world.paused = set()
        await world.pass_time(1)
        assert h1.beats.unbroken_since("ds") == (world.clock.now if is_broken else begun)


async def test_a_streak_breaks_by_the_detection_time_that_others_saw_and_by_when_the_beat_was_written() -> None:
    world = World(hosts=1)
    h1 = world.nodes["h1"]
    h1.detection_time_ms = 5000
    await world.pass_time(2)
    write = h1.mounts[0].write

    async def slow(beat: Beat) -> None:
        world.clock.now += 3.0
        await write(beat)

    h1.detection_time_ms = 15000
    h1.mounts[0].write = slow  # type: ignore[method-assign]
    world.clock.now += 0.5
    await h1.beats.tick()
    for _ in range(5):
        await asyncio.sleep(0)
    assert h1.beats.unbroken_since("ds") == world.clock.now


async def test_a_promise_of_a_guard_stands_until_a_beat_without_it_is_written() -> None:
    world = World(hosts=2)
    h1, h2 = world.nodes["h1"], world.nodes["h2"]
    promises = True
    h2.beats.may_promise = lambda: promises
    await world.pass_time(2)
    assert h1.beats.is_guarded("ds", "h2")
    assert not h1.beats.is_guarded("ds", "h1")
    assert not h1.beats.is_guarded("ds", "h3")
    assert (h1.beats.guards_promised(), h2.beats.guards_promised()) == (set(), {"ds"})
    promises = False
    h2.mounts[0].fault = "error"
    await world.pass_time(1)
    assert h2.beats.guards_promised() == {"ds"}
    h2.mounts[0].fault = ""
    await world.pass_time(2)
    assert h2.beats.guards_promised() == set()
    assert not h1.beats.is_guarded("ds", "h2")
    promises = True
    h2.mounts[0].fault = "error"  # it may have been written all the same
    await world.pass_time(1)
    assert h2.beats.guards_promised() == {"ds"}


async def test_a_shortened_detection_time_begins_no_count_anew() -> None:
    world = World(hosts=2)
    await world.pass_time(2)
    world.dead = {"h2"}
    await world.pass_time(18)
    h1 = world.nodes["h1"]
    h1.detection_time_ms = 4000  # readings are a second apart; from now on 0.8 s are a pause
    assert h1.beats.is_silent("ds", "h2")
    await world.pass_time(1)
    assert h1.beats.is_silent("ds", "h2")
    world.clock.now += 0.9
    assert h1.beats.is_silent("ds", "h2")
    await world.tick(h1)
    world.clock.now += 0.9
    await world.tick(h1)
    world.clock.now += 0.9
    assert not h1.beats.is_silent("ds", "h2")


async def test_a_beat_that_could_never_be_read_is_not_none() -> None:
    world = World(hosts=2)
    world.nodes["h1"].mounts[0].unreadable = {"h2"}
    await world.pass_time(20)
    beats = world.nodes["h1"].beats
    assert "h2" not in beats.seen("ds")
    assert not beats.shows_no_life("ds", "h2")
    assert beats.shows_no_life("ds", "h9")


async def test_of_a_host_without_a_beat_no_life_is_seen_while_beats_are_read() -> None:
    world = World(hosts=2)
    beats = world.nodes["h1"].beats
    assert not beats.shows_no_life("ds", "h9")
    await world.pass_time(3)
    assert beats.shows_no_life("ds", "h9")
    assert not beats.is_silent("ds", "h9")
    assert not beats.shows_no_life("ds", "h2")
    world.dead = {"h2"}
    await world.pass_time(15)
    assert not beats.shows_no_life("ds", "h2")
    await world.pass_time(3)
    assert beats.shows_no_life("ds", "h2")
    world.nodes["h1"].mounts[0].fault = "error"
    await world.pass_time(5)
    assert not beats.shows_no_life("ds", "h2")
    assert not beats.shows_no_life("ds", "h9")


def _earlier(counter: int, host: str = "h1") -> Beat:
    return Beat(host=host, boot_id="boot of before", counter=counter)


async def test_the_first_beat_of_a_boot_waits_until_nobody_else_writes_under_this_name() -> None:
    world = World(hosts=1)
    beats = world.nodes["h1"].beats
    world.files["ds"]["h1"] = _earlier(5)
    await world.pass_time(3)
    assert world.files["ds"]["h1"] == _earlier(5)
    assert beats.usable("ds") == (False, "whether another machine writes beats as h1 is looked at")
    assert not beats.has_begun()
    assert beats.own_age_s("ds") is None
    await world.pass_time(1)
    assert world.files["ds"]["h1"].boot_id == "boot-h1"
    assert beats.usable("ds") == (True, "")
    assert beats.has_begun()


async def test_an_agent_that_is_started_again_in_the_same_boot_does_not_wait() -> None:
    world = World(hosts=1)
    world.files["ds"]["h1"] = Beat(host="h1", boot_id="boot-h1", counter=5)
    await world.pass_time(1)
    assert world.nodes["h1"].beats.usable("ds") == (True, "")
    assert world.files["ds"]["h1"].counter > 5


async def test_another_machine_that_writes_under_this_name_is_told_and_its_beat_stays() -> None:
    world = World(hosts=1)
    beats = world.nodes["h1"].beats
    told: list[tuple[str, str]] = []
    beats.on_namesake = lambda datastore, boot_id: told.append((datastore, boot_id))
    for counter in range(5, 12):
        world.files["ds"]["h1"] = _earlier(counter)
        await world.pass_time(1)
    assert told[0] == ("ds", "boot of before")
    assert world.files["ds"]["h1"] == _earlier(11)
    assert beats.usable("ds") == (False, "another machine writes beats as h1 there")


async def test_a_file_of_its_own_that_cannot_be_read_is_no_proof_that_it_is_alone() -> None:
    world = World(hosts=1)
    beats, mount = world.nodes["h1"].beats, world.nodes["h1"].mounts[0]
    world.files["ds"]["h1"] = _earlier(5)
    mount.unreadable = {"h1"}
    await world.pass_time(6)
    assert world.files["ds"]["h1"] == _earlier(5)
    assert beats.usable("ds") == (False, "it has an I/O error")
    mount.unreadable = set()
    await world.pass_time(4)
    assert beats.usable("ds") == (True, "")


async def test_where_this_boot_is_heard_a_look_that_fails_holds_up_no_beat() -> None:
    world = World(hosts=1)
    beats, mount = world.nodes["h1"].beats, world.nodes["h1"].mounts[0]
    world.files["ds"]["h1"] = _earlier(5)
    beats.is_known = lambda: True
    alone: list[str] = []
    beats.on_alone = alone.append
    mount.unreadable = {"h1"}
    await world.pass_time(1)
    assert world.files["ds"]["h1"].boot_id == "boot-h1"
    assert (alone, beats.is_alone_on("ds")) == (["ds"], True)


async def test_it_is_told_once_that_nobody_else_beats_there_though_no_beat_may_be_written_yet() -> None:
    world = World(hosts=1)
    beats = world.nodes["h1"].beats
    world.files["ds"]["h1"] = _earlier(5)
    beats.may_write = lambda: (False, "the guard does not tick")
    alone: list[str] = []
    beats.on_alone = alone.append
    await world.pass_time(8)
    assert (alone, beats.is_alone()) == (["ds"], True)
    assert beats.usable("ds") == (False, "the guard does not tick")
    beats.may_write = lambda: (True, "")
    await world.pass_time(1)
    assert (alone, beats.usable("ds")) == (["ds"], (True, ""))
