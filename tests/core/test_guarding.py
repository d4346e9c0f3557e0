"""zugvogel.core.guarding"""

from __future__ import annotations

from itertools import product

import pytest

from zugvogel.core.guarding import (
    is_stale,
    is_watchdog_in_time,
    may_feed_watchdog,
    vms_to_freeze,
    watchdog_timeout_s,
)
from zugvogel.domain.guard import GuardedVm, GuardOrders

NOW = 1000.0
AFTER_S = 9.0
FRESH, LAST_MOMENT, DUE, OLD, FUTURE = NOW - 1, NOW - 8.99, NOW - 9.0, NOW - 500, NOW + 0.01
INSTANTS = (None, FRESH, LAST_MOMENT, DUE, OLD, FUTURE)
IS_LIFE = {None: False, FRESH: True, LAST_MOMENT: True, DUE: False, OLD: False, FUTURE: False}


def orders(
    a: float | None,
    b: float | None = None,
    heard_at: float | None = None,
    *,
    is_armed: bool = True,
    vms: str = "ab",
) -> GuardOrders:
    """One vm on each datastore named in `vms`."""
    good_at = {name: at for name, at in (("a", a), ("b", b)) if at is not None}
    guarded = tuple(GuardedVm(vm=f"on-{d}", pid=1, start=1, datastore=d) for d in vms)
    return GuardOrders(is_armed=is_armed, freeze_after_s=AFTER_S, good_at=good_at, heard_at=heard_at, vms=guarded)


@pytest.mark.parametrize(("a", "b", "is_armed"), list(product(INSTANTS, INSTANTS, (True, False))))
def test_each_vm_stands_still_by_its_own_datastore_alone(a: float | None, b: float | None, is_armed: bool) -> None:
    given = orders(a, b, is_armed=is_armed)
    expected = {f"on-{d}" for d, at in (("a", a), ("b", b)) if is_armed and not IS_LIFE[at]}
    assert {vm.vm for vm in vms_to_freeze(given, NOW)} == expected


@pytest.mark.parametrize("at", INSTANTS)
def test_no_beat_an_old_one_and_one_of_the_future_are_no_sign_of_life(at: float | None) -> None:
    assert is_stale(orders(at), "a", NOW) is not IS_LIFE[at]


def test_a_datastore_nobody_told_of_is_stale() -> None:
    assert is_stale(orders(FRESH), "c", NOW)


@pytest.mark.parametrize("heard_at", INSTANTS)
def test_heartbeats_do_not_keep_a_vm_running(heard_at: float | None) -> None:
    assert len(vms_to_freeze(orders(OLD, OLD, heard_at), NOW)) == 2


@pytest.mark.parametrize("is_armed", [True, False])
@pytest.mark.parametrize("vms", ["", "a", "b", "ab"])
def test_the_watchdog_goes_unfed_only_when_heartbeats_and_a_beat_under_a_vm_are_lost(
    is_armed: bool, vms: str
) -> None:
    for a, b, heard_at in product(INSTANTS, INSTANTS, INSTANTS):
        given = orders(a, b, heard_at, is_armed=is_armed, vms=vms)
        is_beat_lost = any(not IS_LIFE[at] for name, at in (("a", a), ("b", b)) if name in vms)
        is_unfed = is_armed and is_beat_lost and not IS_LIFE[heard_at]
        assert may_feed_watchdog(given, NOW) is not is_unfed, given


@pytest.mark.parametrize("detection_time_s", [3, 4, 5, 7.5, 10, 15, 30, 60, 120])
def test_the_watchdog_resets_the_host_before_others_take_over(detection_time_s: float) -> None:
    freeze_after_s = 0.6 * detection_time_s
    timeout_s = watchdog_timeout_s(freeze_after_s)
    assert is_watchdog_in_time(timeout_s, freeze_after_s)
    assert freeze_after_s + timeout_s < detection_time_s


@pytest.mark.parametrize(
    ("timeout_s", "is_in_time"), [(0, False), (1, True), (4, True), (6, True), (7, False), (60, False)]
)
def test_a_watchdog_that_takes_too_long_is_none(timeout_s: int, is_in_time: bool) -> None:
    assert is_watchdog_in_time(timeout_s, AFTER_S) is is_in_time
