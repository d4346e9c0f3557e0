"""What this host tells the primaries: facts, vms, datastores, reservations in one value."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from zugvogel.domain.host import DatastoreReport, HostFacts, HostReport, VmReport
from zugvogel.errors import ZugvogelError
from zugvogel.ports.clock import Clock
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.ticking import run_every

REFRESH_S = 5.0
"""How often facts and the datastores' sizes are looked at."""
START_S = 5.0


class Reporting:
    """`vms`: another value whenever one of them changed. `usable`: datastore name -> (is usable, why not), from
    the beats. `reserved`: (bytes, cpus) held for incoming vms and those of `starting`. Sizes are asked in the
    background, so that a hung datastore delays nothing."""

    def __init__(
        self,
        host: str,
        boot_id: str,
        clock: Clock,
        *,
        facts: Callable[[], Awaitable[HostFacts]],
        vms: Callable[[], Sequence[VmReport]],
        datastores: Callable[[], Sequence[MountedDatastore]],
        usable: Callable[[str], tuple[bool, str]],
        reserved: Callable[[], tuple[int, int]],
        is_ready: Callable[[], bool] = lambda: True,
        starting: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._host = host
        self._boot_id = boot_id
        self._clock = clock
        self._read_facts = facts
        self._vms = vms
        self._datastores = datastores
        self._usable = usable
        self._reserved = reserved
        self._is_ready = is_ready
        self._starting = starting
        self._began_at = clock.monotonic()
        self._has_begun = False
        self._facts: HostFacts | None = None
        self._sizes: dict[str, DatastoreReport] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._last: HostReport | None = None
        self._made_of: tuple[object, ...] = ()

    async def run(self) -> None:
        try:
            await run_every(self._clock, lambda: REFRESH_S, self.tick, "report")
        finally:
            for task in self._asking.values():
                task.cancel()

    async def tick(self) -> None:
        """Read the facts; ask every datastore that is not being asked."""
        mounted = {m.datastore.name: m for m in self._datastores()}
        self._sizes = {name: size for name, size in self._sizes.items() if name in mounted}
        for name, datastore in mounted.items():
            if name not in self._asking:
                self._asking[name] = asyncio.create_task(self._ask(name, datastore))
        facts = await self._read_facts()
        if facts is not self._facts and facts != self._facts:
            self._facts = facts

    def current(self) -> HostReport | None:
        """The report now. None until the facts were read once and the agent knows its vms and datastores (at the
        latest START_S after its start): a report of nothing would wipe out what others know. Cheap, and the same
        object while nothing has changed: called every interval."""
        if self._facts is None:
            return None
        if not self._has_begun:
            self._has_begun = self._is_ready() or self._clock.monotonic() - self._began_at > START_S
            if not self._has_begun:
                return None
        vms = self._vms()
        datastores = tuple([self._datastore(m.datastore.name) for m in self._datastores()])
        made_of = (self._facts, vms, datastores, self._reserved(), self._starting())
        if self._last is None or made_of != self._made_of:
            reserved_bytes, reserved_cpus = made_of[3]
            self._last = HostReport(
                host=self._host,
                boot_id=self._boot_id,
                facts=self._facts,
                vms=tuple(sorted(vms, key=_name)),
                datastores=datastores,
                reserved_bytes=reserved_bytes,
                reserved_cpus=reserved_cpus,
                starting=made_of[4],
            )
        self._made_of = made_of  # also when only equal: the same objects are compared at a glance
        return self._last

    def _datastore(self, name: str) -> DatastoreReport:
        is_usable, why = self._usable(name)
        size = self._sizes.get(name)
        if size is None:
            return DatastoreReport(name=name, is_usable=is_usable, why=why)
        if is_usable == size.is_usable and why == size.why:
            return size
        return size.model_copy(update={"is_usable": is_usable and size.is_usable, "why": why or size.why})

    async def _ask(self, name: str, mounted: MountedDatastore) -> None:
        try:
            self._sizes[name] = await mounted.report()
        except ZugvogelError as error:
            before = self._sizes.get(name, DatastoreReport(name=name, is_usable=False))
            self._sizes[name] = before.model_copy(update={"is_usable": False, "why": error.cause})
        finally:
            self._asking.pop(name, None)


def _name(vm: VmReport) -> str:
    return vm.name
