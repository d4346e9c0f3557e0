from __future__ import annotations

from typing import Any

import pytest

from tests.core.facts import status
from zugvogel.domain.host import HostStatus, Verdict
from zugvogel.services.ha.verdict_events import VerdictEvents

T = 15.0
KINDS = {
    Verdict.FAILED: "host.failed",
    Verdict.ISOLATED: "host.isolated",
    Verdict.PARTITIONED: "host.partitioned",
    Verdict.STORAGE_LOST: "host.storage-lost",
}


class Log:
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def emit(self, kind: str, subject: str, message: str, **_: Any) -> None:
        assert subject in message
        self.told.append((kind, subject))


def at(verdict: Verdict, age_s: float | None = 1.0) -> HostStatus:
    return status("h1", 1).model_copy(update={"verdict": verdict, "heartbeat_age_s": age_s, "why": "so it is"})


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def events(log: Log) -> VerdictEvents:
    found: Any = log
    return VerdictEvents("h2", found)


@pytest.mark.parametrize(("verdict", "kind"), list(KINDS.items()))
def test_each_change_is_told_once(events: VerdictEvents, log: Log, verdict: Verdict, kind: str) -> None:
    for now in (Verdict.LIVE, verdict, verdict, Verdict.LIVE, Verdict.LIVE):
        events.tell([at(now)], T)
    assert log.told == [(kind, "h1"), ("host.returned", "h1")]


def test_maintenance_is_no_news(events: VerdictEvents, log: Log) -> None:
    for now in (Verdict.LIVE, Verdict.MAINTENANCE, Verdict.LIVE):
        events.tell([at(now)], T)
    assert log.told == []


@pytest.mark.parametrize(("age_s", "is_told"), [(16.0, True), (59.0, True), (61.0, False), (None, False)])
def test_a_new_judge_tells_only_what_happened_lately(
    events: VerdictEvents, log: Log, age_s: float | None, is_told: bool
) -> None:
    events.tell([at(Verdict.FAILED, age_s)], T)
    assert bool(log.told) is is_told
    events.tell([at(Verdict.LIVE)], T)
    assert log.told[-1] == ("host.returned", "h1")


def test_one_that_judged_before_begins_anew(events: VerdictEvents, log: Log) -> None:
    events.tell([at(Verdict.LIVE)], T)
    events.forget()
    events.tell([at(Verdict.FAILED, 1000.0)], T)
    assert log.told == []


def test_a_host_that_joins_later_is_no_news_until_it_changes(events: VerdictEvents, log: Log) -> None:
    events.tell([], T)
    events.tell([at(Verdict.LIVE)], T)
    assert log.told == []
    events.tell([at(Verdict.FAILED)], T)
    assert log.told == [("host.failed", "h1")]
