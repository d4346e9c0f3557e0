"""Admission: what is promised fits, host by host."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.facts import GIB, definition, status
from zugvogel.core.admission import Load, capacity, need_bytes, plan_failure, refuse_start
from zugvogel.core.checks import MEMORY_OVERHEAD_BYTES
from zugvogel.domain.ha import RestartPriority, VmPolicy
from zugvogel.domain.host import HostStatus, Verdict, VmReport
from zugvogel.domain.vm import VmRecord, VmState
from zugvogel.errors import NotFound, Refused

MIB = 1 << 20


def record(name: str, gib: float = 2, priority: str = "medium", group: str = "") -> VmRecord:
    policy = VmPolicy(restart_priority=RestartPriority(priority), anti_affinity=group)
    size = int(gib * GIB) - MEMORY_OVERHEAD_BYTES
    made = definition(name=name, memory_bytes=size, cpus=1, nics=(), ha=policy)
    return VmRecord(definition=made, datastore="nfs1", wanted="running", observed=VmState.RUNNING)


def host(name: str, gib: float, *vms: VmRecord) -> HostStatus:
    reports = tuple(
        VmReport(
            name=v.definition.name,
            state=VmState.RUNNING,
            epoch=1,
            memory_bytes=v.definition.memory_bytes,
            cpus=v.definition.cpus,
        )
        for v in vms
    )
    return status(name, int(name[1:]), vms=reports, memory_total_bytes=int(gib * GIB), cores=64)


def load(vms: dict[str, list[VmRecord]], sizes: dict[str, float]) -> Load:
    statuses = [host(name, gib, *vms.get(name, [])) for name, gib in sizes.items()]
    return Load(statuses, {v.definition.name: v for some in vms.values() for v in some})


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


def test_a_start_that_breaks_it_is_refused_with_the_figures() -> None:
    cluster = load({"h1": [record("a", 6)], "h2": [record("b", 8)]}, {"h1": 16, "h2": 16})
    with pytest.raises(Refused) as refused:
        refuse_start(cluster, record("c", 4), "h1", 1)
    for part in ("c needs 4.00 GiB", "2.00 GiB may still be used", "14.00 GiB are in use", "16.00 GiB are kept"):
        assert part in refused.value.cause
    assert "zv vm start c --force" in refused.value.next_step
    refuse_start(cluster, record("c", 2), "h1", 1)
    refuse_start(cluster, record("c", 4), "h1", 0)


# plans -----------------------------------------------------------------------------------------------------


def test_a_plan_says_who_goes_where_and_who_does_not_fit() -> None:
    vms = {"h1": [record("low", 4, "low"), record("high", 4, "high"), record("off", 1, "disabled")]}
    found = plan_failure(load(vms, {"h1": 16, "h2": 6}), ["h1"])
    assert [(p.vm, p.host) for p in found.placed] == [("high", "h2"), ("low", None), ("off", None)]
    assert "lacks 2.00 GiB" in found.placed[1].why
    assert "stays down" in found.placed[2].why
    assert not found.is_complete


def test_vms_of_a_group_are_kept_on_different_hosts() -> None:
    vms = {"h1": [record("a", 1, group="db")], "h2": [record("b", 1, group="db")]}
    found = plan_failure(load(vms, {"h1": 16, "h2": 16}), ["h1"])
    assert found.placed[0].host is None
    assert "has b of the same anti-affinity group db" in found.placed[0].why
    found = plan_failure(load(vms, {"h1": 16, "h2": 16, "h3": 4}), ["h1"])
    assert found.placed[0].host == "h3"


def test_a_host_that_is_not_there_is_told() -> None:
    with pytest.raises(NotFound, match="no host h9"):
        plan_failure(load({}, {"h1": 8}), ["h9"])


SIZES = st.lists(st.integers(1, 24), min_size=2, max_size=6)
VMS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from([0.25, 0.5, 1, 2, 3, 5, 8]),
        st.sampled_from(list(RestartPriority)),
        st.sampled_from(["", "", "", "g"]),
    ),
    max_size=16,
)


def some_load(sizes: list[int], vms: list[tuple[int, float, RestartPriority, str]]) -> Load:
    placed: dict[str, list[VmRecord]] = defaultdict(list)
    for number, (at, gib, priority, group) in enumerate(vms):
        placed[f"h{at % len(sizes) + 1}"].append(record(f"v{number}", gib, priority, group))
    return load(placed, {f"h{i + 1}": gib for i, gib in enumerate(sizes)})


@settings(max_examples=200, deadline=None)
@given(SIZES, VMS, st.sets(st.integers(1, 6), min_size=1, max_size=3))
def test_a_plan_never_claims_what_does_not_fit(
    sizes: list[int], vms: list[tuple[int, float, RestartPriority, str]], numbers: set[int]
) -> None:
    cluster = some_load(sizes, vms)
    failed = [f"h{n}" for n in sorted(numbers) if n <= len(sizes)]
    plan = plan_failure(cluster, failed)
    free = {s.host.name: s.report.facts.memory_total_bytes for s in cluster.statuses if s.report}
    groups: dict[str, set[str]] = defaultdict(set)
    for entry in cluster.statuses:
        for vm in cluster.on(entry.host.name):
            if entry.host.name not in failed:
                free[entry.host.name] -= need_bytes(vm.definition)
                groups[entry.host.name].add(vm.definition.ha.anti_affinity)
    room_before = dict(free)
    for placed in plan.placed:
        if placed.host is not None:
            assert placed.host not in failed
            assert placed.priority is not RestartPriority.DISABLED
            group = cluster.records[placed.vm].definition.ha.anti_affinity
            assert not group or group not in groups[placed.host]
            groups[placed.host].add(group)
            free[placed.host] -= placed.memory_bytes
    assert all(left >= 0 or room_before[name] < 0 for name, left in free.items())
    used = {p.host for p in plan.placed if p.host}
    assert all(free[name] >= 0 for name in used)
    expected = {v.definition.name for name in failed for v in cluster.on(name)}
    assert {p.vm for p in plan.placed} == expected
    left = [p for p in plan.placed if p.host is None and p.priority is not RestartPriority.DISABLED]
    assert plan.is_complete is not bool(left)


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
