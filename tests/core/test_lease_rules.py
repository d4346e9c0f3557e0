from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zugvogel.core import lease_rules
from zugvogel.domain.lease import Holder, Lease, LeaseState
from zugvogel.errors import Refused

A, B = Holder(host="a", boot_id="1"), Holder(host="b", boot_id="1")
A_REBOOTED = Holder(host="a", boot_id="2")


def lease(state: LeaseState = LeaseState.RUNNING, holder: Holder | None = A, heir: str | None = None) -> Lease:
    return Lease(vm="web", epoch=7, state=state, holder=holder, heir=heir, migration_id="m" if heir else "")


RELEASED = lease(LeaseState.RELEASED, None)
WITH_HEIR = lease(heir="b")


def start(judged: Lease | None, me: Holder = A, has_qemu: bool = False) -> Lease:
    return lease_rules.start(judged, "web", me, has_qemu=has_qemu, why="start")


def test_a_vm_without_a_lease_starts_with_epoch_1() -> None:
    assert start(None).epoch == 1


@pytest.mark.parametrize(("judged", "me"), [(RELEASED, B), (lease(), A), (lease(), A_REBOOTED)])
def test_start_claims_the_next_epoch(judged: Lease, me: Holder) -> None:
    claim = start(judged, me)
    assert (claim.epoch, claim.holder, claim.heir) == (8, me, None)


@pytest.mark.parametrize(
    ("judged", "me", "cause"),
    [
        (lease(), B, "held by a"),
        (lease(LeaseState.SUSPENDED), A, "suspended"),
        (WITH_HEIR, A, "migrated to b"),
        (WITH_HEIR, A_REBOOTED, "migrated to b"),
        (WITH_HEIR, B, "migrated to b"),
    ],
)
def test_start_is_refused(judged: Lease, me: Holder, cause: str) -> None:
    with pytest.raises(Refused, match=cause):
        start(judged, me)


def test_start_is_refused_while_a_qemu_exists_here() -> None:
    with pytest.raises(Refused, match="QEMU"):
        start(None, has_qemu=True)


def test_a_migration_names_an_heir_who_takes_over() -> None:
    named = lease_rules.name_heir(lease(), "web", A, "b", "m", why="")
    assert (named.epoch, named.holder, named.heir, named.migration_id) == (8, A, "b", "m")
    taken = lease_rules.take_over_by_heir(named, "web", B, "m", why="")
    assert (taken.epoch, taken.holder, taken.heir, taken.migration_id) == (9, B, None, "m")


def test_the_holder_drops_the_heir() -> None:
    alone = lease_rules.drop_heir(WITH_HEIR, "web", A, "m", why="")
    assert (alone.epoch, alone.holder, alone.heir) == (8, A, None)


def test_the_holder_may_go_on_alone_over_a_claim_that_may_still_come() -> None:
    alone = lease_rules.drop_heir(lease(), "web", A, "m", why="")
    assert (alone.epoch, alone.holder, alone.heir) == (8, A, None)


def test_release_of_a_lease_with_an_heir_needs_the_heir_excluded() -> None:
    with pytest.raises(Refused, match="migrated to b"):
        lease_rules.release(WITH_HEIR, "web", A, why="")
    freed = lease_rules.release(WITH_HEIR, "web", A, is_heir_excluded=True, why="")
    assert (freed.epoch, freed.state, freed.holder) == (8, LeaseState.RELEASED, None)


def test_a_rebooted_holder_may_release_but_not_migrate() -> None:
    assert lease_rules.release(lease(), "web", A_REBOOTED, why="").holder is None
    with pytest.raises(Refused, match="earlier boot"):
        lease_rules.name_heir(lease(), "web", A_REBOOTED, "b", "m", why="")


@pytest.mark.parametrize(
    "claim",
    [
        lambda: lease_rules.release(lease(), "web", B, why=""),
        lambda: lease_rules.release(RELEASED, "web", A, why=""),
        lambda: lease_rules.name_heir(lease(), "web", A, "a", "m", why=""),
        lambda: lease_rules.name_heir(WITH_HEIR, "web", A, "c", "n", why=""),
        lambda: lease_rules.drop_heir(WITH_HEIR, "web", A, "other", why=""),
        lambda: lease_rules.take_over_by_heir(WITH_HEIR, "web", B, "other", why=""),
        lambda: lease_rules.take_over_by_heir(lease(), "web", B, "m", why=""),
    ],
)
def test_what_is_not_theirs_is_refused(claim: Callable[[], Lease]) -> None:
    with pytest.raises(Refused):
        claim()


RULES: list[Callable[[Lease | None, Holder, Holder], Lease]] = [
    lambda seen, me, other: lease_rules.start(seen, "web", me, has_qemu=False, why=""),
    lambda seen, me, other: lease_rules.release(seen, "web", me, why=""),
    lambda seen, me, other: lease_rules.name_heir(seen, "web", me, other.host, "m", why=""),
    lambda seen, me, other: lease_rules.drop_heir(seen, "web", me, "m", why=""),
    lambda seen, me, other: lease_rules.take_over_by_heir(seen, "web", me, "m", why=""),
]


@given(
    st.lists(
        st.tuples(st.sampled_from([A, B, A_REBOOTED]), st.sampled_from(range(len(RULES))), st.integers(0, 5)),
        max_size=60,
    )
)
def test_claims_judged_from_any_stale_lease_never_give_two_winners_of_an_epoch(
    steps: list[tuple[Holder, int, int]],
) -> None:
    """Architecture, "The VM folder and the VM lease": a stale listing can only make a claim fail."""
    chain: list[Lease] = []
    for me, rule, staleness in steps:
        known = len(chain) - min(staleness, len(chain))
        seen = chain[known - 1] if known else None
        try:
            claim = RULES[rule](seen, me, B if me.host == "a" else A)
        except Refused:
            continue
        assert claim.epoch == known + 1
        if claim.epoch == len(chain) + 1:  # link(2) succeeds only where nothing is
            if chain and chain[-1].holder and claim.holder and claim.holder.host != chain[-1].holder.host:
                assert chain[-1].heir == claim.holder.host
            chain.append(claim)
    assert [entry.epoch for entry in chain] == list(range(1, len(chain) + 1))


def confirmed(judged: Lease | None, host: str, dead: frozenset[str]) -> Lease | None:
    return lease_rules.release_confirmed_dead(judged, "web", host, dead, why="confirmed")


@pytest.mark.parametrize(("judged", "host"), [(lease(), "a"), (WITH_HEIR, "a"), (WITH_HEIR, "b")])
def test_a_vm_of_dead_hosts_is_released_as_failed(judged: Lease, host: str) -> None:
    claim = confirmed(judged, host, frozenset("ab"))
    assert claim is not None
    assert (claim.epoch, claim.state, claim.holder, claim.heir) == (8, LeaseState.RELEASED, None, None)
    assert claim.is_failure


@pytest.mark.parametrize("judged", [None, RELEASED, lease(LeaseState.SUSPENDED), lease()])
def test_a_dead_host_that_has_no_part_in_a_vm_changes_nothing(judged: Lease | None) -> None:
    assert confirmed(judged, "c", frozenset("c")) is None


@pytest.mark.parametrize(("host", "other"), [("a", "b"), ("b", "a")])
def test_the_living_side_of_a_migration_settles_it(host: str, other: str) -> None:
    with pytest.raises(Refused, match=f"{other} may run it"):
        confirmed(WITH_HEIR, host, frozenset(host))


def test_a_thawed_holder_links_the_next_epoch_with_the_migration_it_was_in() -> None:
    goes_on = lease_rules.go_on(lease(), "web", A, why="")
    assert (goes_on.epoch, goes_on.holder, goes_on.heir, goes_on.migration_id) == (8, A, None, "")
    named = lease_rules.go_on(WITH_HEIR, "web", A, why="")
    assert (named.epoch, named.holder, named.heir, named.migration_id) == (8, A, "b", "m")
    claimed = lease_rules.take_over_by_heir(named, "web", B, "m", why="")
    assert (claimed.epoch, claimed.holder) == (9, B)


@pytest.mark.parametrize(
    ("judged", "me"),
    [(None, A), (RELEASED, A), (lease(LeaseState.SUSPENDED, None), A), (lease(), B), (lease(), A_REBOOTED)],
)
def test_nobody_else_goes_on_after_a_freeze(judged: Lease | None, me: Holder) -> None:
    with pytest.raises(Refused):
        lease_rules.go_on(judged, "web", me, why="")


def test_of_a_thawed_holder_and_a_failover_one_wins() -> None:
    failed_over = lease_rules.release_confirmed_dead(lease(), "web", "a", {"a"}, why="")
    assert failed_over is not None
    assert failed_over.epoch == lease_rules.go_on(lease(), "web", A, why="").epoch
