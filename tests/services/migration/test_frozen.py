"""Moves whose QEMU the guard freezes: services.migration.actions on the source, .incoming on the target."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from tests.core.facts import definition
from tests.services.ha.held_world import ME, OTHER, FakeMachine, HeldHost, settle
from zugvogel.core.source_machine import Event
from zugvogel.domain.migration import TargetPhase
from zugvogel.ports.hypervisor import Machine, MachineStatus
from zugvogel.services.migration.actions import SourceActions
from zugvogel.services.migration.incoming import IncomingMigrations
from zugvogel.services.migration.incoming_session import Session


async def test_the_sources_own_new_epoch_is_not_the_targets_claim() -> None:
    host = HeldHost()
    await host.load()
    guest, _ = host.admit("web")
    leases = host.leases["ds"]
    record = SimpleNamespace(epoch=leases.link("web", ME, heir="h2", migration_id="m1").epoch, id="m1")
    leases.link("web", ME, heir="h2", migration_id="m1")  # linked when it went on after a freeze

    async def call(*_args: Any, **_more: Any) -> dict[str, Any]:
        if host.clock.now > 1001:
            leases.link("web", OTHER, migration_id="m1")
        return {"migration_id": "m1", "phase": "running", "is_loaded": True}

    none = cast(Any, None)
    actions = SourceActions(
        vms=host.vms, peers=cast(Any, SimpleNamespace(call=call)), clock=host.clock, records=none, failpoint=none
    )
    move: Any = SimpleNamespace(
        guest=guest, record=record, target=None, resume_at=0.0, marks=[], reason="", progress=lambda *_a: None
    )
    assert await actions.await_claim(move) is Event.TARGET_CLAIMED
    assert leases.now("web").holder == OTHER
    await host.close()


class Target:
    def __init__(self, host: HeldHost, machine: FakeMachine) -> None:
        self.host, self.machine = host, machine
        machine.tags |= {
            "role": "incoming", "migration_id": "m1", "source": "h2",
            "definition": definition(name="web").model_dump(mode="json"),
        }  # fmt: skip

        async def passes(*_args: Any) -> None:
            return None

        self.incoming = IncomingMigrations(
            vms=host.vms, hypervisor=cast(Any, None), clock=host.clock, records=cast(Any, None), address="",
            first_port=0, failpoint=passes, tell_now=passes,
        )  # fmt: skip

    async def take_over(self) -> Any:
        await self.incoming.take_over(cast(Machine, self.machine))
        return self.incoming.sessions["m1"]


async def target() -> Target:
    host = HeldHost()
    await host.load()
    cast(Any, host.clock).sleep = lambda _seconds: asyncio.sleep(0)  # only the test moves the clock
    await host.seconds(1)
    host.leases["ds"].link("web", OTHER, heir="h1", migration_id="m1")
    return Target(host, FakeMachine("web", host.leases["ds"]))


async def test_an_heir_is_guarded_from_before_it_runs() -> None:
    made = await target()
    made.machine.state = MachineStatus.PAUSED
    session: Any = SimpleNamespace(datastore="ds", has_run=False, is_going=False, since=made.host.clock.now)
    seen: list[Any] = []
    made.host.guard.on_tell = lambda: seen.append((made.machine.state, [v.vm for v in made.host.orders.vms]))
    await made.incoming._cont(session, cast(Machine, made.machine))
    assert seen == [(MachineStatus.PAUSED, ["web"])]
    assert made.machine.state is MachineStatus.RUNNING


async def test_an_heir_found_frozen_ran_so_it_claims_and_then_goes_on() -> None:
    made = await target()
    made.machine.is_frozen = True
    session = await made.take_over()
    await settle()
    assert (session.phase, session.has_run) == (TargetPhase.CLAIMED, True)
    assert (made.host.leases["ds"].now("web").holder, made.machine.let_go_at) == (ME, [])
    await made.host.seconds(1)
    assert made.machine.let_go_at == [3]
    await made.host.close()


async def test_an_heir_found_frozen_whose_lease_went_elsewhere_is_ended() -> None:
    made = await target()
    made.machine.is_frozen = True
    made.host.leases["ds"].link("web", None)
    session = await made.take_over()
    await settle()
    assert (session.phase, made.machine.is_alive) == (TargetPhase.GONE, False)
    assert not made.machine.let_go_at


# an heir whose host stood still -------------------------------------------------------------------------


def given_the_word(made: Target, since: float) -> Any:
    """A session that is loaded, prepared at `since`."""
    made.machine.state = MachineStatus.PAUSED
    session = Session(
        id="m1", vm="web", definition=definition(name="web"), datastore="ds", source="h2", is_loaded=True,
        phase=TargetPhase.PREPARED, heard_at=since, machine=cast(Machine, made.machine), since=since,
    )  # fmt: skip
    made.incoming.sessions["m1"] = session
    made.host.vms.network = cast(Any, SimpleNamespace(learned_addresses=lambda _mac: ()))
    return session


async def test_an_heir_whose_beats_failed_since_it_was_prepared_claims_before_it_runs() -> None:
    made = await target()
    session = given_the_word(made, made.host.clock.now)
    made.host.clock.now += 20
    await made.host.beats.tick()
    await settle()
    claims: list[MachineStatus] = []
    made.host.leases["ds"].on_claim = lambda: claims.append(made.machine.state)
    await made.incoming.take_word(session)
    assert (session.phase, session.has_run) == (TargetPhase.RUNNING, False)  # never given back to the source
    await settle()
    assert claims == [MachineStatus.PAUSED]
    assert (session.phase, session.has_run, made.machine.state) == (
        TargetPhase.CLAIMED,
        True,
        MachineStatus.RUNNING,
    )
    assert (made.host.leases["ds"].now("web").epoch, made.machine.tags["role"]) == (2, "vm")
    await made.host.close()


async def test_an_heir_whose_beats_fail_waits_with_its_word() -> None:
    made = await target()
    session = given_the_word(made, made.host.clock.now)
    made.host.mounts["ds"].fault = "error"
    await made.host.seconds(10)
    await made.incoming.take_word(session)
    await settle()
    assert (session.phase, made.machine.state) == (TargetPhase.RUNNING, MachineStatus.PAUSED)
    assert made.machine.is_alive
    made.host.mounts["ds"].fault = ""
    await made.host.seconds(2)
    assert (session.phase, made.machine.state) == (TargetPhase.CLAIMED, MachineStatus.RUNNING)
    await made.host.close()


async def test_an_heir_that_was_counted_as_dead_with_its_source_never_runs() -> None:
    made = await target()
    session = given_the_word(made, made.host.clock.now)
    made.host.clock.now += 20
    made.host.leases["ds"].link("web", None)
    made.host.leases["ds"].link("web", OTHER)
    await made.host.beats.tick()
    await settle()
    await made.incoming.take_word(session)
    await settle()
    assert (session.phase, made.machine.is_alive) == (TargetPhase.GONE, False)
    assert "cont" not in made.machine.done
    assert session.has_run  # the source does not go on by it either


async def test_an_heir_without_a_pause_runs_before_it_claims() -> None:
    made = await target()
    session = given_the_word(made, made.host.clock.now)
    claims: list[MachineStatus] = []
    made.host.leases["ds"].on_claim = lambda: claims.append(made.machine.state)
    await made.incoming.take_word(session)
    assert made.machine.state is MachineStatus.RUNNING
    await settle()
    assert claims == [MachineStatus.RUNNING]
    await made.host.close()
