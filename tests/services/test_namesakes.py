"""zugvogel.services.namesakes: whose name this machine's is."""

from __future__ import annotations

import pytest

from tests.services.liveness_world import ManualClock
from zugvogel.domain.host import Host, Role
from zugvogel.errors import Refused, Unreachable
from zugvogel.services.namesakes import Namesakes

JOINED = "2026-01-02T10:00:00.500Z"


def known(joined_at: str, name: str = "h1") -> list[Host]:
    return [Host(name=name, address="192.0.2.11", role=Role.PRIMARY, ordinal=1, joined_at=joined_at)]


@pytest.mark.parametrize(
    ("joined_at", "hosts"),
    [
        (JOINED, known(JOINED)),
        (JOINED, known("2026-01-02T10:00:00+00:00")),
        (JOINED, []),
        (JOINED, known("2026-02-03T10:00:00Z", "h2")),
        ("", known(JOINED)),
        ("", known("")),
    ],
    ids=["itself", "an older registry", "not read yet", "another host", "own joining not known", "neither known"],
)
def test_it_is_still_that_host(joined_at: str, hosts: list[Host]) -> None:
    namesakes = Namesakes("h1", joined_at, lambda: hosts, ManualClock())
    assert namesakes.why() == ""
    namesakes.refuse()


def test_another_machine_joined_later_under_its_name() -> None:
    hosts = known(JOINED)
    namesakes = Namesakes("h1", JOINED, lambda: hosts, ManualClock())
    assert namesakes.why() == ""
    hosts = known("2026-02-03T10:00:00+00:00")
    assert "another machine joined the cluster as h1 at 2026-02-03T10:00:00+00:00" in namesakes.why()
    with pytest.raises(Refused, match="stands down") as refused:
        namesakes.refuse()
    assert "stop the agent here" in refused.value.next_step


def test_another_machine_that_beats_under_its_name_counts_until_the_agent_ends() -> None:
    namesakes = Namesakes("h1", JOINED, lambda: known(JOINED), ManualClock())
    namesakes.other_writes("san1", "b2")
    assert "another machine writes beats as h1 on datastore san1 (boot b2)" in namesakes.why()
    with pytest.raises(Refused, match="stands down") as refused:
        namesakes.refuse()
    assert "end the other one and restart the agent here, else stop" in refused.value.next_step


def test_it_is_silent_until_it_knows_that_it_is_alone() -> None:
    namesakes, is_alone = Namesakes("h1", JOINED, lambda: known(JOINED), clock := ManualClock()), False
    namesakes.is_alone, namesakes.patience_s = lambda: is_alone, lambda: 15.0
    for _ in range(4):
        assert not namesakes.may_speak()
        clock.now += 1.0
    with pytest.raises(Unreachable, match="h1 has just started"):
        namesakes.require()
    is_alone = True
    namesakes.require()
    is_alone = False  # by then it beats itself
    assert namesakes.may_speak()
    namesakes.other_writes("san1", "b2")
    with pytest.raises(Unreachable, match="another machine writes beats as h1"):
        namesakes.require()


def test_a_datastore_that_hangs_does_not_silence_it_for_ever() -> None:
    namesakes = Namesakes("h1", JOINED, lambda: known(JOINED), clock := ManualClock())
    namesakes.is_alone, namesakes.patience_s = lambda: False, lambda: 15.0
    assert not namesakes.may_speak()
    clock.now += 16.0
    assert namesakes.may_speak()
