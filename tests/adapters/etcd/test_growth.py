"""A cluster of one grows to three, goes on without one, stops without two: adapters.etcd.{members,supervisor}"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable

import pytest

from tests.adapters.etcd.members_on_loopback import Running, until_it_answers
from zugvogel.adapters.etcd.gateway import EtcdRegistry
from zugvogel.adapters.etcd.members import EtcdMembers
from zugvogel.errors import ZugvogelError
from zugvogel.ports.registry import Change


async def until(ask: Callable[[], Awaitable[object]]) -> None:
    """Repeats what etcd does not take yet; the test's timeout bounds it."""
    while True:
        with contextlib.suppress(ZugvogelError):
            await ask()
            return
        await asyncio.sleep(0.1)


async def come_true(condition: Callable[[], bool]) -> None:
    while True:
        if condition():
            return
        await asyncio.sleep(0.02)


async def follow(registry: EtcdRegistry, after: int, into: list[Change]) -> None:
    """As the inventory does: begun anew whenever the stream breaks."""
    while True:
        with contextlib.suppress(ZugvogelError):
            async for change in registry.watch("vms/", after=after):
                into.append(change)
                after = change.revision
        await asyncio.sleep(0.05)


async def grow(running: Running, members: EtcdMembers, number: int) -> None:
    known = {m.name: m.peer_url for m in await members.list()}
    spec = running.site.spec(number, initial_cluster=known)
    await until(lambda: members.ensure(spec.peer_url))  # refused until the one before is seen active
    await members.ensure(spec.peer_url)  # may be repeated
    assert [m.is_learner for m in await members.list() if m.peer_url == spec.peer_url] == [True]
    with pytest.raises(ZugvogelError):
        await members.promote(spec.peer_url)  # it has not even started
    running.start(spec)
    await until(lambda: members.promote(spec.peer_url))
    assert await members.promote(spec.peer_url)


@pytest.mark.timeout(90)
async def test_three_members_go_on_without_one_and_stop_without_two(members_running: Running) -> None:
    first = await members_running.first()
    members = EtcdMembers(first)
    _, start = await first.snapshot("")
    await first.put("vms/a", b"of one")
    await grow(members_running, members, 2)
    await grow(members_running, members, 3)
    assert {m.name: m.is_learner for m in await members.list()} == dict.fromkeys(
        ("host1", "host2", "host3"), False
    )
    everybody, third = members_running.site.registry(), members_running.site.registry("host3")
    seen: list[Change] = []
    watching = asyncio.create_task(follow(third, start, seen))
    try:
        await everybody.put("vms/a", b"of three")
        await members_running.power_off("host1")
        await until_it_answers(everybody)
        await everybody.put("vms/a", b"of two")
        await come_true(lambda: len(seen) >= 3)
        assert [c.value for c in seen] == [b"of one", b"of three", b"of two"]

        await members_running.power_off("host2")
        with pytest.raises(ZugvogelError):
            await everybody.put("vms/b", b"of one again")
        with pytest.raises(ZugvogelError):
            await everybody.get("vms/a")
        old, _ = await everybody.snapshot("vms/")
        assert [(e.key, e.value) for e in old] == [("vms/a", b"of two")]
        stale = await everybody.get("vms/a", stale_ok=True)
        assert stale is not None
        assert stale.value == b"of two"
    finally:
        watching.cancel()
        for registry in (first, everybody, third):
            await registry.close()


@pytest.mark.timeout(60)
async def test_a_killed_member_is_started_again_with_its_data(members_running: Running) -> None:
    registry = await members_running.first()
    await registry.put("vms/a", b"1")
    supervisor = members_running.supervisors["host1"]
    first = supervisor.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await come_true(lambda: supervisor.pid != first)
    await until_it_answers(registry)
    found = await registry.get("vms/a")
    assert found is not None
    assert found.value == b"1"
    await registry.close()
