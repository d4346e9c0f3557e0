"""zugvogel.services.letting_go: the last look before vCPUs are let go."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from tests.services.ha.held_world import ME, OTHER, FakeMachine, HeldHost, settle
from zugvogel.services.letting_go import NEVER, WAITS, may_go
from zugvogel.services.local_vms import Guest


async def claimed(**fields: Any) -> tuple[HeldHost, Guest, FakeMachine, float]:
    """web was just claimed and admitted, and waits to be let go."""
    host = HeldHost()
    await host.load()
    cast(Any, host.clock).sleep = lambda _seconds: asyncio.sleep(0)  # only the test moves the clock
    await host.seconds(3)
    since = host.clock.now
    guest, machine = host.admit("web")
    if fields:
        host.leases["ds"].chains["web"][-1] = host.leases["ds"].now("web").model_copy(update=fields)
    return host, guest, machine, since


async def test_while_the_beats_work_nothing_is_read_or_linked() -> None:
    host, guest, _, since = await claimed()
    host.leases["ds"].is_broken = True
    assert await may_go(host.vms, guest, since)
    assert (guest.epoch, guest.frozen_why) == (1, "")
    await host.close()


async def test_after_the_agent_stood_still_the_next_epoch_is_linked_first() -> None:
    host, guest, _, since = await claimed(migration_id="m1", is_to_resume=True)
    host.clock.now += 20
    going = asyncio.create_task(may_go(host.vms, guest, since))
    await settle()
    assert (going.done(), host.leases["ds"].now("web").epoch, guest.frozen_why) == (False, 1, WAITS)
    await host.seconds(1)
    await settle()
    assert await going
    lease = host.leases["ds"].now("web")
    assert (lease.epoch, lease.holder, lease.migration_id, lease.is_to_resume) == (2, ME, "m1", True)
    assert (guest.epoch, guest.frozen_why) == (2, "")
    await host.close()


async def test_a_claim_of_an_earlier_agent_is_always_renewed() -> None:
    host, guest, _, _ = await claimed()
    assert await may_go(host.vms, guest, NEVER)
    assert guest.epoch == 2
    await host.close()


@pytest.mark.parametrize("holder", [None, OTHER])
async def test_what_was_taken_over_meanwhile_does_not_go(holder: Any) -> None:
    host, guest, machine, since = await claimed()
    host.clock.now += 20
    host.leases["ds"].link("web", holder)
    await host.beats.tick()
    await settle()  # the beat works again before anything else of the agent goes on
    assert not await may_go(host.vms, guest, since)
    assert "cont" not in machine.done
    await host.close()


async def test_of_two_links_one_wins() -> None:
    host, guest, _, since = await claimed()
    host.clock.now += 20
    await host.beats.tick()
    await settle()
    leases = host.leases["ds"]
    leases.on_claim = lambda: leases.now("web").epoch == 1 and leases.link("web", None)
    assert not await may_go(host.vms, guest, since)
    await host.close()


async def test_one_that_is_frozen_is_waited_for_until_it_is_thawed_or_ended() -> None:
    host, guest, machine, since = await claimed()
    machine.is_frozen = True  # the guard
    going = asyncio.create_task(may_go(host.vms, guest, since))
    await settle()
    assert not going.done()
    await host.seconds(1)
    assert machine.let_go_at == [2]
    assert await going
    machine.is_frozen = True
    going = asyncio.create_task(may_go(host.vms, guest, since))
    await settle()
    await machine.kill()
    assert not await going
    await host.close()


async def test_a_datastore_that_fails_again_is_waited_out() -> None:
    host, guest, _, since = await claimed()
    host.clock.now += 20
    await host.beats.tick()
    await settle()
    host.leases["ds"].is_broken = True
    going = asyncio.create_task(may_go(host.vms, guest, since))
    await settle()
    assert not going.done()
    host.leases["ds"].is_broken = False
    assert await going
    assert guest.epoch == 2
    await host.close()
