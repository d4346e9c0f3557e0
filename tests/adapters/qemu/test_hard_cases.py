"""zugvogel.adapters.qemu where things go wrong: frozen, restarted at once, odd paths, our own certificates"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from tests.adapters.qemu.conftest import Spawn, firmware_vm, host
from tests.adapters.qemu.test_migration import assert_moves, running_pair
from zugvogel.adapters import pki
from zugvogel.adapters.network.taps import HostTaps
from zugvogel.adapters.pki import Pki
from zugvogel.adapters.processes import start_time
from zugvogel.adapters.qemu import hypervisor as hypervisor_module
from zugvogel.adapters.qemu import qmp_machine
from zugvogel.adapters.qemu.process import Spawned
from zugvogel.domain.vm import Disk
from zugvogel.errors import ProcedureFailed, Refused, Unreachable
from zugvogel.ports.hypervisor import MachineSpec, MachineStatus, NicSpec

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(60)]

NOBODY = 65534


async def test_a_disk_in_a_folder_with_commas_and_quotes_opens(root: Path, spawn: Spawn) -> None:
    folder = root / "a,b=c 'd'"
    folder.mkdir()
    disk = folder / "disk0.raw"
    disk.touch()
    os.truncate(disk, 1 << 20)
    os.chown(disk, NOBODY, -1)
    spec = firmware_vm(root)
    drive = Disk(file="disk0.raw", format="raw", size_bytes=1 << 20, cache="writeback")
    definition = spec.definition.model_copy(update={"disks": (drive,)})
    machine = await spawn(host(root, "a"), MachineSpec(definition, folder, ()))
    nodes = {n["node-name"]: n for n in await machine.execute("query-named-block-nodes")}
    assert set(nodes) >= {"f0", "r0", "disk0"}
    assert nodes["f0"]["file"] == str(disk)
    with pytest.raises(ProcedureFailed, match="write"):  # QEMU's image lock: a second one does not start
        await spawn(host(root, "b"), MachineSpec(definition, folder, ()))
    assert list((root / "b/run").iterdir()) == []


@pytest.mark.parametrize("name", ["192.0.2.12", "host2"])
async def test_a_machine_migrates_with_the_clusters_certificates(root: Path, spawn: Spawn, name: str) -> None:
    ca, ca_key = pki.new_migration_ca("test")
    request, key = pki.new_request("host2")
    keys = Pki(root / "state/pki")
    keys.directory.mkdir(parents=True)
    pki.write_secret(keys.migration_ca_certificate, ca)
    pki.write_secret(keys.qemu_certificate, pki.sign_for_qemu(request, "host2", "192.0.2.12", ca, ca_key))
    pki.write_secret(keys.qemu_key, key)
    keys.provide_qemu(NOBODY, NOBODY)
    await assert_moves(
        await running_pair(root, spawn, keys.qemu_directory),
        source={"tls-creds": "tls-client0", "tls-hostname": name},
        target={"tls-creds": "tls-server0"},
    )


async def test_tags_outlive_two_agents(root: Path, spawn: Spawn) -> None:
    first = await spawn(host(root, "a"), firmware_vm(root))
    await first.set_tags(epoch=8, migration="m1")
    await first._client.disconnect()  # type: ignore[attr-defined]
    [second] = await host(root, "a").adopt()
    await second.set_tags(epoch=9)
    await second._client.disconnect()  # type: ignore[attr-defined]
    [third] = await host(root, "a").adopt()
    assert third.tags == {"epoch": 9, "migration": "m1"}
    assert await third.status() is MachineStatus.PRELAUNCH


async def test_a_machine_of_which_the_agent_lost_the_monitor_still_dies_on_kill(root: Path, spawn: Spawn) -> None:
    machine = await spawn(host(root, "a"), firmware_vm(root))
    await machine._client.disconnect()  # type: ignore[attr-defined]
    with pytest.raises(Unreachable):
        await machine.status()
    assert machine.is_alive
    await machine.kill()
    assert start_time(machine.pid) is None


async def test_the_log_tells_of_a_vm_that_ever_ran_here(root: Path, spawn: Spawn) -> None:
    hypervisor = host(root, "a")
    with pytest.raises(ProcedureFailed):
        await hypervisor.spawn(firmware_vm(root, machine="pc-q35-99.9"))
    assert "pc-q35-99.9" in hypervisor.log("fw1")["qemu"]
    assert hypervisor.log("never") == {"qemu": "", "serial": ""}


async def test_a_missing_bridge_leaves_nothing_behind(root: Path) -> None:
    spec = firmware_vm(root)
    nics = (NicSpec("52:54:00:00:00:01", "zv-no-such-br"),)
    with pytest.raises(Refused, match="has no bridge"):
        await host(root, "a").spawn(MachineSpec(spec.definition, root, nics))
    assert list((root / "a/run").iterdir()) == []


def test_a_reused_pid_is_not_taken_for_ours(tmp_path: Path) -> None:
    start = start_time(os.getpid())
    assert start is not None
    Spawned("a", os.getpid(), start - 1, [], {}).save(tmp_path)
    known = Spawned.load(tmp_path)
    assert known is not None
    assert not known.is_alive
    (tmp_path / "spawn.json").write_text('{"vm": "a", "pid"')
    assert Spawned.load(tmp_path) is None


async def test_a_frozen_machine_ends_on_quit(root: Path, spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qmp_machine, "QUIT_S", 0.2)
    machine = await spawn(host(root, "a"), firmware_vm(root))
    os.kill(machine.pid, signal.SIGSTOP)
    await machine.quit()
    assert not machine.is_alive


async def test_adoption_does_not_wait_for_a_frozen_machine(
    root: Path, spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard freezes vms by SIGSTOP; an agent that starts meanwhile must come up."""
    machine = await spawn(host(root, "a"), firmware_vm(root))
    await machine._client.disconnect()  # type: ignore[attr-defined]
    os.kill(machine.pid, signal.SIGSTOP)
    monkeypatch.setattr(hypervisor_module, "READY_S", 0.2)
    await asyncio.wait_for(host(root, "a").adopt(), 3)


async def test_a_vm_started_again_at_once_keeps_its_run_directory(
    root: Path, spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its predecessor's clean-up comes while the new one still makes its taps."""
    directory = root / "a/run/fw1"
    was_there: list[bool] = []

    async def slow(self: HostTaps, vm: str, number: int, nic: NicSpec) -> tuple[int, str]:
        await asyncio.sleep(0.2)
        was_there.append(directory.exists())
        raise Refused("enough seen")

    monkeypatch.setattr(HostTaps, "open", slow)
    hypervisor = host(root, "a")
    machine = await spawn(hypervisor, firmware_vm(root))
    await machine.kill()
    nics = (NicSpec("52:54:00:00:00:01", "br0"),)
    with pytest.raises(Refused, match="enough seen"):
        await hypervisor.spawn(MachineSpec(firmware_vm(root).definition, root, nics))
    assert was_there == [True]


async def test_a_qemu_that_ends_at_once_leaves_no_zombie(
    root: Path, spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int] = []

    def late(pid: int) -> int | None:
        pids.append(pid)
        end = time.monotonic() + 10
        while (start := start_time(pid)) is not None and time.monotonic() < end:
            time.sleep(0.01)
        return start

    monkeypatch.setattr(hypervisor_module, "start_time", late)
    with pytest.raises(ProcedureFailed):
        await host(root, "a").spawn(firmware_vm(root, machine="pc-q35-99.9"))
    with pytest.raises(ProcessLookupError):  # a zombie would still be there
        os.kill(pids[0], 0)


async def test_qmp_that_breaks_off_is_connected_again(root: Path, spawn: Spawn) -> None:
    machine = await spawn(host(root, "a"), firmware_vm(root))
    told = machine.events()
    await machine._client._writer.drain()  # type: ignore[attr-defined]
    machine._client._writer.close()  # type: ignore[attr-defined]
    async with asyncio.timeout(20):
        assert (await anext(told)).name == "STOP"  # what it is now; the events meanwhile were not heard
    await machine.cont()
    assert (await machine.status()) is MachineStatus.RUNNING


async def test_a_qemu_whose_agent_died_while_starting_it_is_ended(root: Path, spawn: Spawn) -> None:
    machine = await spawn(host(root, "a"), firmware_vm(root))
    (root / "a/run/fw1/spawn.json").unlink()
    assert await host(root, "a").adopt() == []
    async with asyncio.timeout(20):
        await machine.wait_ended(20)  # type: ignore[attr-defined]
    assert not machine.is_alive


async def test_qemus_user_cannot_write_what_root_trusts(root: Path, spawn: Spawn) -> None:
    await spawn(host(root, "a"), firmware_vm(root))
    for file in ("run/fw1", "run/fw1/spawn.json", "log/fw1", "log/fw1/qemu.log"):
        path = root / "a" / file
        found = path.stat()
        assert found.st_uid == os.getuid(), path
        assert not found.st_mode & 0o022, path


async def test_a_link_in_place_of_a_log_is_not_followed(root: Path, spawn: Spawn) -> None:
    precious = root / "precious"
    precious.write_text("keep")
    logs = root / "a/log/fw1"
    logs.mkdir(parents=True)
    for name in ("qemu.log", "serial.log"):
        (logs / name).symlink_to(precious)
    await spawn(host(root, "a"), firmware_vm(root))
    assert precious.read_text() == "keep"
    assert precious.stat().st_uid == os.getuid()


async def test_what_is_being_started_is_not_taken_for_a_leftover(root: Path, spawn: Spawn) -> None:
    hypervisor = host(root, "a")
    starting = asyncio.ensure_future(spawn(hypervisor, firmware_vm(root)))
    while not (root / "a/run/fw1").exists():  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert await hypervisor.adopt() == []
    with pytest.raises(Refused, match="being started"):
        await hypervisor.spawn(firmware_vm(root))
    machine = await starting
    assert (await machine.status()) is MachineStatus.PRELAUNCH
    assert Path(f"/proc/{machine.pid}/comm").read_text().startswith("qemu:fw1")  # noqa: ASYNC240
    await machine.kill()
    assert [e.data["returncode"] async for e in machine.events()] == [-9]
