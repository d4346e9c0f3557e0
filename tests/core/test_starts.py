from __future__ import annotations

from tests.core.facts import GIB
from tests.core.loads import host, record
from zugvogel.core.checks import free_memory_bytes
from zugvogel.core.starts import Begun, as_begun, is_seen
from zugvogel.domain.host import HostReport, HostStatus


def starting(status: HostStatus, *names: str, reserved_gib: float = 0) -> HostStatus:
    assert status.report is not None
    fields = {"starting": names, "reserved_bytes": int(reserved_gib * GIB), "reserved_cpus": len(names)}
    return status.model_copy(update={"report": status.report.model_copy(update=fields)})


def report(status: HostStatus) -> HostReport:
    assert status.report is not None
    return status.report


def names(status: HostStatus) -> list[str]:
    return [vm.name for vm in report(status).vms]


def test_what_a_host_starts_counts_as_running_there_and_only_once() -> None:
    one = starting(host("h1", 16, record("a")), "b", reserved_gib=5)  # 2 for b, 3 for one that comes by a move
    (found,) = as_begun([one], {"b": record("b")})
    assert names(found) == ["a", "b"]
    assert report(found).reserved_bytes == 3 * GIB
    assert free_memory_bytes(report(found)) == free_memory_bytes(report(one)) == 9 * GIB
    assert report(found).reserved_cpus == 0
    assert as_begun([found], {"b": record("b")}) == [found]


def test_a_start_its_host_does_not_tell_of_yet_takes_room() -> None:
    one, two = host("h1", 16, record("a")), host("h2", 16)
    found = as_begun([one, two], {}, [Begun(record("b"), "h1"), Begun(record("c"), "h1")])
    assert (names(found[0]), free_memory_bytes(report(found[0]))) == (["a", "b", "c"], 10 * GIB)
    assert found[1] is two


def test_one_that_is_told_of_meanwhile_is_not_counted_twice() -> None:
    running, begun = host("h1", 16, record("a")), starting(host("h1", 16), "a", reserved_gib=2)
    for told in (running, begun):
        (found,) = as_begun([told], {"a": record("a")}, [Begun(record("a"), "h1")])
        assert (names(found), free_memory_bytes(report(found))) == (["a"], 14 * GIB)
        assert is_seen(told, "a")
    assert not is_seen(running, "b")


def test_a_host_without_a_report_stays_as_it_is() -> None:
    silent = host("h1", 16).model_copy(update={"report": None})
    assert as_begun([silent], {}, [Begun(record("a"), "h1")]) == [silent]
    assert not is_seen(silent, "a")


def test_one_that_is_not_known_here_keeps_its_room() -> None:
    one = starting(host("h1", 16), "new", reserved_gib=2)
    (found,) = as_begun([one], {})
    assert (names(found), free_memory_bytes(report(found))) == ([], 14 * GIB)
