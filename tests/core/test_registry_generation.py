"""Which generation counts, and when etcd may be formed anew."""

from __future__ import annotations

import math
from itertools import product

import pytest

from zugvogel.core import registry_generation as generation
from zugvogel.core.member_changes import quorum
from zugvogel.core.registry_generation import BEHIND_S, Chain, Stance
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.lease import Holder, LeaseState

ME = Holder(host="h1", boot_id="b")


def datastore(name: str, added_at: str, *, is_shared: bool = True) -> Datastore:
    return Datastore(name=name, id=name, path=f"/{name}", kind="NFS v4", is_shared=is_shared, added_at=added_at)


def test_the_chain_lies_on_the_shared_datastore_added_first() -> None:
    local, old, new = datastore("a", "1", is_shared=False), datastore("z", "2"), datastore("b", "3")
    assert generation.place([new, local, old]) == old
    assert generation.place([local]) is None
    assert generation.place([]) is None


def test_a_chain_is_read_as_it_was_linked() -> None:
    assert generation.read(None) == Chain()
    first = generation.claim(Chain(), ME, 0, why="w")
    assert (first.vm, first.epoch, first.state, first.holder) == ("registry", 1, LeaseState.RUNNING, ME)
    chain = generation.read(first)
    assert chain == Chain(1, "h1", 0)
    second = generation.claim(chain, Holder(host="h2", boot_id="c"), 0, why="h1 died too soon")
    assert generation.read(second) == Chain(2, "h2", 0)
    assert generation.read(generation.give_up(chain, why="w")) == Chain(2, None, 0)
    assert generation.read(generation.carry_over(ME, 7)) == Chain(7, "h1", 7)


def test_stance() -> None:
    for own, has_data in product(range(4), (True, False)):
        for chain in (Chain(), Chain(own, "h2", own - 1), Chain(max(0, own - 1), "h1", 0)):
            assert generation.stance("h1", own, has_data=has_data, chain=chain) is Stance.CURRENT
    won = Chain(3, "h1", 2)
    assert generation.stance("h1", 2, has_data=True, chain=won) is Stance.MINE
    assert generation.stance("h1", 2, has_data=False, chain=won) is Stance.SUPERSEDED
    assert generation.stance("h1", 1, has_data=True, chain=won) is Stance.SUPERSEDED
    assert generation.stance("h2", 2, has_data=True, chain=won) is Stance.SUPERSEDED
    assert generation.stance("h1", 2, has_data=True, chain=Chain(3, None, 2)) is Stance.SUPERSEDED


@pytest.mark.parametrize("voters", range(1, 8))
def test_never_while_a_majority_has_not_failed_and_always_when_it_has(voters: int) -> None:
    for failed in range(voters):
        why = generation.why_not_reform(voters, [20.0] * failed, 20.0)
        if voters - failed >= quorum(voters):
            assert f"{voters - failed} of {voters} members are not failed" in why
        else:
            assert why == ""


def test_two_of_five_lost_is_no_reason_and_three_are() -> None:
    assert generation.why_not_reform(5, [20.0] * 2, 1.0)
    assert generation.why_not_reform(5, [20.0] * 3, 20.0) == ""
    assert generation.why_not_reform(2, [20.0], 20.0) == ""


def test_never_from_data_that_no_majority_has_confirmed() -> None:
    assert "since its agent started" in generation.why_not_reform(2, [20.0], None)
    assert "since its agent started" in generation.why_not_reform(2, [math.inf], None)


@pytest.mark.parametrize(
    ("failed_ages_s", "majority_age_s", "may"),
    [
        ((100.0, 100.0, 100.0), 100.0 + BEHIND_S, True),
        ((100.0, 100.0, 100.0), 101.0 + BEHIND_S, False),
        ((500.0, 100.0, 100.0), 101.0, True),
        ((900.0, 500.0, 100.0), 101.0, True),
        ((900.0, 500.0, 100.0), 505.0, False),  # there was a majority until 100 s ago, and this host was cut off
        ((900.0, 500.0, 100.0, 20.0), 101.0, True),  # the fourth died when there was none any more
        ((math.inf, math.inf, 100.0), 101.0, True),
    ],
)
def test_this_host_must_have_been_part_of_the_majority_until_its_end(
    failed_ages_s: tuple[float, ...], majority_age_s: float, may: bool
) -> None:
    assert (generation.why_not_reform(5, failed_ages_s, majority_age_s) == "") is may


def test_a_generation_whose_winner_died_is_taken_over_only_from_the_data_it_began_from() -> None:
    chain = Chain(3, "h2", 2)
    assert generation.why_not_take_over(2, chain, ["h2"], [2, 2]) == ""
    assert generation.why_not_take_over(2, Chain(4, None, 2), [], [2]) == ""
    assert "is not failed" in generation.why_not_take_over(2, chain, ["h3"], [2])
    assert "began from 2" in generation.why_not_take_over(1, chain, ["h2"], [1])
    assert "another host has" in generation.why_not_take_over(2, chain, ["h2"], [2, 3])


def test_unread_it_starts_only_when_every_other_primary_says_so() -> None:
    known = ["h2", "h3"]
    same = {"h2": (1, frozenset(known)), "h3": (0, frozenset({"h2"}))}
    assert generation.why_not_start_unread(1, known, same) == ""
    assert generation.why_not_start_unread(0, [], {}) == ""
    assert "h3 did not say" in generation.why_not_start_unread(1, known, {"h2": (1, frozenset())})
    assert "h2, h3 did not say" in generation.why_not_start_unread(1, known, {})
    assert "h2 has a newer" in generation.why_not_start_unread(0, known, same)
    stranger = {"h2": (1, frozenset({"h4"})), "h3": (1, frozenset())}
    assert "h4 did not say" in generation.why_not_start_unread(1, known, stranger)
