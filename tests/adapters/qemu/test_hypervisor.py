"""zugvogel.adapters.qemu.hypervisor and the life of a qmp_machine"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.adapters.qemu.conftest import Spawn, firmware_vm, host
from zugvogel.errors import ProcedureFailed, Refused, Unreachable
from zugvogel.ports.hypervisor import MachineStatus

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(60)]


async def test_a_spawned_machine_waits_for_cont(root: Path, spawn: Spawn) -> None:
    machine = await spawn(host(root, "a"), firmware_vm(root))
    assert await machine.status() is MachineStatus.PRELAUNCH
    await machine.cont()
    assert await machine.status() is MachineStatus.RUNNING
    await machine.stop()
    assert await machine.status() is MachineStatus.PAUSED


async def test_qemu_runs_as_its_own_user(root: Path, spawn: Spawn) -> None:
    machine = await spawn(host(root, "a"), firmware_vm(root))
    status = await asyncio.to_thread(Path(f"/proc/{machine.pid}/status").read_text)
    assert "Uid:\t65534\t65534\t65534\t65534" in status
    assert "Seccomp:\t2" in status


async def test_every_reader_gets_every_event_and_exited_is_the_last(root: Path, spawn: Spawn) -> None:
    machine = await spawn(host(root, "a"), firmware_vm(root))
    readers = [machine.events(), machine.events()]
    await machine.cont()
    await machine.powerdown()
    await machine.kill()
    for reader in readers:
        names = [event.name async for event in reader]
        assert names[0] == "RESUME"
        assert names[-1] == "EXITED"
    with pytest.raises(Unreachable):
        await machine.status()


async def test_quit_ends_in_order_and_leaves_no_directory(root: Path, spawn: Spawn) -> None:
    hypervisor = host(root, "a")
    machine = await spawn(hypervisor, firmware_vm(root))
    events = machine.events()
    await machine.quit()
    assert not machine.is_alive
    assert "EXITED" in [event.name async for event in events]
    while list((root / "a/run").iterdir()):  # noqa: ASYNC110 - it goes shortly after the last event
        await asyncio.sleep(0.01)


async def test_a_failed_spawn_tells_qemus_words_and_leaves_nothing(root: Path) -> None:
    hypervisor = host(root, "a")
    with pytest.raises(ProcedureFailed, match="unsupported machine type"):
        await hypervisor.spawn(firmware_vm(root, machine="pc-q35-99.9"))
    assert list((root / "a/run").iterdir()) == []


async def test_a_vm_is_not_spawned_twice(root: Path, spawn: Spawn) -> None:
    hypervisor = host(root, "a")
    await spawn(hypervisor, firmware_vm(root))
    with pytest.raises(Refused, match="running on this host already"):
        await hypervisor.spawn(firmware_vm(root))


async def test_a_later_agent_adopts_the_machine_with_its_tags(root: Path, spawn: Spawn) -> None:
    first = await spawn(host(root, "a"), firmware_vm(root))
    await first.cont()
    await first.set_tags(epoch=8)
    await first._client.disconnect()  # type: ignore[attr-defined]  # the agent is gone
    [adopted] = await host(root, "a").adopt()
    assert (adopted.vm, adopted.pid, adopted.tags) == ("fw1", first.pid, {"epoch": 8})
    assert await adopted.status() is MachineStatus.RUNNING
    events = adopted.events()
    await adopted.kill()
    assert [event.name async for event in events][-1] == "EXITED"


async def test_a_run_directory_without_its_process_is_cleaned_up(root: Path) -> None:
    stale = root / "a/run/gone"
    stale.mkdir(parents=True)
    (stale / "spawn.json").write_text('{"vm": "gone", "pid": 1, "start": 0, "taps": [], "tags": {}}')
    assert await host(root, "a").adopt() == []
    assert not stale.exists()


async def test_qemus_refusal_reaches_the_caller(root: Path, spawn: Spawn) -> None:
    machine = await spawn(host(root, "a"), firmware_vm(root))
    with pytest.raises(ProcedureFailed, match="refused no-such-command"):
        await machine.execute("no-such-command")
