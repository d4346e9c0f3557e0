"""Each change of the primaries is tied to what asked for it; what asked for one explains no other."""

from __future__ import annotations

import pytest

from zugvogel.domain.host import Host, Role
from zugvogel.sim.loop import Domain, VirtualLoop
from zugvogel.sim.role_watch import RoleWatch


class Cluster:
    """Seven hosts, of which the first five are primaries."""

    def __init__(self, first: str = "12345") -> None:
        self.silent: dict[str, float] = {}
        self.watch = RoleWatch(lambda host: self.silent.get(host, 0.0))
        self.in_maintenance: set[str] = set()
        self.at_first = self.becomes(first)

    def becomes(self, primaries: str, hosts: str = "1234567") -> list[str]:
        return list(
            self.watch.changed(
                [
                    Host(
                        name=f"h{number}", address="", ordinal=int(number), joined_at="",
                        role=Role.PRIMARY if number in primaries else Role.SECONDARY,
                        is_in_maintenance=number in self.in_maintenance,
                    )
                    for number in hosts
                ]
            )
        )  # fmt: skip

    def maintain(self, number: str) -> None:
        self.watch.into_maintenance(f"h{number}")
        self.in_maintenance.add(number)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def user() -> Domain:
    return Domain(VirtualLoop(), "an agent that is asked")


def test_the_first_five_are_the_first(cluster: Cluster) -> None:
    assert cluster.at_first == []
    assert "from the beginning" in Cluster("12346").at_first[0]


def test_a_failure_promotes_nobody(cluster: Cluster) -> None:
    assert "nothing was done" in cluster.becomes("12346")[0]


def test_maintenance_explains_its_own_change_and_no_other(cluster: Cluster) -> None:
    cluster.maintain("2")
    assert cluster.becomes("13456") == []
    assert "nothing was done" in cluster.becomes("13457")[0]


def test_maintenance_that_nobody_asked_for_explains_nothing(cluster: Cluster) -> None:
    cluster.in_maintenance.add("2")
    assert cluster.becomes("13456") != []


def test_maintenance_explains_one_place(cluster: Cluster) -> None:
    cluster.maintain("2")
    assert cluster.becomes("13567") != []


def test_a_place_may_be_handed_over_long_after_maintenance_was_asked_for(cluster: Cluster) -> None:
    cluster.maintain("2")
    assert cluster.becomes("12345") == []
    assert cluster.becomes("13457") == []


def test_reconfigure_explains_one_change_until_it_is_answered(cluster: Cluster, user: Domain) -> None:
    cluster.watch.reconfigure(user)
    assert cluster.becomes("34567") == []
    assert cluster.becomes("12345") != []
    cluster.watch.reconfigure(user)
    cluster.watch.answered(user)
    assert cluster.becomes("34567") != []


def test_reconfigure_that_ended_with_its_agent_explains_nothing(cluster: Cluster, user: Domain) -> None:
    cluster.watch.reconfigure(user)
    user.end()
    assert cluster.becomes("34567") != []


def test_the_adaptive_policy_replaces_who_is_silent_for_long(cluster: Cluster) -> None:
    cluster.watch.replace_after_s = 60.0
    cluster.silent["h2"] = 50.0
    assert cluster.becomes("13456") != []
    cluster.silent["h3"] = 60.0
    assert cluster.becomes("14567") == []


def test_nobody_becomes_a_primary_who_is_in_maintenance(cluster: Cluster) -> None:
    cluster.maintain("2")
    cluster.maintain("6")
    assert "h6 became a primary though it is in maintenance" in cluster.becomes("13456")[0]


def test_nobody_becomes_a_primary_who_is_dead(cluster: Cluster) -> None:
    cluster.maintain("2")
    cluster.silent["h6"] = 121.0
    assert "h6 became a primary though it has been silent" in cluster.becomes("13456")[0]


def test_places_that_are_lost_are_told(cluster: Cluster) -> None:
    cluster.maintain("2")
    assert "4 primaries left of 5" in cluster.becomes("1345")[0]


def test_a_host_that_is_removed_leaves_its_place_to_one(cluster: Cluster) -> None:
    assert cluster.becomes("1345", "134567") == []
    assert cluster.becomes("13456", "134567") == []


def test_more_than_five(cluster: Cluster) -> None:
    assert "6 primaries" in cluster.becomes("123456")[0]
