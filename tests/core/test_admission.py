"""Admission: what is promised fits, and what is refused has its reason."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.facts import GIB, definition
from tests.core.loads import SIZES, VMS, load, record, some_load
from zugvogel.core.admission import admit_steps, all_steps, capacity
from zugvogel.core.checks import MEMORY_OVERHEAD_BYTES
from zugvogel.core.failure_plan import Load, plan_failure
from zugvogel.core.placement import weigh
from zugvogel.domain.ha import RestartPriority
from zugvogel.domain.host import Verdict
from zugvogel.domain.vm import VmRecord
from zugvogel.errors import Refused

# capacity --------------------------------------------------------------------------------------------------


def test_two_equal_hosts_keep_half_free() -> None:
    found = capacity(load({"h1": [record("a", 4)], "h2": [record("b", 4)]}, {"h1": 16, "h2": 16}), 1)
    assert (found.used_bytes, found.free_bytes) == (8 * GIB, 8 * GIB)
    assert found.reserved_bytes == 16 * GIB
    assert found.is_met


def test_used_reserved_and_free_are_the_whole() -> None:
    found = capacity(load({"h1": [record("a", 5)]}, {"h1": 16, "h2": 8, "h3": 12}), 2)
    assert found.used_bytes + found.reserved_bytes + found.free_bytes == 36 * GIB


def test_without_a_level_nothing_is_reserved() -> None:
    found = capacity(load({"h1": [record("a", 5)]}, {"h1": 16, "h2": 8}), 0)
    assert (found.reserved_bytes, found.free_bytes, found.is_met) == (0, 19 * GIB, True)


def test_memory_that_is_enough_in_sum_but_on_no_host_is_told() -> None:
    """6 GiB are free, 2 on each of three hosts; the 4 GiB vm of the failed one fits on none."""
    vms = {"h1": [record("big", 4)], **{f"h{i}": [record(f"v{i}", 2, "disabled")] for i in (2, 3, 4)}}
    found = capacity(load(vms, {"h1": 4, "h2": 4, "h3": 4, "h4": 4}), 1)
    assert not found.is_met
    assert found.free_bytes == 0
    assert "big (4.00 GiB) would not fit on the others if h1 failed" in found.why


def test_a_level_that_leaves_no_host_is_not_met() -> None:
    found = capacity(load({}, {"h1": 8, "h2": 8}), 2)
    assert not found.is_met
    assert "would leave no other" in found.why


def test_hosts_that_can_take_nothing_are_not_counted() -> None:
    cluster = load({"h1": [record("a")]}, {"h1": 8, "h2": 8, "h3": 8})
    away = [
        s if s.host.name != "h3" else s.model_copy(update={"verdict": Verdict.FAILED}) for s in cluster.statuses
    ]
    assert capacity(Load(away, cluster.records), 1).used_bytes == 2 * GIB
    away[1] = away[1].model_copy(update={"host": away[1].host.model_copy(update={"is_in_maintenance": True})})
    assert not capacity(Load(away, cluster.records), 1).is_met


def test_vms_that_stay_down_reserve_nothing() -> None:
    cluster = load({"h1": [record("a", 6, "disabled")]}, {"h1": 8, "h2": 8})
    assert capacity(cluster, 1).is_met
    assert capacity(cluster, 1).free_bytes == 2 * GIB


# starting --------------------------------------------------------------------------------------------------


def admit(cluster: Load, vm: VmRecord, *hosts: str, level: int = 1) -> str:
    return all_steps(admit_steps(cluster, vm, hosts, level, f"zv vm start {vm.definition.name} --force"))


def test_a_start_that_breaks_it_is_refused_with_figures_that_do_not_contradict_it() -> None:
    """16 GiB are kept and 18 - 16 = 2 of them may be used, on one host or the other."""
    cluster = load({"h1": [record("a", 6)], "h2": [record("b", 8)]}, {"h1": 16, "h2": 16})
    with pytest.raises(Refused) as refused:
        admit(cluster, record("c", 4), "h1")
    for part in (
        "c has 3.94 GiB of memory, and the largest vm that may be started now has 1.94 GiB",
        "14.00 GiB are in use",
        "16.00 GiB are kept",
        "with c on h1 ",
    ):
        assert part in refused.value.cause
    assert "zv vm start c --force" in refused.value.next_step
    assert admit(cluster, record("c", 2), "h1") == "h1"
    assert admit(cluster, record("c", 4), "h1", level=0) == "h1"


def test_the_next_host_is_taken_where_the_first_would_break_it() -> None:
    """The vm of h3 needs h1: h2 is too small for it."""
    cluster = load({"h3": [record("a", 12)]}, {"h1": 16, "h2": 6, "h3": 12})
    with pytest.raises(Refused, match="with c on h1 "):
        admit(cluster, record("c", 5), "h1")
    assert admit(cluster, record("c", 5), "h1", "h2") == "h2"


def test_one_that_is_refused_for_something_else_than_its_size_is_told_so() -> None:
    cluster = load({"h1": [record("a", 1, group="db")]}, {"h1": 16, "h2": 16})
    with pytest.raises(Refused) as refused:
        admit(cluster, record("c", 1, group="db"), "h2")
    assert "c may not be started there, though a vm of up to" in refused.value.cause
    assert "same anti-affinity group db" in refused.value.cause


def test_where_nothing_may_be_started_this_is_said() -> None:
    with pytest.raises(Refused, match="and no vm may be started now"):
        admit(load({}, {"h1": 8}), record("c", 1), "h1")


# the largest -----------------------------------------------------------------------------------------------


def test_the_largest_vm_is_smaller_than_the_sum_of_what_is_free() -> None:
    """Four hosts of 8 GiB: 24 may be used, and no vm may have more than one host has."""
    found = capacity(load({}, {f"h{i}": 8 for i in range(1, 5)}), 1)
    assert found.free_bytes == 24 * GIB
    assert found.largest_bytes == 8 * GIB - MEMORY_OVERHEAD_BYTES
    assert capacity(load({}, {"h1": 8, "h2": 6}), 0).largest_bytes == 8 * GIB - MEMORY_OVERHEAD_BYTES


def test_where_nothing_is_free_there_is_no_largest() -> None:
    assert capacity(load({}, {"h1": 8}), 1).largest_bytes == 0
    assert capacity(load({}, {}), 0).largest_bytes == 0


@settings(max_examples=60, deadline=None)
@given(SIZES, VMS, st.integers(1, 2))
def test_a_vm_as_large_as_is_told_is_admitted_and_never_more_than_is_free(
    sizes: list[int], vms: list[tuple[int, float, RestartPriority, str]], level: int
) -> None:
    cluster = some_load(sizes, vms)
    found = capacity(cluster, level)
    assert 0 <= found.largest_bytes <= found.free_bytes
    if found.largest_bytes:
        made = definition(name="new", memory_bytes=found.largest_bytes, cpus=1, nics=())
        vm = VmRecord(definition=made, datastore="nfs1")
        fit = [c.host for c in weigh(made, "nfs1", (), cluster.targets()) if c.is_fit]
        assert admit(cluster, vm, *fit, level=level)


@settings(max_examples=100, deadline=None)
@given(SIZES, VMS, st.integers(1, 3))
def test_when_the_level_is_met_every_such_failure_has_a_complete_plan(
    sizes: list[int], vms: list[tuple[int, float, RestartPriority, str]], level: int
) -> None:
    cluster = some_load(sizes, vms)
    found = capacity(cluster, level)
    assert found.free_bytes >= 0
    if found.is_met:
        assert plan_failure(cluster, [f"h{i + 1}" for i in range(level)]).is_complete
        total = sum(s.report.facts.memory_total_bytes for s in cluster.statuses if s.report)
        assert found.used_bytes + found.reserved_bytes + found.free_bytes == total


def test_of_a_large_cluster_the_heaviest_failures_are_tried() -> None:
    vms = {f"h{i}": [record(f"v{i}", 2)] for i in range(1, 31)}
    cluster = load(vms, {f"h{i}": 4 for i in range(1, 31)})
    assert capacity(cluster, 4).is_met
    vms["h7"].append(record("huge", 3))
    assert not capacity(load(vms, {f"h{i}": 6 if i == 7 else 4 for i in range(1, 31)}), 4).is_met
