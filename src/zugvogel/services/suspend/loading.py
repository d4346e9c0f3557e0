"""Saved memory into a QEMU that waits for it; nothing of the guest runs, and no disk is touched."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from zugvogel.core import cpu
from zugvogel.domain.host import HostFacts
from zugvogel.domain.memory import Manifest, MemoryFormat
from zugvogel.domain.vm import VmDefinition
from zugvogel.errors import ProcedureFailed, Refused, ZugvogelError
from zugvogel.ports.hypervisor import Hypervisor, Machine, MachineSpec
from zugvogel.ports.storage import MemoryReader
from zugvogel.services.local_vms import LocalVms

POLL_S = 0.02
END_POLL_S = 0.002
TELL_S = 0.25
LOAD_STALL_S = 60.0
PREALLOC_SHARE = 0.5
"""A vm that used more of its memory gets all of it at once: touched first by the storage's own transfers, page by
page, it loads two to four times as slowly."""
ROLE = "resuming"

Failpoint = Callable[[str], Awaitable[None]]
Progress = Callable[..., None]


class MemoryLoading:
    def __init__(
        self,
        vms: LocalVms,
        hypervisor: Hypervisor,
        facts: Callable[[], Awaitable[HostFacts]],
        failpoint: Failpoint,
    ) -> None:
        self._vms = vms
        self._clock = vms.clock
        self._hypervisor = hypervisor
        self._facts = facts
        self._failpoint = failpoint

    async def refuse_unfit(self, manifest: Manifest) -> None:
        """L4 for saved memory: CPU, acceleration and QEMU of this host."""
        facts = await self._facts()
        vm, me = manifest.vm, self._vms.host
        model, here = manifest.definition.cpu_model, facts.cpu
        saved = manifest.cpu
        if here.vendor != saved.vendor:
            raise Refused(
                f"{vm} was saved on a CPU of {saved.vendor}, {me} has {here.vendor}", "choose another host"
            )
        if facts.accelerator != manifest.accelerator:
            raise Refused(
                f"{vm} was saved under {manifest.accelerator}, {me} runs vms with {facts.accelerator}",
                "choose another host",
            )
        if model == "host" and (here.family, here.model, here.stepping) != (
            saved.family,
            saved.model,
            saved.stepping,
        ):
            raise Refused(
                f"{vm} ran with its host's own CPU model, and {me} has another CPU", "choose another host"
            )
        missing = [] if model == "host" else cpu.missing_flags(model, facts)
        if missing:
            raise Refused(f"{vm} needs cpu flags {', '.join(missing)} that {me} lacks", "choose another host")
        if _version(facts.qemu_version) < _version(manifest.qemu_version):
            raise Refused(
                f"{vm} was saved by QEMU {manifest.qemu_version}, {me} has {facts.qemu_version}",
                f"update QEMU on {me}, or choose another host",
            )

    async def spawn(self, definition: VmDefinition, datastore: str, memory_id: str, used_bytes: int) -> Machine:
        """A QEMU that waits for about `used_bytes` of memory; nothing else is touched."""
        await self._vms.room_known()
        self._vms.take_room(definition)
        spec = MachineSpec(
            definition=definition,
            folder=self._vms.mounted(datastore).folders.path(definition.name),
            nics=self._vms.nic_specs(definition),
            incoming=True,
            is_preallocated=used_bytes > PREALLOC_SHARE * definition.memory_bytes,
            tags={
                "role": ROLE,
                "memory_id": memory_id,
                "datastore": datastore,
                "definition": definition.model_dump(mode="json"),
            },
        )
        return await self._hypervisor.spawn(spec)

    async def follow(
        self, machine: Machine, datastore: str, memory_id: str, addresses: dict[str, tuple[str, ...]]
    ) -> MemoryReader:
        """Let QEMU load a stream, which need not be complete yet. Whoever gets the reader closes it."""
        self._teach(addresses)
        reader = self._vms.mounted(datastore).memory.reader(machine.vm, memory_id)
        try:
            await machine.load_stream(reader.fd)
        except BaseException:
            reader.close()
            raise
        reader.begin()
        return reader

    async def load(
        self, machine: Machine, manifest: Manifest, datastore: str, reader: MemoryReader | None, progress: Progress
    ) -> None:
        """Returns when QEMU has all of it. `reader`: from which it loads already; it is used up."""
        if manifest.format is MemoryFormat.STREAM:
            reader = reader or await self.follow(machine, datastore, manifest.id, manifest.addresses)
            await self._load_stream(machine, manifest, reader, progress)
        else:
            await self._load_mapped(machine, manifest, datastore, progress)

    async def _load_mapped(self, machine: Machine, manifest: Manifest, datastore: str, progress: Progress) -> None:
        path = await self._vms.mounted(datastore).memory.path(manifest.vm, manifest.id)
        self._teach(manifest.addresses)
        await machine.load_from(path)
        await self._failpoint("target.loading")
        await self._until_loaded(machine, manifest, progress, None)

    async def _load_stream(
        self, machine: Machine, manifest: Manifest, reader: MemoryReader, progress: Progress
    ) -> None:
        """Returns when QEMU has all of it, and all of it was what was written."""
        reader.end_at(manifest.size_bytes)
        try:
            await self._failpoint("target.loading")
            await self._until_qemu_has_all(machine, manifest, progress, reader)
            while not reader.is_over:
                await self._clock.sleep(END_POLL_S)
            if reader.error or reader.sum.checksum != manifest.checksum:
                raise ProcedureFailed(
                    f"the saved memory of {manifest.vm} is not what was saved: {reader.error or 'other frames'}",
                    f"if it stays so, throw it away and boot fresh: zv vm discard {manifest.vm}",
                )
        finally:
            reader.close()

    async def _until_qemu_has_all(
        self, machine: Machine, manifest: Manifest, progress: Progress, reader: MemoryReader
    ) -> None:
        """A QEMU whose stream breaks off ends at once: what broke it is the cause, not that it does not answer."""
        try:
            await self._until_loaded(machine, manifest, progress, reader)
        except ZugvogelError as error:
            if not reader.error:
                raise
            raise _unreadable(manifest, reader) from error

    async def _until_loaded(
        self, machine: Machine, manifest: Manifest, progress: Progress, reader: MemoryReader | None
    ) -> None:
        began = self._clock.monotonic()
        moved_at = told_at = began
        used = 0
        while True:
            sample = await machine.migration()
            if sample.status == "completed":
                return
            if sample.status == "failed":
                raise ProcedureFailed(f"QEMU could not load it: {sample.error}", f"see: zv vm log {manifest.vm}")
            if reader is not None and reader.error:
                raise _unreadable(manifest, reader)
            now, before = self._clock.monotonic(), used
            if now - told_at < TELL_S:
                await self._clock.sleep(POLL_S if reader is None else END_POLL_S)
                continue
            told_at, used = now, await machine.memory_used_bytes()
            if used > before:
                moved_at = now
            elif now - moved_at > LOAD_STALL_S:
                raise ProcedureFailed(
                    f"nothing came from the datastore of {manifest.vm} for {LOAD_STALL_S:.0f} s",
                    "check the mount and the storage behind it",
                )
            expected = max(1, min(manifest.used_bytes, manifest.definition.memory_bytes))
            progress(
                "load",
                f"{used / 1e6:.0f} MB in memory",
                min(0.99, used / expected),
                {"phase": "load", "transferred_bytes": used, "total_bytes": expected, "elapsed_s": now - began},
            )

    def _teach(self, addresses: dict[str, tuple[str, ...]]) -> None:
        for mac, known in addresses.items():
            self._vms.network.teach(mac, known)


def _unreadable(manifest: Manifest, reader: MemoryReader) -> ProcedureFailed:
    return ProcedureFailed(
        f"the saved memory of {manifest.vm} cannot be read: {reader.error}",
        f"if it stays so, throw it away and boot fresh: zv vm discard {manifest.vm}",
    )


def _version(text: str) -> tuple[int, int]:
    parts = [int(p) if p.isdigit() else 0 for p in text.split(".")[:2]]
    return (parts[0] if parts else 0, parts[1] if len(parts) > 1 else 0)
