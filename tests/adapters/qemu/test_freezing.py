"""A QEMU that is stopped by SIGSTOP, as the guard does it, and one that an agent finds so."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.adapters.qemu.conftest import Spawn, firmware_vm, host
from zugvogel.adapters.qemu.qmp_machine import QmpMachine
from zugvogel.errors import Unreachable
from zugvogel.ports.hypervisor import Machine, MachineStatus

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(60)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.01)


async def leave(machine: Machine) -> None:
    """The agent is gone."""
    assert isinstance(machine, QmpMachine)
    assert machine._serving is not None
    machine.let_go()
    machine._serving.cancel()
    await asyncio.wait({machine._serving})
    await machine._client.disconnect()


async def test_a_frozen_machine_answers_nobody_and_goes_on_as_it_was(root: Path, spawn: Spawn) -> None:
    machine = await spawn(host(root, "a"), firmware_vm(root))
    await machine.cont()
    assert not machine.is_frozen
    machine.freeze()
    await until(lambda: machine.is_frozen)
    with pytest.raises(Unreachable, match="is frozen"):
        await asyncio.wait_for(machine.status(), 5)
    assert machine.is_alive
    await machine.thaw()
    await until(lambda: not machine.is_frozen)
    assert await machine.status() is MachineStatus.RUNNING


async def test_its_pid_and_start_name_it(root: Path, spawn: Spawn) -> None:
    machine = await spawn(host(root, "a"), firmware_vm(root))
    stat = await asyncio.to_thread(Path(f"/proc/{machine.pid}/stat").read_text)
    assert stat.rsplit(")", 1)[1].split()[19] == str(machine.start_ticks)


async def test_a_frozen_machine_is_killed_and_tells_its_end(root: Path, spawn: Spawn) -> None:
    machine = await spawn(host(root, "a"), firmware_vm(root))
    events = machine.events()
    machine.freeze()
    await until(lambda: machine.is_frozen)
    await machine.kill()
    assert [event.name async for event in events][-1] == "EXITED"
    assert (machine.is_alive, machine.is_frozen) == (False, False)
    machine.freeze()
    await machine.thaw()  # nothing is left to signal


async def test_one_that_is_found_frozen_is_adopted_and_answers_once_it_goes_on(root: Path, spawn: Spawn) -> None:
    first = await spawn(host(root, "a"), firmware_vm(root))
    await first.cont()
    await leave(first)
    os.kill(first.pid, signal.SIGSTOP)
    await until(lambda: Path(f"/proc/{first.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T")
    hypervisor = host(root, "a")
    [adopted] = await asyncio.wait_for(hypervisor.adopt(), 5)
    try:
        assert (adopted.is_frozen, adopted.tags, hypervisor.left()) == (True, {"epoch": 7}, ())
        assert await hypervisor.adopt() == []
        with pytest.raises(Unreachable):
            await adopted.status()
        events = adopted.events()
        await adopted.thaw()
        assert await adopted.status() is MachineStatus.RUNNING
        await adopted.stop()
        assert [(await anext(events)).name for _ in range(2)] == ["RESUME", "STOP"]
    finally:
        await adopted.kill()


async def test_one_that_is_found_frozen_can_be_ended(root: Path, spawn: Spawn) -> None:
    first = await spawn(host(root, "a"), firmware_vm(root))
    first.freeze()
    await until(lambda: first.is_frozen)
    await leave(first)
    hypervisor = host(root, "a")
    [adopted] = await asyncio.wait_for(hypervisor.adopt(), 5)
    await adopted.kill()
    assert not adopted.is_alive
    assert list((root / "a/run").iterdir()) == []
