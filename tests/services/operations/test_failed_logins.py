from __future__ import annotations

from tests.fakes.registry import MemoryRegistry
from tests.services.operations.hosts_with_users import SetClock
from zugvogel.domain.task import Event
from zugvogel.services.events import EventLog
from zugvogel.services.operations.failed_logins import UNKNOWN, FailedLogins


class Told:
    def __init__(self) -> None:
        self.clock = SetClock()
        self._events = EventLog("host1", MemoryRegistry(), self.clock)
        self.failed = FailedLogins(self._events, self.clock)

    async def of(self, subject: str) -> list[Event]:
        return await self._events.list(subject=subject)


async def test_a_guesser_is_told_of_a_few_times() -> None:
    told = Told()
    for _ in range(2500):
        told.failed.note("ada", "192.0.2.7")
    assert [e.evidence["count"] for e in await told.of("ada")] == [1, 10, 100, 1000]
    assert (await told.of("ada"))[-1].message == (
        "1000 logins failed within an hour: user ada, the last one from 192.0.2.7"
    )


async def test_whoever_makes_names_up_makes_no_more_events() -> None:
    told = Told()
    for _ in range(99):
        told.failed.note("", "192.0.2.7")
    assert [e.evidence["count"] for e in await told.of(UNKNOWN)] == [1, 10]


async def test_users_are_counted_apart_and_each_hour_anew() -> None:
    told = Told()
    told.failed.note("ada", "")
    told.failed.note("bob", "")
    told.clock.pass_by(minutes=59)
    told.failed.note("ada", "")
    assert len(await told.of("ada")) == 1
    assert len(await told.of("bob")) == 1
    told.clock.pass_by(minutes=1)
    told.failed.note("ada", "")
    assert [e.evidence["count"] for e in await told.of("ada")] == [1, 1]
