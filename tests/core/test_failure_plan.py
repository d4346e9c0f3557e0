"""Plans: what is promised fits, host by host."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.loads import SIZES, VMS, load, record, some_load
from zugvogel.core.failure_plan import need_bytes, plan_failure
from zugvogel.domain.ha import RestartPriority
from zugvogel.errors import NotFound


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
