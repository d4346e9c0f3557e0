"""zugvogel.services.adoption: QEMUs that outlived an earlier agent, above all those that the guard has frozen."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.services.ha.held_world import OTHER, FakeMachine, HeldHost, settle
from zugvogel.errors import NotFound
from zugvogel.ports.hypervisor import Machine, MachineStatus
from zugvogel.services.adoption import Adoption
from zugvogel.services.local_vms import Guest


class AgentStart:
    """A QEMU of web is there, its lease at epoch 1 is this host's; `machine` is what `Hypervisor.adopt` found."""

    def __init__(self, *, is_frozen: bool) -> None:
        self.host = HeldHost()
        self.host.leases["ds"].link("web")
        self.machine = FakeMachine("web", self.host.leases["ds"])
        self.machine.is_frozen = is_frozen
        none = cast(Any, None)
        self.adoption = Adoption(self.host.vms, none, none, self.host.thawing)

    async def begin(self) -> None:
        await self.host.load()
        self.host.vms.expect(["web"])

    async def take_over(self) -> Guest | None:
        guest = await self.adoption.take_over(cast(Machine, self.machine))
        self.host.close()
        return guest


async def test_one_that_runs_goes_on_under_its_lease() -> None:
    start = AgentStart(is_frozen=False)
    await start.begin()
    guest = await start.take_over()
    assert guest is not None
    assert (guest.epoch, start.machine.done, start.host.vms.unclaimed) == (1, [], {})
    assert start.host.leases["ds"].now("web").epoch == 1


async def test_a_frozen_one_goes_on_only_by_a_new_epoch() -> None:
    start = AgentStart(is_frozen=True)
    await start.begin()
    await start.host.seconds(1)
    guest = await start.take_over()
    assert guest is not None
    assert (guest.epoch, start.machine.let_go_at, start.machine.tags["epoch"]) == (2, [2], 2)
    assert start.host.kinds() == ["vm.thawed"]


async def test_a_frozen_one_waits_for_this_hosts_beat() -> None:
    start = AgentStart(is_frozen=True)
    await start.begin()
    slept = 0

    async def sleep(seconds: float) -> None:
        nonlocal slept
        slept += 1
        assert start.machine.let_go_at == []
        if slept == 3:
            start.host.clock.now += seconds
            await start.host.beats.tick()
            await settle()

    start.host.clock.sleep = sleep  # type: ignore[method-assign]
    assert await start.take_over() is not None
    assert (slept, start.machine.let_go_at) == (3, [2])


async def test_while_it_waits_the_guard_knows_of_it() -> None:
    start = AgentStart(is_frozen=True)
    await start.begin()
    told: list[list[str]] = []

    async def sleep(seconds: float) -> None:
        told.append([vm.vm for vm in start.host.orders.vms])
        await start.machine.kill()

    start.host.clock.sleep = sleep  # type: ignore[method-assign]
    assert await start.take_over() is None
    assert told == [["web"]]
    assert start.host.told == []  # it died, nobody fenced it: its lease is settled as any


@pytest.mark.parametrize("is_frozen", [True, False])
async def test_one_whose_lease_went_elsewhere_is_ended(is_frozen: bool) -> None:
    start = AgentStart(is_frozen=is_frozen)
    start.host.leases["ds"].link("web", OTHER)
    await start.begin()
    await start.host.seconds(1)
    assert await start.take_over() is None
    assert (start.machine.done, start.host.told) == (["kill"], [("vm.fenced", "web")])
    assert not start.host.vms.is_in_care("web")


async def test_one_that_the_guard_freezes_in_the_middle_is_asked_again() -> None:
    start = AgentStart(is_frozen=False)
    await start.begin()
    start.machine.state = MachineStatus.PRELAUNCH
    start.host.guard.on_tell = lambda: setattr(start.machine, "is_frozen", "web" in start.host.vms.guests)

    async def sleep(seconds: float) -> None:
        start.machine.is_frozen = False  # Holding

    start.host.clock.sleep = sleep  # type: ignore[method-assign]
    assert await start.take_over() is not None
    assert start.machine.done == ["cont"]


async def test_one_on_a_datastore_that_is_not_known_is_left_alone() -> None:
    start = AgentStart(is_frozen=False)
    await start.begin()

    def mounted(_name: str) -> Any:
        raise NotFound("there is no datastore ds")

    start.host.vms.mounted = mounted
    with pytest.raises(NotFound):
        await start.take_over()
    assert (start.machine.done, start.host.vms.unclaimed) == ([], {})
