from __future__ import annotations

import pytest

from zugvogel.core import protections
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.guard import GuardReport
from zugvogel.domain.ha import Proof

WELL = GuardReport(ticked_at=1.0, has_watchdog=True, is_realtime=True, is_memory_locked=True)


def test_a_guard_that_ticks_and_feeds_a_watchdog() -> None:
    guard, watchdog = protections.of_guard("host1", WELL, is_ticking=True)
    assert (guard.name, guard.subject, guard.is_present) == ("guard", "host1", True)
    assert "real time" in guard.why
    assert (watchdog.name, watchdog.is_present) == ("watchdog", True)


@pytest.mark.parametrize("report", [None, WELL])
def test_a_guard_that_does_not_tick_protects_nothing(report: GuardReport | None) -> None:
    found = protections.of_guard("host1", report, is_ticking=False)
    assert [p.is_present for p in found] == [False, False]


@pytest.mark.parametrize(
    ("lacks", "told"),
    [
        ({"is_realtime": False}, "without real-time priority"),
        ({"is_realtime": False, "is_memory_locked": False}, "without real-time priority and locked memory"),
        ({"trouble": "its orders cannot be read"}, "but its orders cannot be read"),
    ],
)
def test_what_a_guard_lacks_is_told(lacks: dict[str, object], told: str) -> None:
    guard, _ = protections.of_guard("host1", WELL.model_copy(update=lacks), is_ticking=True)
    assert guard.is_present
    assert told in guard.why


def test_without_a_watchdog_the_gap_is_named() -> None:
    report = WELL.model_copy(update={"has_watchdog": False})
    _, watchdog = protections.of_guard("host1", report, is_ticking=True)
    assert not watchdog.is_present
    assert "hangs as a whole" in watchdog.why


def test_of_a_host_that_cannot_be_asked_nothing_is_taken_as_there() -> None:
    found = protections.unknown("host9", "host9 is failed")
    assert {(p.name, p.is_present, p.why) for p in found} == {
        ("guard", False, "host9 is failed"),
        ("watchdog", False, "host9 is failed"),
    }


@pytest.mark.parametrize("has_fence", [True, False])
def test_a_fence(has_fence: bool) -> None:
    assert protections.of_fence("host1", has_fence).is_present is has_fence


@pytest.mark.parametrize("proof", list(Proof))
def test_image_locks_count_where_they_are_the_proof(proof: Proof) -> None:
    store = Datastore(name="nfs1", id="d", path="/srv/nfs1", kind="NFS v4", is_shared=True, proof=proof)
    (lock,) = protections.of_datastore(store)
    assert (lock.name, lock.subject, lock.is_present) == ("image lock", "nfs1", proof is Proof.LOCK)


def test_a_datastore_that_is_not_shared_is_told() -> None:
    store = Datastore(name="disk", id="d", path="/srv/disk", kind="ext4", is_shared=False)
    assert [(p.name, p.is_present) for p in protections.of_datastore(store)] == [
        ("image lock", True),
        ("shared storage", False),
    ]
