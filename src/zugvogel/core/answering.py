"""Whether the guest of a vm that high availability started again answers: how often it is looked, what counts, and
what is told. Nothing ever follows from it but words.

A guest answers when its agent does; when an address is learned from a MAC of it that was not known before its
QEMU began to run; or when one of its MACs answers an ARP probe of an address that was known. An address that was
learned earlier is no proof by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from zugvogel.domain.ha import AwaitedAnswer

PATIENCE_S = 600.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
SHARE = 0.1
"""Of what was waited so far, to the next look: a guest is found to answer at most so much later than it does."""


class Agent(StrEnum):
    """What is seen of the guest's agent."""

    ANSWERS = "its guest agent answers"
    MUTE = "its guest agent has its port open and says nothing"
    ABSENT = "no guest agent has its port open"
    UNASKED = "its guest agent could not be asked"


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a guest. `learned`: addresses that its MACs claimed for the first time since its QEMU runs.
    `probed`: those known before; `answered`: those of them that its MAC answers for."""

    agent: Agent
    has_nic: bool
    learned: tuple[str, ...] = ()
    probed: tuple[str, ...] = ()
    answered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answers:
    """`by`: "guest agent" or "address"."""

    by: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class LookAgain:
    pause_s: float


@dataclass(frozen=True, slots=True)
class Silent:
    """`tried` in words."""

    tried: str


@dataclass(frozen=True, slots=True)
class NotKnown:
    """Nothing could have told."""

    why: str


def decide(look: Look, waited_s: float) -> Answers | LookAgain | Silent | NotKnown:
    """`waited_s`: in pauses between looks so far."""
    if look.agent is Agent.ANSWERS:
        return Answers("guest agent")
    for address in (*look.answered, *look.learned):
        return Answers("address", address)
    if waited_s < PATIENCE_S:
        return LookAgain(pause_s(waited_s))
    if look.agent is Agent.ABSENT and not look.has_nic:
        return NotKnown("it has no network card, and no guest agent of it came")
    return Silent(_tried(look))


def pause_s(waited_s: float) -> float:
    return min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, SHARE * waited_s))


def _tried(look: Look) -> str:
    if not look.has_nic:
        return look.agent
    if look.probed:
        return (
            f"{look.agent}; {', '.join(look.probed)} does not answer ARP probes, and no other address was learned"
        )
    return f"{look.agent}; no address of it was learned"


# words -----------------------------------------------------------------------------------------------------


def since_failure_s(awaited: AwaitedAnswer, now: float) -> float | None:
    """None: not known when it failed."""
    return None if awaited.down_s is None else awaited.down_s + now - awaited.runs_since


def how_long(awaited: AwaitedAnswer, now: float) -> str:
    began = "resumed" if awaited.is_resume else "restarted"
    since = f"{now - awaited.runs_since:.0f} s after it was {began}"
    down_s = since_failure_s(awaited, now)
    return since if down_s is None else f"{down_s:.0f} s after it had failed, {since}"


def told_answers(vm: str, host: str, found: Answers, awaited: AwaitedAnswer, now: float) -> str:
    by = f"address {found.address}" if found.address else found.by
    return f"the guest of {vm} answers on {host} ({by}), {how_long(awaited, now)}"


def told_silent(vm: str, host: str, found: Silent, awaited: AwaitedAnswer, now: float) -> str:
    return (
        f"{vm} runs on {host}, but {how_long(awaited, now)} its guest has not answered: {found.tried}; nothing is "
        f"done about it, look at its screen: zv vm display {vm}, or zv vm console {vm}"
    )


def told_not_known(vm: str, host: str, found: NotKnown) -> str:
    return f"{vm} runs on {host}; whether its guest answers cannot be seen: {found.why}"


def told_waiting(vm: str, host: str, awaited: AwaitedAnswer, now: float) -> str:
    return f"{vm} runs on {host}; {how_long(awaited, now)} its guest has not answered yet, it is looked again"
