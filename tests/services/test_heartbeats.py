from tests.services.liveness_world import World
from zugvogel.domain.host import Heartbeat


async def test_everybody_sends_to_the_primaries_and_only_to_them() -> None:
    world = World(hosts=4, primaries=2)
    await world.pass_time(1)
    assert sorted(world.sent) == [
        ("h1", "h2"), ("h2", "h1"), ("h3", "h1"), ("h3", "h2"), ("h4", "h1"), ("h4", "h2"),
    ]  # fmt: skip
    assert world.nodes["h1"].heartbeats.hears() == ("h2", "h3", "h4")
    assert world.nodes["h4"].heartbeats.hears() == ()


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
