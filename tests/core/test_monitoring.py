"""zugvogel.core.monitoring"""

from __future__ import annotations

from dataclasses import replace

import pytest

from zugvogel.core.monitoring import Limits, Policy, Pulse, RestartVm, Trouble, at_next_start, covers, decide
from zugvogel.domain.ha import Monitoring

POLICY = Policy(is_enabled=True, is_protected=True, level=Monitoring.GUEST, max_restarts=3, window_s=3600.0)
LIMITS = Limits(failure_interval_s=30.0, quiet_interval_s=120.0)


@pytest.mark.parametrize("trouble", Trouble)
@pytest.mark.parametrize("level", Monitoring)
@pytest.mark.parametrize("is_enabled", [True, False])
@pytest.mark.parametrize("is_protected", [True, False])
@pytest.mark.parametrize("earlier", range(5))
def test_restarted_only_where_everything_asks_for_it(
    trouble: Trouble, level: Monitoring, is_enabled: bool, is_protected: bool, earlier: int
) -> None:
    policy = replace(POLICY, is_enabled=is_enabled, is_protected=is_protected, level=level)
    found = decide(trouble, policy, [1000.0 + n for n in range(earlier)], 2000.0)
    expected = is_enabled and is_protected and covers(level, trouble) and earlier < 3
    assert isinstance(found, RestartVm) is expected
    assert found.why


def test_what_each_level_covers() -> None:
    covered = {level: {t for t in Trouble if covers(level, t)} for level in Monitoring}
    assert covered[Monitoring.OFF] == set()
    assert covered[Monitoring.CRASH] == {Trouble.PANICKED, Trouble.CRASHED}
    assert covered[Monitoring.GUEST] == set(Trouble)


def test_restarts_outside_the_window_do_not_count() -> None:
    assert isinstance(decide(Trouble.PANICKED, POLICY, [0.0, 1.0, 2.0], 3602.0), RestartVm)
    left = decide(Trouble.PANICKED, POLICY, [0.0, 1.0, 2.5], 3599.0)
    assert "3 times within 3600 s" in left.why
    assert "maxfailures" in left.why


def test_a_change_says_what_waits_for_the_next_start() -> None:
    assert at_next_start(Monitoring.CRASH, Monitoring.GUEST) == "it gets its watchdog at its next start"
    assert at_next_start(Monitoring.OFF, Monitoring.GUEST) == (
        "it gets its panic device and watchdog at its next start"
    )
    assert at_next_start(Monitoring.OFF, Monitoring.CRASH) == "it gets its panic device at its next start"
    for before, after in [("guest", "crash"), ("guest", "off"), ("crash", "off"), ("crash", "crash")]:
        assert at_next_start(Monitoring(before), Monitoring(after)) == ""


# the guest's agent -----------------------------------------------------------------------------------------


def test_a_guest_is_dead_when_it_was_heard_and_is_silent_and_quiet_for_long_enough() -> None:
    pulse = Pulse().answered(100.0)
    pulse = pulse.unanswered(7, 110.0)
    for now in range(110, 230, 10):
        pulse = pulse.unanswered(7, float(now))
        assert not pulse.is_dead(LIMITS, float(now)), now
    assert pulse.unanswered(7, 230.0).is_dead(LIMITS, 230.0)


def test_one_that_was_never_heard_is_never_missed() -> None:
    pulse = Pulse()
    for now in range(0, 10_000, 100):
        pulse = pulse.unanswered(0, float(now))
        assert not pulse.is_dead(LIMITS, float(now))


def test_any_use_of_disk_or_network_keeps_it_alive() -> None:
    pulse = Pulse().answered(0.0)
    for now in range(10, 1000, 10):
        pulse = pulse.unanswered(now // 100, float(now))  # counts on once in 100 s
        assert not pulse.is_dead(LIMITS, float(now)), now


def test_counters_that_begin_anew_count_as_use() -> None:
    pulse = Pulse().answered(0.0).unanswered(50, 10.0)
    assert not pulse.unanswered(3, 130.0).is_dead(LIMITS, 130.0)


def test_an_answer_begins_anew() -> None:
    pulse = Pulse().answered(0.0).unanswered(7, 10.0).answered(200.0)
    assert not pulse.is_dead(LIMITS, 200.0)
    assert not pulse.unanswered(7, 210.0).is_dead(LIMITS, 300.0)


def test_an_agent_that_was_ended_is_not_missed_until_it_has_answered_again() -> None:
    pulse = Pulse().answered(0.0).unanswered(7, 10.0).closed()
    for now in range(20, 2000, 10):
        pulse = pulse.unanswered(7, float(now))
        assert not pulse.is_dead(LIMITS, float(now))


def test_time_in_which_it_could_not_answer_does_not_count() -> None:
    pulse = Pulse().answered(0.0).unanswered(7, 10.0).rested(500.0)
    pulse = pulse.unanswered(7, 510.0)
    assert not pulse.is_dead(LIMITS, 629.0)
    assert pulse.is_dead(LIMITS, 630.0)
    assert Pulse().rested(500.0) == Pulse()


def test_without_the_look_at_its_input_and_output_silence_is_enough() -> None:
    limits = Limits(failure_interval_s=30.0, quiet_interval_s=0.0)
    pulse = Pulse().answered(0.0).unanswered(1, 10.0)
    assert not pulse.is_dead(limits, 29.0)
    assert pulse.unanswered(2, 30.0).is_dead(limits, 30.0)
