"""zugvogel.services.suspend.loading: where saved memory may be loaded, and what counts as loaded."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from zugvogel.adapters.clock import SystemClock
from zugvogel.core.cpu import MODELS
from zugvogel.domain.host import CpuFacts, HostFacts
from zugvogel.domain.memory import Manifest, MemoryFormat, StreamSum
from zugvogel.domain.migration import MigrationSample
from zugvogel.domain.vm import VmDefinition
from zugvogel.errors import ProcedureFailed, Refused, Unreachable
from zugvogel.ports.hypervisor import MachineSpec
from zugvogel.services.suspend.loading import MemoryLoading

LEVEL = "x86-64-v2"
CPU = CpuFacts(vendor="AuthenticAMD", family=25, model=1, stepping=1, name="cpu", flags=frozenset(MODELS[LEVEL]))
HERE = HostFacts(cpu=CPU, cores=2, memory_total_bytes=1, accelerator="kvm", qemu_version="10.0.2")
WEB = VmDefinition(
    name="web",
    uuid="7f2c9a52-64a4-4d6c-9a57-0e6f5f1b8a11",
    memory_bytes=128 << 20,
    cpus=2,
    machine="pc-q35-7.2",
    cpu_model=LEVEL,
)
SUM = StreamSum(size_bytes=4096, checksum="sum")


def manifest(cpu_model: str = LEVEL) -> Manifest:
    return Manifest(
        id="m1",
        vm="web",
        host="host1",
        epoch=3,
        format=MemoryFormat.STREAM,
        definition=WEB.model_copy(update={"cpu_model": cpu_model}),
        cpu=CPU,
        accelerator="kvm",
        qemu_version="10.0.2",
        size_bytes=SUM.size_bytes,
        used_bytes=SUM.size_bytes,
        checksum=SUM.checksum,
        addresses={"52:54:00:00:00:01": ("192.0.2.9",)},
    )


class World:
    """host2 with `facts`, and what it did."""

    def __init__(self, facts: HostFacts = HERE) -> None:
        self.specs: list[MachineSpec] = []
        self.taught: dict[str, tuple[str, ...]] = {}
        self.reader = Reader()
        store: Any = SimpleNamespace(
            folders=SimpleNamespace(path=lambda name: f"/srv/{name}"),
            memory=SimpleNamespace(reader=lambda _vm, _id: self.reader),
        )
        vms: Any = SimpleNamespace(
            clock=SystemClock(),
            host="host2",
            room_known=_nothing,
            take_room=lambda _definition: None,
            nic_specs=lambda _definition: (),
            mounted=lambda _name: store,
            network=SimpleNamespace(teach=self.taught.__setitem__),
        )
        hypervisor: Any = SimpleNamespace(spawn=self._spawn)

        async def told() -> HostFacts:
            return facts

        self.loading = MemoryLoading(vms, hypervisor, told, _nothing)

    async def _spawn(self, spec: MachineSpec) -> Any:
        self.specs.append(spec)

    async def load(self, machine: Any) -> None:
        async with asyncio.timeout(20):
            await self.loading.load(machine, manifest(), "shared", None, lambda *said, **more: None)


class Reader:
    def __init__(self) -> None:
        self.fd, self.is_over, self.error, self.sum, self.end = 7, False, "", SUM, 0
        self.is_closed = False

    def begin(self) -> None:
        """QEMU has the pipe."""

    def end_at(self, size_bytes: int) -> None:
        self.end, self.is_over = size_bytes, True

    def close(self) -> None:
        self.is_closed = True


class Machine:
    def __init__(self, status: str = "completed") -> None:
        self.vm, self.status, self.fds = "web", status, list[int]()

    async def load_stream(self, fd: int) -> None:
        self.fds.append(fd)

    async def migration(self) -> MigrationSample:
        return MigrationSample(status=self.status, error="it says why")

    async def memory_used_bytes(self) -> int:
        return 1


async def _nothing(*_of: Any) -> None:
    """No failpoint, and room enough."""


def other_cpu(**changes: Any) -> HostFacts:
    return HERE.model_copy(update={"cpu": CPU.model_copy(update=changes)})


@pytest.mark.parametrize(
    ("facts", "cpu_model", "why"),
    [
        (other_cpu(vendor="GenuineIntel"), LEVEL, "GenuineIntel"),
        (other_cpu(flags=frozenset()), LEVEL, "needs cpu flags"),
        (other_cpu(stepping=2), "host", "another CPU"),
        (HERE.model_copy(update={"accelerator": "tcg"}), LEVEL, "runs vms with tcg"),
        (HERE.model_copy(update={"qemu_version": "9.2.4"}), LEVEL, "saved by QEMU 10.0.2"),
    ],
)
async def test_a_host_that_cannot_run_it_refuses(facts: HostFacts, cpu_model: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        await World(facts).loading.refuse_unfit(manifest(cpu_model))


@pytest.mark.parametrize(
    ("facts", "cpu_model"),
    [
        (HERE, LEVEL),
        (HERE, "host"),
        (other_cpu(stepping=2), LEVEL),
        (HERE.model_copy(update={"qemu_version": "10.1.0"}), LEVEL),
        (HERE.model_copy(update={"qemu_version": "10.0.1"}), LEVEL),
    ],
)
async def test_a_host_that_can_run_it_does_not(facts: HostFacts, cpu_model: str) -> None:
    await World(facts).loading.refuse_unfit(manifest(cpu_model))


@pytest.mark.parametrize(("used_mib", "is_preallocated"), [(0, False), (64, False), (65, True), (128, True)])
async def test_a_well_used_vm_gets_its_memory_beforehand(used_mib: int, is_preallocated: bool) -> None:
    world = World()
    await world.loading.spawn(WEB, "shared", "m1", used_mib << 20)
    (spec,) = world.specs
    assert (spec.incoming, spec.is_preallocated) == (True, is_preallocated)
    assert spec.tags["memory_id"] == "m1"


async def test_a_stream_is_loaded_when_qemu_has_it_and_it_is_what_was_written() -> None:
    world, machine = World(), Machine()
    await world.load(machine)
    assert machine.fds == [world.reader.fd]
    assert world.reader.end == SUM.size_bytes
    assert world.reader.is_closed
    assert world.taught == manifest().addresses


async def test_frames_other_than_those_written_are_not_loaded_memory() -> None:
    world = World()
    world.reader.sum = StreamSum(size_bytes=4096, checksum="another")
    with pytest.raises(ProcedureFailed, match="not what was saved"):
        await world.load(Machine())
    assert world.reader.is_closed


async def test_a_file_that_cannot_be_read_ends_it_though_qemu_waits_on() -> None:
    world = World()
    world.reader.error = "frame 3 is damaged"
    with pytest.raises(ProcedureFailed, match="frame 3 is damaged"):
        await world.load(Machine("active"))
    assert world.reader.is_closed


async def test_what_broke_the_stream_is_told_though_qemu_has_ended_of_it() -> None:
    world, machine = World(), Machine()

    async def gone() -> MigrationSample:
        world.reader.error = "frame 3 is damaged"
        raise Unreachable("QEMU did not answer")

    machine.migration = gone  # type: ignore[method-assign]
    with pytest.raises(ProcedureFailed, match="frame 3 is damaged"):
        await world.load(machine)
    assert world.reader.is_closed


async def test_qemus_own_refusal_is_told() -> None:
    world = World()
    with pytest.raises(ProcedureFailed, match="it says why"):
        await world.load(Machine("failed"))
    assert world.reader.is_closed
