"""The source's side of a live migration as a table: which phase follows from what happened.

`step(record, event) -> (record, actions)` is pure. The service performs the actions in order and reports
what happened as the next event. The record is written to the vm's folder before the actions of a step,
except where the table says `in_blackout`. Any phase can be re-entered after a crash with `AgentRestarted`,
which carries what the adopted QEMU says of itself; that is the whole recovery.

::

    preparing ─TargetReady─▶ precopy ─SourceSwitched─▶ switched ─WordTaken─▶ handed-over ─TargetClaimed─▶ done
        │                      │                          │                      │
        └─TargetRefused        └─Failed / cancel ─▶ cancelling ─SourceRuns─▶ stayed
                                                          └─WordRefused─▶ cancelling

A phase that QEMU itself has left (it can complete while we order a cancel) is caught by the event that
says what QEMU did: `SourceSwitched` in `cancelling` goes forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from zugvogel.domain.migration import SourcePhase, SourceRecord


class Event(StrEnum):
    """What happened (past participles)."""

    TARGET_READY = "TargetReady"
    TARGET_REFUSED = "TargetRefused"
    FAILED = "Failed"
    CANCEL_REQUESTED = "CancelRequested"
    SOURCE_SWITCHED = "SourceSwitched"
    SOURCE_RUNS = "SourceRuns"
    SOURCE_DIED = "SourceDied"
    WORD_TAKEN = "WordTaken"
    WORD_REFUSED = "WordRefused"
    TARGET_CLAIMED = "TargetClaimed"
    TARGET_LOST = "TargetLost"


class Action(StrEnum):
    """What to do (imperatives)."""

    NAME_HEIR = "NameHeir"
    START_STREAM = "StartStream"
    CANCEL_STREAM = "CancelStream"
    ABORT_TARGET = "AbortTarget"
    GIVE_WORD = "GiveWord"
    AWAIT_CLAIM = "AwaitClaim"
    CONTINUE_SOURCE = "ContinueSource"
    DROP_HEIR = "DropHeir"
    QUIT_SOURCE = "QuitSource"
    RELEASE_LEASE = "ReleaseLease"
    ASK_TARGET = "AskTarget"


@dataclass(frozen=True, slots=True)
class Step:
    phase: SourcePhase
    actions: tuple[Action, ...] = ()
    in_blackout: bool = False


P, E, A = SourcePhase, Event, Action

_BACK = (A.ABORT_TARGET, A.DROP_HEIR)

TABLE: dict[tuple[SourcePhase, Event], Step] = {
    (P.PREPARING, E.TARGET_READY): Step(P.PRECOPY, (A.NAME_HEIR, A.START_STREAM)),
    (P.PREPARING, E.TARGET_REFUSED): Step(P.STAYED, _BACK),
    (P.PREPARING, E.FAILED): Step(P.STAYED, _BACK),
    (P.PREPARING, E.CANCEL_REQUESTED): Step(P.STAYED, _BACK),
    (P.PREPARING, E.SOURCE_DIED): Step(P.DIED, (A.ABORT_TARGET, A.RELEASE_LEASE)),
    (P.PREPARING, E.SOURCE_RUNS): Step(P.STAYED, _BACK),
    (P.PRECOPY, E.FAILED): Step(P.CANCELLING, (A.CANCEL_STREAM,)),
    (P.PRECOPY, E.CANCEL_REQUESTED): Step(P.CANCELLING, (A.CANCEL_STREAM,)),
    (P.PRECOPY, E.SOURCE_SWITCHED): Step(P.SWITCHED, (A.GIVE_WORD,), in_blackout=True),
    (P.PRECOPY, E.SOURCE_RUNS): Step(P.STAYED, _BACK),
    (P.PRECOPY, E.SOURCE_DIED): Step(P.SWITCHED, (A.ASK_TARGET,)),
    (P.CANCELLING, E.SOURCE_SWITCHED): Step(P.SWITCHED, (A.GIVE_WORD,), in_blackout=True),
    (P.CANCELLING, E.SOURCE_RUNS): Step(P.STAYED, _BACK),
    (P.CANCELLING, E.SOURCE_DIED): Step(P.DIED, (A.ABORT_TARGET, A.RELEASE_LEASE)),
    (P.SWITCHED, E.WORD_TAKEN): Step(P.HANDED_OVER, (A.AWAIT_CLAIM,)),
    (P.SWITCHED, E.WORD_REFUSED): Step(P.CANCELLING, (A.CONTINUE_SOURCE,)),
    (P.SWITCHED, E.SOURCE_DIED): Step(P.SWITCHED, (A.ASK_TARGET,)),
    (P.SWITCHED, E.TARGET_LOST): Step(P.DIED, (A.QUIT_SOURCE, A.RELEASE_LEASE)),
    (P.SWITCHED, E.TARGET_CLAIMED): Step(P.DONE, (A.QUIT_SOURCE,)),
    (P.HANDED_OVER, E.TARGET_CLAIMED): Step(P.DONE, (A.QUIT_SOURCE,)),
    (P.HANDED_OVER, E.TARGET_LOST): Step(P.DIED, (A.QUIT_SOURCE, A.RELEASE_LEASE)),
    (P.HANDED_OVER, E.WORD_REFUSED): Step(P.CANCELLING, (A.CONTINUE_SOURCE,)),
    (P.HANDED_OVER, E.SOURCE_DIED): Step(P.HANDED_OVER, (A.AWAIT_CLAIM,)),
}
"""`WordRefused` is the one way back from `switched` and `handed-over`: the target answered that its QEMU is
gone and that no `cont` was ever issued, so the source is the only one that can run. A source that dies while
it is being called off may have gone on by itself before, unseen: what the target loaded is old then, and is
never run."""

FINAL = frozenset({P.DONE, P.STAYED, P.DIED})


def step(record: SourceRecord, event: Event) -> tuple[SourceRecord, Step]:
    """The record after `event`, and what to do. Events that the table does not know in a phase change
    nothing: they are late (a cancel after the switchover, a second RESUME)."""
    found = TABLE.get((record.phase, event))
    if found is None:
        return record, Step(record.phase)
    return record.model_copy(update={"phase": found.phase}), found
