"""zugvogel.services.ha.thawing: nothing runs before this host has linked the next epoch."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.services.ha.held_world import ME, OTHER, FakeMachine, HeldHost, settle
from zugvogel.domain.lease import LeaseState
from zugvogel.errors import DeadlineExceeded, StorageError
from zugvogel.ports.hypervisor import Machine
from zugvogel.services.ha.thawing import Step, Thaw


async def frozen() -> tuple[HeldHost, FakeMachine]:
    host = HeldHost()
    await host.load()
    _, machine = host.admit("web")
    await host.seconds(1)
    machine.freeze()
    machine.done.clear()
    return host, machine


async def attempt(host: HeldHost, machine: FakeMachine, epoch: int = 1) -> Thaw:
    found = await host.thawing.attempt(cast(Machine, machine), "ds", epoch)
    await host.close()
    return found


async def test_it_goes_on_by_the_next_epoch_linked_here() -> None:
    host, machine = await frozen()
    thaw = await attempt(host, machine)
    assert thaw.step is Step.GOES_ON
    assert thaw.lease == host.leases["ds"].now("web")
    assert thaw.lease is not None
    assert (thaw.lease.epoch, thaw.lease.holder, thaw.lease.state) == (2, ME, LeaseState.RUNNING)
    assert machine.let_go_at == [2]
    assert not machine.is_frozen


@pytest.mark.parametrize(
    "fields", [{"holder": OTHER}, {"holder": None}, {"holder": None, "state": LeaseState.SUSPENDED}]
)
async def test_a_lease_that_went_elsewhere_is_lost(fields: dict[str, object]) -> None:
    host, machine = await frozen()
    lease = host.leases["ds"].link("web", **fields)  # type: ignore[arg-type]
    assert await attempt(host, machine) == Thaw(Step.LOST, lease)
    assert (machine.done, host.leases["ds"].now("web")) == ([], lease)


async def test_a_lease_that_is_gone_is_lost() -> None:
    host, machine = await frozen()
    host.leases["ds"].chains.clear()
    host.folders.gone.add("web")
    assert await attempt(host, machine) == Thaw(Step.LOST)
    assert machine.done == []


async def test_a_listing_that_is_older_than_what_this_host_linked_is_no_loss() -> None:
    host, machine = await frozen()
    chain = host.leases["ds"].chains.pop("web")
    with pytest.raises(StorageError, match="old lease of web"):
        await attempt(host, machine)  # the folder is there
    host.leases["ds"].link("web", OTHER)
    with pytest.raises(StorageError, match="epoch 1"):
        await attempt(host, machine, epoch=2)
    assert machine.done == []
    host.leases["ds"].chains["web"] = chain
    assert (await attempt(host, machine)).step is Step.GOES_ON


async def test_what_was_linked_is_known_at_once_whatever_fails_after_it() -> None:
    host, machine = await frozen()
    machine.is_mute = True
    with pytest.raises(DeadlineExceeded):
        await attempt(host, machine)
    assert host.vms.guests["web"].epoch == 2


async def test_a_guard_that_is_gone_keeps_nothing_once_high_availability_is_off() -> None:
    host, machine = await frozen()
    host.guard.keeps = {"web"}
    report = host.guard.report()
    host.guard.report = lambda: report  # type: ignore[method-assign]
    host.clock.now += 1.5
    assert (await attempt(host, machine)).step is Step.WAITS  # it is started again, and tells then
    await host.set("das.enabled", False)
    await host.beats.tick()
    await settle()
    assert (await attempt(host, machine)).step is Step.GOES_ON


async def test_an_earlier_boot_of_this_host_is_another_holder() -> None:
    host, machine = await frozen()
    lease = host.leases["ds"].link("web", holder=ME.model_copy(update={"boot_id": "before"}))
    assert await attempt(host, machine) == Thaw(Step.LOST, lease)


async def test_whoever_links_first_wins() -> None:
    host, machine = await frozen()
    leases = host.leases["ds"]
    leases.on_claim = lambda: leases.link("web", OTHER) if leases.now("web").holder == ME else None
    thaw = await attempt(host, machine)
    assert thaw.step is Step.WAITS
    assert (machine.is_frozen, machine.done) == (True, [])
    leases.on_claim = lambda: None
    assert (await attempt(host, machine)).step is Step.LOST


async def test_while_the_beat_fails_nothing_is_even_read() -> None:
    host, machine = await frozen()
    host.mounts["ds"].fault = "error"
    await host.beats.tick()
    await settle()
    assert (await attempt(host, machine)).step is Step.WAITS
    assert host.leases["ds"].now("web").epoch == 1


async def test_a_beat_that_is_too_old_lets_nothing_go_on() -> None:
    host, machine = await frozen()
    host.clock.now += 6.75  # three quarters of 9 s
    assert (await attempt(host, machine)).step is Step.WAITS
    assert machine.done == []


async def test_a_link_that_took_too_long_lets_nothing_go_on() -> None:
    host, machine = await frozen()

    def slow() -> None:
        host.clock.now += 8.0

    host.leases["ds"].on_claim = slow
    assert (await attempt(host, machine)).step is Step.WAITS
    assert machine.is_frozen
    assert host.leases["ds"].now("web").epoch == 2
    host.leases["ds"].on_claim = lambda: None
    await host.beats.tick()
    await settle()
    assert (await attempt(host, machine)).step is Step.GOES_ON
    assert machine.let_go_at == [3]


async def test_it_waits_until_the_guard_lets_go() -> None:
    host, machine = await frozen()
    host.guard.keeps = {"web"}
    assert (await attempt(host, machine)).step is Step.WAITS
    assert host.leases["ds"].now("web").epoch == 1
    host.guard.keeps = set()
    assert (await attempt(host, machine)).step is Step.GOES_ON


async def test_a_datastore_that_fails_in_between_lets_nothing_go_on() -> None:
    host, machine = await frozen()
    host.leases["ds"].is_broken = True
    with pytest.raises(StorageError):
        await attempt(host, machine)
    assert machine.done == []


async def test_a_migration_under_way_keeps_its_heir() -> None:
    host, machine = await frozen()
    host.leases["ds"].link("web", ME, heir="h2", migration_id="m1")
    thaw = await attempt(host, machine)
    assert thaw.lease is not None
    assert (thaw.lease.epoch, thaw.lease.heir, thaw.lease.migration_id) == (3, "h2", "m1")


async def test_an_agent_that_stood_still_after_its_link_lets_nothing_go_on_though_it_beats_again() -> None:
    host, machine = await frozen()
    leases, claim = host.leases["ds"], host.leases["ds"].claim

    async def slow(lease: Any) -> Any:
        linked = await claim(lease)
        host.clock.now += 20.0
        await host.beats.tick()
        await settle()
        return linked

    leases.claim = slow  # type: ignore[method-assign]
    assert (await attempt(host, machine)).step is Step.WAITS
    assert (machine.is_frozen, leases.now("web").epoch) == (True, 2)
