"""zugvogel.services.replaced: whose name this machine's is."""

from __future__ import annotations

import pytest

from zugvogel.domain.host import Host, Role
from zugvogel.errors import Refused
from zugvogel.services.replaced import Replaced

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
    replaced = Replaced("h1", joined_at, lambda: hosts)
    assert replaced.why() == ""
    replaced.refuse()


def test_another_machine_joined_later_under_its_name() -> None:
    hosts = known(JOINED)
    replaced = Replaced("h1", JOINED, lambda: hosts)
    assert replaced.why() == ""
    hosts = known("2026-02-03T10:00:00+00:00")
    assert "another machine joined the cluster as h1 at 2026-02-03T10:00:00+00:00" in replaced.why()
    with pytest.raises(Refused, match="stands down") as refused:
        replaced.refuse()
    assert "stop the agent here" in refused.value.next_step
