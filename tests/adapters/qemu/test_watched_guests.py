"""A guest that panics, starves its watchdog or falls silent, as QEMU and the port of its agent tell of it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.adapters.qemu.conftest import Spawn, firmware_vm, host
from zugvogel.domain.ha import Monitoring, VmPolicy
from zugvogel.domain.vm import Boot
from zugvogel.errors import DeadlineExceeded
from zugvogel.lab import guest
from zugvogel.ports.hypervisor import Machine, MachineSpec, MachineStatus

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(300)]

BOOT_S = 120.0
MACHINES = ("pc-q35-7.2", "pc-i440fx-7.2")
ONE_EACH_TIME = [MACHINES[0], *(pytest.param(m, marks=pytest.mark.exhaustive) for m in MACHINES[1:])]


def watched_vm(
    root: Path, *, machine: str = "pc-q35-7.2", monitoring: Monitoring = Monitoring.GUEST, incoming: bool = False
) -> MachineSpec:
    image = guest.build()
    for source, name in ((image.kernel, "kernel"), (image.agent_initrd, "initrd")):
        if not (root / name).exists():
            shutil.copyfile(source, root / name)
            (root / name).chmod(0o644)
    spec = firmware_vm(root, machine=machine, incoming=incoming)
    update = {
        "memory_bytes": 192 << 20,
        "boot": Boot(kernel="kernel", initrd="initrd", append=image.append),
        "ha": VmPolicy(monitoring=monitoring),
    }
    return MachineSpec(spec.definition.model_copy(update=update), root, (), incoming, False, {})


class Shell:
    """The guest's serial console."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    async def run(self, command: str, says: str) -> None:
        """Until `says` comes back; the shell may not be there yet."""
        reader, writer = await asyncio.open_unix_connection(str(self._machine.serial_socket))
        heard = b""
        try:
            async with asyncio.timeout(BOOT_S):
                while says.encode() not in heard:
                    writer.write(command.encode() + b"\n")
                    try:
                        async with asyncio.timeout(5.0):
                            while says.encode() not in heard:
                                heard += await reader.read(4096)
                    except TimeoutError:
                        continue
        finally:
            writer.close()


async def booted(machine: Machine) -> Shell:
    await machine.cont()
    async with asyncio.timeout(BOOT_S):
        while not await answers(machine):  # noqa: ASYNC110 - QEMU tells nobody
            await asyncio.sleep(0.2)
    shell = Shell(machine)
    await shell.run("echo hel''lo", "hello")
    return shell


async def answers(machine: Machine) -> bool:
    try:
        return await machine.ping_guest(5.0)
    except DeadlineExceeded:  # its port is open, and it still starts
        return False


async def until(machine: Machine, state: MachineStatus) -> None:
    async with asyncio.timeout(60):
        while await machine.status() is not state:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def fetch(target: str) -> str:
    return f"wget -qO- http://127.0.0.1{target} | grep -o boot''_id"


@pytest.mark.parametrize("machine_type", MACHINES)
async def test_a_panic_stops_the_guest_which_goes_on_with_it_when_it_is_let(
    root: Path, spawn: Spawn, machine_type: str
) -> None:
    spec = watched_vm(root, machine=machine_type, monitoring=Monitoring.CRASH)
    machine = await spawn(host(root, "a"), spec)
    shell = await booted(machine)
    events = machine.events()
    await shell.run(fetch("/panic"), "boot_id")
    await until(machine, MachineStatus.GUEST_PANICKED)
    await machine.cont()
    names = []
    async for event in events:  # its kernel is set up to start again after a panic
        names.append(event.name)
        if event.name == "RESET":
            break
    assert names[0] == "GUEST_PANICKED"
    assert {"STOP", "RESUME"} <= set(names)


@pytest.mark.parametrize("machine_type", ONE_EACH_TIME)
async def test_a_watchdog_that_is_fed_no_more_stops_the_guest_and_a_reset_brings_it_back(
    root: Path, spawn: Spawn, machine_type: str
) -> None:
    machine = await spawn(host(root, "a"), watched_vm(root, machine=machine_type))
    shell = await booted(machine)
    await shell.run(fetch("/fault?watchdog_s=8"), "boot_id")
    await asyncio.sleep(12.0)  # longer than the watchdog waits
    assert await machine.status() is MachineStatus.RUNNING
    await shell.run(fetch("/fault?watchdog=starves"), "boot_id")
    await until(machine, MachineStatus.WATCHDOG)
    await machine.reset()
    await machine.cont()
    await booted(machine)


async def test_an_agent_that_hangs_is_told_from_one_that_ended(root: Path, spawn: Spawn) -> None:
    machine = await spawn(host(root, "a"), watched_vm(root))
    assert await machine.ping_guest(1.0) is False
    shell = await booted(machine)
    await shell.run(fetch("/fault?agent=silent"), "boot_id")
    with pytest.raises(DeadlineExceeded):
        await machine.ping_guest(1.0)
    await shell.run(fetch("/fault?agent=runs"), "boot_id")
    async with asyncio.timeout(30):
        while not await answers(machine):
            pass
    await shell.run("killall qemu-ga; while pidof qemu-ga; do usleep 100000; done; echo en''ded", "ended")
    assert await machine.ping_guest(5.0) is False
    assert await machine.io_count() == 0


async def test_what_watches_goes_along_with_a_move(root: Path, spawn: Spawn) -> None:
    """To a QEMU that is spawned for the same definition, as the target does it."""
    source = await spawn(host(root, "a"), watched_vm(root))
    shell = await booted(source)
    await shell.run(fetch("/fault?watchdog_s=600"), "boot_id")
    target = await spawn(host(root, "b"), watched_vm(root, incoming=True))
    await target.listen("127.0.0.1", 39471)
    await source.migrate_to("127.0.0.1", 39471)
    await until(source, MachineStatus.POSTMIGRATE)
    await target.cont()
    assert await answers(target)
    await Shell(target).run(fetch("/panic"), "boot_id")
    await until(target, MachineStatus.GUEST_PANICKED)
