"""Moves of which one side is dead: services.migration.actions on the source, .incoming on the target."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.core.facts import definition
from tests.services.ha.held_world import ME, HeldHost
from tests.services.migration.test_frozen import Target, target
from zugvogel.core.source_machine import Event
from zugvogel.domain.migration import TargetPhase
from zugvogel.errors import NotFound, Refused, Unreachable
from zugvogel.ports.hypervisor import Machine
from zugvogel.services.migration.actions import SourceActions
from zugvogel.services.migration.incoming_session import Session


async def test_a_release_by_the_judge_is_no_claim_of_a_dead_target() -> None:
    host = HeldHost()
    await host.load()
    guest, _ = host.admit("web")
    leases = host.leases["ds"]
    record = SimpleNamespace(epoch=leases.link("web", ME, heir="h2", migration_id="m1").epoch, id="m1")
    guest.epoch = record.epoch

    async def call(*_args: Any, **_more: Any) -> dict[str, Any]:
        if guest.awaits_heir:
            leases.link("web", None, is_failure=True, why="h2 is failed")
        raise Unreachable("h2 does not answer")

    none = cast(Any, None)
    actions = SourceActions(
        vms=host.vms, peers=cast(Any, SimpleNamespace(call=call)), clock=host.clock, records=none, failpoint=none
    )
    move: Any = SimpleNamespace(
        guest=guest, record=record, target=SimpleNamespace(name="h2"), resume_at=0.0, marks=[], reason="",
        progress=lambda *_a: None,
    )  # fmt: skip
    assert await actions.await_claim(move) is Event.TARGET_LOST
    assert (guest.awaits_heir, move.reason) == (True, "h2 is failed")
    host.vms.network = cast(Any, SimpleNamespace(learned_addresses=lambda _mac: ()))
    (told,) = host.vms.reports()
    assert told.awaits_heir
    await host.close()


async def prepared(made: Target) -> Session:
    session = Session(
        "m1", "web", definition(name="web"), "ds", "h2", TargetPhase.PREPARED, heard_at=0.0,
        machine=cast(Machine, made.machine), is_loaded=True,
    )  # fmt: skip
    made.incoming.sessions["m1"] = session
    return session


async def abort(made: Target, **payload: Any) -> dict[str, Any]:
    made.incoming.is_ready.set()
    answer: dict[str, Any] = await made.incoming.handlers()["migration.abort"](payload)
    return answer


async def test_an_heir_that_gave_its_qemu_up_runs_on_no_word() -> None:
    made = await target()
    session = await prepared(made)
    answer = await abort(made, migration_id="m1", vm="web")
    assert (answer["phase"], made.machine.is_alive) == ("gone", False)
    await made.incoming.take_word(session)
    assert (session.phase, made.machine.let_go_at) == (TargetPhase.GONE, [])


async def test_an_abort_that_was_cut_off_is_finished_before_it_is_answered() -> None:
    made = await target()
    session = await prepared(made)
    session.phase = TargetPhase.GONE
    assert (await abort(made, migration_id="m1", vm="web"))["phase"] == "gone"
    assert not made.machine.is_alive


async def test_a_host_says_that_it_has_nothing_of_a_move_only_when_that_is_so() -> None:
    made = await target()
    with pytest.raises(NotFound):
        await abort(made, migration_id="m1")
    made.host.vms.expect(["web"])  # a QEMU that did not answer when this agent started
    with pytest.raises(Refused, match="still has something of web"):
        await abort(made, migration_id="m1", vm="web")
    made.host.vms.expect([])
    assert (await abort(made, migration_id="m1", vm="web"))["phase"] == "gone"
