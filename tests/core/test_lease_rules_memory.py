"""Leases of suspended vms: `running` -> `suspended` -> `resuming` -> `running`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zugvogel.core import lease_rules
from zugvogel.domain.lease import Holder, Lease, LeaseState
from zugvogel.errors import Refused

A = Holder(host="a", boot_id="1")
A_LATER = Holder(host="a", boot_id="2")
B = Holder(host="b", boot_id="1")
C = Holder(host="c", boot_id="1")
RUNNING = Lease(vm="web", epoch=4, state=LeaseState.RUNNING, holder=A)
SUSPENDED = lease_rules.suspend(RUNNING, "web", A, "m1", why="test")
RESUMING = lease_rules.begin_resume(SUSPENDED, "web", B, why="test")


def test_a_suspended_vm_is_held_by_nobody_and_names_its_memory() -> None:
    assert (SUSPENDED.epoch, SUSPENDED.state, SUSPENDED.holder) == (5, LeaseState.SUSPENDED, None)
    assert SUSPENDED.memory_id == "m1"


@pytest.mark.parametrize("me", [B, A_LATER])
def test_only_the_boot_that_holds_it_suspends_it(me: Holder) -> None:
    with pytest.raises(Refused):
        lease_rules.suspend(RUNNING, "web", me, "m1", why="test")


def test_a_vm_on_its_way_elsewhere_is_not_suspended() -> None:
    moving = lease_rules.name_heir(RUNNING, "web", A, "b", "m0", why="test")
    with pytest.raises(Refused):
        lease_rules.suspend(moving, "web", A, "m1", why="test")


@pytest.mark.parametrize("lease", [SUSPENDED, RESUMING])
def test_a_vm_with_saved_memory_is_not_booted(lease: Lease) -> None:
    with pytest.raises(Refused, match="resume"):
        lease_rules.start(lease, "web", A, has_qemu=False, why="test")


def test_it_is_loaded_by_one_host_at_a_time_unless_that_is_taken_over() -> None:
    with pytest.raises(Refused, match="b"):
        lease_rules.begin_resume(RESUMING, "web", C, why="test")
    taken = lease_rules.begin_resume(RESUMING, "web", C, is_takeover=True, why="test")
    assert (taken.epoch, taken.holder, taken.memory_id) == (7, C, "m1")
    with pytest.raises(Refused):
        lease_rules.run_resumed(taken, "web", B, "m1", why="test")


def test_only_who_loads_it_runs_it() -> None:
    runs = lease_rules.run_resumed(RESUMING, "web", B, "m1", why="test")
    assert (runs.epoch, runs.state, runs.holder, runs.memory_id) == (7, LeaseState.RUNNING, B, "")
    for lease, me, memory in ((SUSPENDED, B, "m1"), (RESUMING, C, "m1"), (RESUMING, B, "m2"), (None, B, "m1")):
        with pytest.raises(Refused):
            lease_rules.run_resumed(lease, "web", me, memory, why="test")


def test_what_was_not_loaded_is_given_back_by_any_boot_of_that_host() -> None:
    back = lease_rules.give_back(RESUMING, "web", Holder(host="b", boot_id="9"), why="test")
    assert (back.epoch, back.state, back.holder, back.memory_id) == (7, LeaseState.SUSPENDED, None, "m1")
    for lease, me in ((RESUMING, A), (SUSPENDED, B), (RUNNING, A)):
        with pytest.raises(Refused):
            lease_rules.give_back(lease, "web", me, why="test")


def test_only_suspended_memory_is_thrown_away() -> None:
    gone = lease_rules.discard(SUSPENDED, "web", why="test")
    assert (gone.state, gone.memory_id) == (LeaseState.RELEASED, "")
    for lease in (RUNNING, RESUMING, None):
        with pytest.raises(Refused):
            lease_rules.discard(lease, "web", why="test")


def test_going_on_after_a_suspend_that_failed_decides_against_its_own_late_claim() -> None:
    goes_on = lease_rules.keep_running(RUNNING, "web", A, why="test")
    assert (goes_on.epoch, goes_on.holder) == (SUSPENDED.epoch, A)
    with pytest.raises(Refused):
        lease_rules.keep_running(SUSPENDED, "web", A, why="test")


@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.sampled_from(["begin", "run", "back"])), max_size=40))
def test_of_all_who_resume_one_runs_it(steps: list[tuple[Holder, str]]) -> None:
    """Each host acts on the lease as it read it last; the chain takes one claim an epoch."""
    chain, seen = {SUSPENDED.epoch: SUSPENDED}, {h.host: SUSPENDED for h in (A, B, C)}
    ran: list[Holder] = []
    for me, what in steps:
        lease = seen[me.host]
        try:
            if what == "begin":
                claim = lease_rules.begin_resume(lease, "web", me, is_takeover=True, why="")
            elif what == "run":
                claim = lease_rules.run_resumed(lease, "web", me, "m1", why="")
            else:
                claim = lease_rules.give_back(lease, "web", me, why="")
        except Refused:
            seen[me.host] = chain[max(chain)]
            continue
        if claim.epoch in chain or claim.epoch < max(chain):
            seen[me.host] = chain[max(chain)]
            continue
        chain[claim.epoch] = seen[me.host] = claim
        if claim.state is LeaseState.RUNNING:
            ran.append(me)
    assert len(ran) <= 1
