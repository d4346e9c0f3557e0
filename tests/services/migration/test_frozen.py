"""Moves whose QEMU the guard freezes: services.migration.actions on the source, .incoming on the target."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from tests.core.facts import definition
from tests.services.ha.held_world import ME, OTHER, FakeMachine, HeldHost, settle
from zugvogel.core.source_machine import Event
from zugvogel.domain.migration import TargetPhase
from zugvogel.ports.hypervisor import Machine, MachineStatus
from zugvogel.services.migration.actions import SourceActions
from zugvogel.services.migration.incoming import IncomingMigrations


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
    host.close()


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
    host.leases["ds"].link("web", OTHER, heir="h1", migration_id="m1")
    return Target(host, FakeMachine("web", host.leases["ds"]))


async def test_an_heir_is_guarded_from_before_it_runs() -> None:
    made = await target()
    made.machine.state = MachineStatus.PAUSED
    session: Any = SimpleNamespace(datastore="ds", has_run=False)
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
    made.host.close()


async def test_an_heir_found_frozen_whose_lease_went_elsewhere_is_ended() -> None:
    made = await target()
    made.machine.is_frozen = True
    made.host.leases["ds"].link("web", None)
    session = await made.take_over()
    await settle()
    assert (session.phase, made.machine.is_alive) == (TargetPhase.GONE, False)
    assert not made.machine.let_go_at
