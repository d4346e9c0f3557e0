"""etcd's members follow the roles with a majority at every step."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zugvogel.core import member_changes
from zugvogel.core.member_changes import Standing, quorum
from zugvogel.core.roles import PRIMARIES
from zugvogel.domain.registry import Member

ALL = [f"h{n}" for n in range(1, 9)]


def member(name: str, *, is_learner: bool = False) -> Member:
    return Member(id=name[1:], name=name, peer_url=name, is_learner=is_learner)


def standing(
    voters: str | list[str], wanted: str | list[str], *, learner: str = "", dead: str = "", silent: str = ""
) -> Standing:
    """Names are their own peer URLs. `dead`: neither host nor member answers; `silent`: the member does not."""
    votes = voters.split() if isinstance(voters, str) else voters
    members = [*map(member, votes), *(member(n, is_learner=True) for n in learner.split())]
    gone = set(dead.split())
    return Standing(
        members=tuple(members),
        answering=frozenset({m.peer_url for m in members} - gone - set(silent.split())),
        wanted=frozenset(wanted.split() if isinstance(wanted, str) else wanted),
        ready=frozenset(set(ALL) - gone),
    )


def removed(s: Standing) -> str:
    found = member_changes.to_remove(s)
    return found.name if found else ""


@pytest.mark.parametrize("voters", range(1, 10))
def test_two_majorities_meet(voters: int) -> None:
    assert 2 * quorum(voters) > voters
    assert 2 * (quorum(voters) - 1) <= voters


def test_the_new_one_votes_before_the_old_one_leaves() -> None:
    s = standing("h1 h2 h3", "h1 h2 h4")
    assert removed(s) == ""
    assert member_changes.why_not_add(s, "h4") == ""
    s = standing("h1 h2 h3", "h1 h2 h4", learner="h4")
    assert removed(s) == ""
    assert member_changes.why_not_promote(s, "h4") == ""
    assert removed(standing("h1 h2 h3 h4", "h1 h2 h4")) == "h3"
    assert removed(standing("h1 h2 h4", "h1 h2 h4")) == ""


def test_a_member_leaves_though_its_successor_is_dead_but_never_the_last_one() -> None:
    assert removed(standing("h1 h2 h3", "h1 h2 h4", dead="h4")) == "h3"
    assert removed(standing("h1", "h4")) == ""
    assert removed(standing("h1", "h4", dead="h4")) == ""


def test_one_learner_at_a_time_and_only_primaries() -> None:
    s = standing("h1 h2", "h1 h2 h3 h4", learner="h3")
    assert "h3 is a learner" in member_changes.why_not_add(s, "h4")
    assert member_changes.why_not_add(s, "h3") == ""
    assert member_changes.why_not_add(s, "h5") == "it is no primary"
    assert member_changes.why_not_promote(s, "h4") == "it is no learner"
    assert member_changes.why_not_promote(standing("h1", "h1", learner="h3"), "h3") == "it is no primary"


def test_a_learner_that_is_dead_or_not_wanted_holds_nobody_up() -> None:
    assert removed(standing("h1 h2", "h1 h2 h3 h4", learner="h3", dead="h3")) == "h3"
    assert removed(standing("h1 h2", "h1 h2", learner="h3")) == "h3"
    assert removed(standing("h1 h2", "h1 h2 h3", learner="h3")) == ""


def test_a_sixth_voter_makes_the_unwanted_leave_before_a_seventh_is_added() -> None:
    s = standing("h1 h2 h3 h4 h5 h6", "h3 h4 h5 h6 h7")
    assert "leaves first" in member_changes.why_not_add(s, "h7")
    assert removed(s) == "h1"


def test_of_the_unwanted_the_silent_go_first() -> None:
    assert removed(standing("h1 h2 h3 h4 h5", "h3 h4 h5", silent="h2")) == "h2"


def test_without_a_majority_of_what_would_be_nothing_changes() -> None:
    assert "only 2 of 4" in member_changes.why_not_add(
        standing("h1 h2 h3 h4", "h1 h2 h3 h4 h5", dead="h1 h2"), "h5"
    )
    s = standing("h1 h2 h3", "h1 h2 h3 h4", learner="h4", silent="h1")
    assert member_changes.why_not_promote(s, "h4") == ""
    s = standing("h1 h2 h3", "h1 h2 h3 h4", learner="h4", silent="h1 h4")
    assert "only 2 of 4" in member_changes.why_not_promote(s, "h4")
    assert removed(standing("h1 h2 h3 h4", "h1 h2 h3", silent="h1 h2")) == ""
    assert removed(standing("h1 h2", "h1", silent="h1")) == ""


def test_every_set_of_voters_and_wanted_ends_as_wanted_one_step_at_a_time() -> None:
    """All of up to six hosts, live."""
    names = ALL[:6]
    sets = [list(c) for n in (1, 2, 3, 5) for c in combinations(names, n)]
    for voters in sets:
        for wanted in sets:
            _settle(voters, wanted, set())


def _settle(voters: list[str], wanted: list[str], dead: set[str]) -> list[str]:
    """As the hosts do it: who is wanted asks, the leader removes. Each step keeps a majority that answers."""
    s = standing(voters, wanted, dead=" ".join(dead))
    for _ in range(60):
        before = s
        members = list(s.members)
        if (gone := member_changes.to_remove(s)) is not None:
            members.remove(gone)
        else:
            members = _joined(s, members)
        s = Standing(tuple(members), frozenset({m.peer_url for m in members} - dead), s.wanted, s.ready)
        assert len(s.learners) <= 1
        assert len(s.voters) <= max(PRIMARIES + 1, len(voters))
        up = sum(m.peer_url in s.answering for m in s.voters)
        assert up >= quorum(len(s.voters)), (voters, wanted, dead, s)
        if s == before:
            break
    else:
        raise AssertionError(f"no end: {voters} {wanted} {dead}")
    if not dead:
        assert {m.name for m in s.members} == set(wanted), (voters, wanted)
    return [m.name for m in s.voters]


def _joined(s: Standing, members: list[Member]) -> list[Member]:
    for learner in s.learners:
        if learner.peer_url in s.answering and not member_changes.why_not_promote(s, learner.peer_url):
            members.remove(learner)
            return [*members, learner.model_copy(update={"is_learner": False})]
        return members
    for url in sorted(s.wanted & s.ready - {m.peer_url for m in members}):
        if not member_changes.why_not_add(s, url):
            return [*members, member(url, is_learner=True)]
    return members


names_ = st.sets(st.sampled_from(ALL), min_size=1, max_size=5)


@settings(max_examples=400)
@given(names_, names_, st.sets(st.sampled_from(ALL), max_size=3))
def test_with_dead_hosts_a_majority_answers_at_every_step(
    voters: set[str], wanted: set[str], dead: set[str]
) -> None:
    if len(voters - dead) < quorum(len(voters)):
        return
    after = set(_settle(sorted(voters), sorted(wanted), dead))
    assert after - dead >= (wanted & voters) - dead


def test_the_leader_hands_on_to_one_that_stays_and_answers() -> None:
    s = standing("h1 h2 h3 h4", "h3 h4", silent="h3")
    found = member_changes.next_leader(s, "1")
    assert found is not None
    assert found.name == "h4"
    assert member_changes.next_leader(standing("h1", "h1"), "1") is None
