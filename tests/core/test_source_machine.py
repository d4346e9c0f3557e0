"""The source's table: invariants of live migration over every sequence of events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zugvogel.core.source_machine import FINAL, TABLE, Action, Event, step
from zugvogel.domain.migration import SourcePhase, SourceRecord


def record(phase: SourcePhase = SourcePhase.PREPARING) -> SourceRecord:
    return SourceRecord(id="m1", task="m1", vm="web1", source="a", target="b", phase=phase, epoch=3)


def run(events: list[Event]) -> tuple[SourceRecord, list[Action]]:
    now = record()
    done: list[Action] = []
    for event in events:
        now, found = step(now, event)
        done += found.actions
    return now, done


def test_the_good_course() -> None:
    now, done = run([Event.TARGET_READY, Event.SOURCE_SWITCHED, Event.WORD_TAKEN, Event.TARGET_CLAIMED])
    assert now.phase is SourcePhase.DONE
    assert done == [
        Action.NAME_HEIR,
        Action.START_STREAM,
        Action.GIVE_WORD,
        Action.AWAIT_CLAIM,
        Action.QUIT_SOURCE,
    ]


def test_a_cancel_that_qemu_overtakes_goes_forward() -> None:
    now, done = run([Event.TARGET_READY, Event.CANCEL_REQUESTED, Event.SOURCE_SWITCHED, Event.WORD_TAKEN])
    assert now.phase is SourcePhase.HANDED_OVER
    assert Action.CONTINUE_SOURCE not in done


def test_a_refused_word_lets_the_source_go_on() -> None:
    now, done = run([Event.TARGET_READY, Event.SOURCE_SWITCHED, Event.WORD_REFUSED, Event.SOURCE_RUNS])
    assert now.phase is SourcePhase.STAYED
    assert done[-3:] == [Action.CONTINUE_SOURCE, Action.ABORT_TARGET, Action.DROP_HEIR]


@given(st.lists(st.sampled_from(list(Event)), max_size=12))
def test_after_the_word_was_taken_the_source_never_continues_unless_the_target_refuses_it(
    events: list[Event],
) -> None:
    """The target's refusal says that no `cont` was ever issued and that its QEMU is gone."""
    now, is_taken = record(), False
    for event in events:
        now, found = step(now, event)
        is_taken = is_taken and event is not Event.WORD_REFUSED
        if is_taken:
            assert Action.CONTINUE_SOURCE not in found.actions
            assert Action.DROP_HEIR not in found.actions
        is_taken = is_taken or now.phase is SourcePhase.HANDED_OVER


@given(st.lists(st.sampled_from(list(Event)), max_size=12))
def test_the_source_quits_only_when_the_target_claimed_or_the_vm_is_lost(events: list[Event]) -> None:
    now = record()
    for event in events:
        now, found = step(now, event)
        if Action.QUIT_SOURCE in found.actions:
            assert event in {Event.TARGET_CLAIMED, Event.TARGET_LOST}


@given(st.lists(st.sampled_from(list(Event)), max_size=12), st.sampled_from(list(Event)))
def test_final_phases_are_final(events: list[Event], more: Event) -> None:
    now, _ = run(events)
    if now.phase in FINAL:
        assert step(now, more) == (now, step(now, more)[1])
        assert step(now, more)[1].actions == ()


def test_every_phase_that_is_not_final_has_a_way_on_when_the_source_dies() -> None:
    for phase in SourcePhase:
        if phase not in FINAL:
            assert (phase, Event.SOURCE_DIED) in TABLE


def test_only_the_switchover_is_in_the_blackout() -> None:
    inside = {key for key, found in TABLE.items() if found.in_blackout}
    assert inside == {
        (SourcePhase.PRECOPY, Event.SOURCE_SWITCHED),
        (SourcePhase.CANCELLING, Event.SOURCE_SWITCHED),
    }
