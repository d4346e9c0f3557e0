import pytest

from tests.services.liveness_world import World
from zugvogel.domain.host import Heartbeat, Role


async def test_everybody_sends_to_the_primaries_and_these_to_everybody() -> None:
    world = World(hosts=4, primaries=2)
    await world.pass_time(1)
    assert sorted(world.sent) == [
        ("h1", "h2"), ("h1", "h3"), ("h1", "h4"), ("h2", "h1"), ("h2", "h3"), ("h2", "h4"),
        ("h3", "h1"), ("h3", "h2"), ("h4", "h1"), ("h4", "h2"),
    ]  # fmt: skip
    assert world.nodes["h1"].heartbeats.hears() == ("h2", "h3", "h4")
    assert world.nodes["h4"].heartbeats.hears() == ("h1", "h2")


async def test_a_secondary_gets_signs_of_life_without_reports_and_asks_for_none() -> None:
    world = World(hosts=3, primaries=2)
    await world.pass_time(3)
    heard = world.nodes["h3"].heartbeats.heard("h1")
    assert heard is not None
    assert (heard.report, heard.heartbeat.digest, heard.heartbeat.hears) == (None, "", ())
    assert heard.heartbeat.sequence == 3
    assert world.calls == []


async def test_a_promoted_secondary_gets_reports_from_then_on() -> None:
    world = World(hosts=3, primaries=2)
    await world.pass_time(5)
    world.hosts[2] = world.hosts[2].model_copy(update={"role": Role.PRIMARY})
    await world.pass_time(2)
    heard = world.nodes["h3"].heartbeats.heard("h1")
    assert heard is not None
    assert heard.report == world.nodes["h1"].report
    assert heard.heartbeat.hears == ("h2", "h3")


@pytest.mark.parametrize("hosts", [10, 100, 500])
async def test_datagrams_grow_linearly_with_hosts(hosts: int) -> None:
    world = World(hosts=hosts, datastores=())
    await world.nodes["h1"].heartbeats.tick()
    await world.nodes[f"h{hosts}"].heartbeats.tick()
    sent = [sender for sender, _ in world.sent]
    assert (sent.count("h1"), sent.count(f"h{hosts}")) == (hosts - 1, 5)


async def test_when_anybody_was_heard_last() -> None:
    world = World(hosts=3, primaries=1)
    h2 = world.nodes["h2"].heartbeats
    assert h2.last_heard_at() is None
    await world.pass_time(3)
    assert h2.last_heard_at() == world.clock.now
    world.dead = {"h1"}
    await world.pass_time(7)
    assert h2.last_heard_at() == world.clock.now - 7


async def test_a_report_too_large_for_a_datagram_is_asked_for_once_per_change() -> None:
    world = World(hosts=2)
    world.drops_reports = True
    await world.pass_time(5)
    asked = [call for call in world.calls if call[2] == "report.get"]
    assert sorted(asked) == [("h1", "h2", "report.get"), ("h2", "h1", "report.get")]
    h2 = world.nodes["h2"]
    assert h2.report is not None
    h2.report = h2.report.model_copy(update={"reserved_cpus": 3})
    await world.pass_time(3)
    heard = world.nodes["h1"].heartbeats.heard("h2")
    assert heard is not None
    assert heard.report == h2.report
    assert len([call for call in world.calls if call[:2] == ("h1", "h2")]) == 2


async def test_a_report_in_a_datagram_needs_no_question() -> None:
    world = World(hosts=2)
    await world.pass_time(5)
    assert world.calls == []
    heard = world.nodes["h1"].heartbeats.heard("h2")
    assert heard is not None
    assert heard.report == world.nodes["h2"].report


async def test_a_report_that_cannot_be_fetched_is_asked_for_again() -> None:
    world = World(hosts=2)
    world.drops_reports = True
    h2 = world.nodes["h2"]
    report, h2.report = h2.report, None
    await world.pass_time(3)
    h2.report = report
    await world.pass_time(2)
    heard = world.nodes["h1"].heartbeats.heard("h2")
    assert heard is not None
    assert heard.report == report


async def test_strangers_and_removed_hosts_are_not_listened_to() -> None:
    world = World(hosts=3)
    h1 = world.nodes["h1"].heartbeats
    h1.receive(Heartbeat(host="stranger", boot_id="b", sequence=1, digest=""))
    assert h1.heard("stranger") is None
    await world.pass_time(2)
    world.hosts = world.hosts[:2]
    await world.pass_time(1)
    assert h1.heard("h3") is None


async def test_a_shortened_interval_is_no_pause_of_its_own() -> None:
    world = World(hosts=2)
    await world.pass_time(3)
    h1, interval_s = world.nodes["h1"].heartbeats, 0.333
    before = h1.listening_since
    h1._interval_s = h1._gaps._interval_s = lambda: interval_s
    await world.pass_time(1)
    assert h1.listening_since == before
    await world.pass_time(1)
    assert h1.listening_since == world.clock.now  # now it is one


async def test_silence_counts_from_the_last_heartbeat_or_from_when_it_listens() -> None:
    world = World(hosts=2)
    h1 = world.nodes["h1"].heartbeats
    assert h1.silence_s() == 0
    await world.pass_time(3)
    assert h1.silence_s() == 0
    world.dead = {"h2"}
    await world.pass_time(7)
    assert h1.silence_s() == 7
    world.paused = {"h1"}
    await world.pass_time(20)
    world.paused = set()
    await world.pass_time(2)
    assert h1.silence_s() == 1
