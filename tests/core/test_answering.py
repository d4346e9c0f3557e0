"""core.answering: when a guest that was started again answers, and how often it is looked."""

from __future__ import annotations

from itertools import pairwise

import pytest

from zugvogel.core import answering
from zugvogel.core.answering import PATIENCE_S, Agent, Answers, Look, LookAgain, NotKnown, Silent, decide
from zugvogel.domain.ha import AwaitedAnswer

A, B = "192.0.2.7", "192.0.2.8"


@pytest.mark.parametrize(
    ("look", "found"),
    [
        (Look(Agent.ANSWERS, has_nic=False), Answers("guest agent")),
        (Look(Agent.ANSWERS, has_nic=True, probed=(A,)), Answers("guest agent")),
        (Look(Agent.ABSENT, has_nic=True, learned=(B,), probed=(A,)), Answers("address", B)),
        (Look(Agent.MUTE, has_nic=True, probed=(A, B), answered=(B,)), Answers("address", B)),
        (Look(Agent.UNASKED, has_nic=True, probed=(A,), answered=(A,)), Answers("address", A)),
    ],
)
@pytest.mark.parametrize("waited_s", [0.0, 10 * PATIENCE_S])
def test_one_sign_is_enough_whenever_it_comes(look: Look, found: Answers, waited_s: float) -> None:
    assert decide(look, waited_s) == found


@pytest.mark.parametrize("agent", [Agent.ABSENT, Agent.MUTE, Agent.UNASKED])
@pytest.mark.parametrize("probed", [(), (A,)])
def test_an_address_that_was_known_before_is_no_sign(agent: Agent, probed: tuple[str, ...]) -> None:
    look = Look(agent, has_nic=True, probed=probed)
    assert isinstance(decide(look, 0.0), LookAgain)
    found = decide(look, PATIENCE_S)
    assert isinstance(found, Silent)
    assert str(agent) in found.tried
    assert (f"{A} does not answer" in found.tried) is bool(probed)


def test_pauses_grow_and_end() -> None:
    waited_s, pauses = 0.0, list[float]()
    while isinstance(found := decide(Look(Agent.ABSENT, has_nic=True), waited_s), LookAgain):
        pauses.append(found.pause_s)
        waited_s += found.pause_s
        assert len(pauses) < 1000
    assert isinstance(found, Silent)
    assert PATIENCE_S <= waited_s <= PATIENCE_S + answering.LONGEST_PAUSE_S
    assert all(before <= after for before, after in pairwise(pauses))
    assert (pauses[0], pauses[-1]) == (answering.FIRST_PAUSE_S, answering.LONGEST_PAUSE_S)
    assert len(pauses) < 70


@pytest.mark.parametrize(
    ("agent", "kind"), [(Agent.ABSENT, NotKnown), (Agent.MUTE, Silent), (Agent.UNASKED, Silent)]
)
def test_a_vm_without_a_card_and_without_an_agent_is_not_called_silent(agent: Agent, kind: type) -> None:
    assert type(decide(Look(agent, has_nic=False), PATIENCE_S)) is kind


def test_people_are_told_how_long_it_took_since_the_failure() -> None:
    awaited = AwaitedAnswer(runs_since=100.0, down_s=17.0)
    assert answering.since_failure_s(awaited, 112.0) == 29.0
    told = answering.told_answers("web", "h2", Answers("address", A), awaited, 112.0)
    assert (
        told
        == f"the guest of web answers on h2 (address {A}), 29 s after it had failed, 12 s after it was restarted"
    )
    resumed = AwaitedAnswer(runs_since=100.0, is_resume=True)
    assert answering.since_failure_s(resumed, 112.0) is None
    told = answering.told_answers("web", "h2", Answers("guest agent"), resumed, 112.0)
    assert told == "the guest of web answers on h2 (guest agent), 12 s after it was resumed"


def test_a_silent_one_is_told_with_what_was_tried_and_what_helps() -> None:
    told = answering.told_silent("web", "h2", Silent("no agent"), AwaitedAnswer(runs_since=0.0), 600.0)
    assert "600 s after it was restarted its guest has not answered: no agent; nothing is done about it" in told
    assert "zv vm console web" in told
