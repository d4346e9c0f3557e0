"""The target's side of a quick migration: orders found on the datastore, or sooner when told by RPC.

An order says: be ready to load memory `id`. A QEMU is started at once, while the source still saves; the answer
says so. Then the lease is watched: once it says `suspended` with that memory, it is loaded and run here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import ValidationError

from zugvogel.core.checks import MEMORY_OVERHEAD_BYTES
from zugvogel.domain.lease import Lease, LeaseState
from zugvogel.domain.memory import ResumeAnswer, ResumeOrder
from zugvogel.errors import ProcedureFailed, Refused, ZugvogelError
from zugvogel.ports.hypervisor import Machine
from zugvogel.ports.storage import MemoryReader, MountedDatastore
from zugvogel.services.local_vms import LocalVms
from zugvogel.services.looks import Looks
from zugvogel.services.suspend.loading import Failpoint, MemoryLoading
from zugvogel.services.suspend.resuming import Resumer

log = logging.getLogger(__name__)

POLL_S = 0.02
TELL_S = 0.1
IDLE_POLL_S = 0.25
ORDER_CHECK_S = 1.0


@dataclass(slots=True)
class _Expected:
    order: ResumeOrder
    datastore: str
    task: asyncio.Task[None] | None = None


class ResumeOrders:
    """RPC command ``resume.look``; `tick` each second."""

    def __init__(
        self,
        vms: LocalVms,
        loading: MemoryLoading,
        resumer: Resumer,
        mounted: Callable[[], list[MountedDatastore]],
        is_silent: Callable[[str, str], bool],
        failpoint: Failpoint,
    ) -> None:
        """`is_silent(datastore, host)`: that host's beat there stands still for so long that it counts as dead."""
        self._vms = vms
        self._clock = vms.clock
        self._loading = loading
        self._resumer = resumer
        self._mounted = mounted
        self._is_silent = is_silent
        self._failpoint = failpoint
        self._expected: dict[str, _Expected] = {}
        self._taken: dict[str, str] = {}
        """vm -> the order that was taken up last; an order is taken up once."""
        self.looks = Looks("orders to resume")

    def handlers(self) -> dict[str, Any]:
        return {"resume.look": self._on_look}

    def reserved(self, but: str = "") -> tuple[int, int]:
        """(bytes, cpus) promised to vms that are on their way here, to all `but` this one."""
        if not self._expected:
            return 0, 0
        known = {*self._vms.guests, but}
        waiting = [e.order.definition for vm, e in self._expected.items() if vm not in known]
        return sum(d.memory_bytes + MEMORY_OVERHEAD_BYTES for d in waiting), sum(d.cpus for d in waiting)

    async def _on_look(self, payload: dict[str, Any]) -> dict[str, Any]:
        self._begin(is_news=True)
        return {}

    async def tick(self) -> None:
        """Begin to take up orders that are new. A datastore that does not answer holds up nobody else's."""
        self._begin(is_news=False)

    def _begin(self, *, is_news: bool) -> None:
        for store in self._mounted():
            self.looks.begin(store.datastore.name, partial(self._look, store), is_news=is_news)

    async def _look(self, store: MountedDatastore) -> None:
        try:
            given = await store.orders.given(self._vms.host)
        except ZugvogelError as error:
            log.debug("orders not looked at: %s", error)
            return
        for vm, raw in given.items():
            try:
                order = ResumeOrder.model_validate_json(raw)
            except ValidationError as error:
                log.warning("order for %s is not understood: %s", vm, error)
                continue
            if order.vm == vm and self._taken.get(vm) != order.id and vm not in self._expected:
                self._taken[vm] = order.id
                expected = self._expected[vm] = _Expected(order, store.datastore.name)
                expected.task = asyncio.create_task(self._carry_out(expected), name=f"resume {vm}")

    async def _carry_out(self, expected: _Expected) -> None:
        order = expected.order
        try:
            try:
                await self._expect(expected)
            except ZugvogelError as error:
                log.warning("%s: order of %s not carried out: %s", order.vm, order.source, error)
            await self._withdraw_if_taken_back(expected)
        finally:
            self._expected.pop(order.vm, None)

    async def _withdraw_if_taken_back(self, expected: _Expected) -> None:
        """An answer that came after its order was taken back would stay for good."""
        order, store = expected.order, self._vms.mounted(expected.datastore)
        try:
            if not await self._still_stands(store, order):
                await store.orders.withdraw(self._vms.host, order.vm)
        except ZugvogelError as error:
            log.warning("%s: an answer nobody waits for stays: %s", order.vm, error)

    async def _expect(self, expected: _Expected) -> None:
        order = expected.order
        machine: Machine | None = None
        reader: MemoryReader | None = None
        try:
            await self._failpoint("target.ordered")
            if self._vms.is_in_care(order.vm):
                raise Refused(f"{self._vms.host} still has something of {order.vm}")
            machine = await self._loading.spawn(order.definition, expected.datastore, order.id, order.used_bytes)
            if order.is_streamed:
                reader = await self._loading.follow(machine, expected.datastore, order.id, order.addresses)
            await self._answer(expected)
            await self._failpoint("target.ready")
            is_saved = await self._until_saved(expected, machine, reader)
        except ZugvogelError as error:
            await _give_up(machine, reader)
            await self._answer(expected, why=str(error))
            raise
        if not is_saved:
            await _give_up(machine, reader)
            return
        await self._resumer.resume(
            order.vm,
            expected.datastore,
            lambda *said, **more: None,
            machine=machine,
            reader=reader,
            why=f"quick migration from {order.source}",
        )

    async def _until_saved(self, expected: _Expected, machine: Machine, reader: MemoryReader | None) -> bool:
        """True when the lease says suspended with the ordered memory; False when the order was taken back."""
        order, store = expected.order, self._vms.mounted(expected.datastore)
        checked_at = told_at = self._clock.monotonic()
        told = 0
        while machine.is_alive:
            if reader is not None:
                now, loaded = self._clock.monotonic(), reader.file_bytes
                if now - told_at >= TELL_S:
                    await self._refuse_broken(order, machine, reader)
                    told_at = now
                    if loaded != told:
                        told = loaded
                        await self._tell_loaded(expected, loaded)
            lease = await self._lease(store, order.vm)
            if lease is not None and lease.memory_id == order.id and lease.state is LeaseState.SUSPENDED:
                return True
            now = self._clock.monotonic()
            if now - checked_at >= ORDER_CHECK_S:
                checked_at = now
                if not await self._still_stands(store, order):
                    return False
                if self._is_silent(expected.datastore, order.source):
                    log.warning("%s: %s, which was to save it, is silent", order.vm, order.source)
                    await store.orders.take_back(self._vms.host, order.vm)
                    return False
            await self._clock.sleep(POLL_S)
        raise ProcedureFailed(f"the QEMU that was to load {order.vm} ended", f"see: zv vm log {order.vm}")

    async def _refuse_broken(self, order: ResumeOrder, machine: Machine, reader: MemoryReader) -> None:
        if reader.error:
            raise ProcedureFailed(f"the memory of {order.vm} cannot be read: {reader.error}")
        sample = await machine.migration()
        if sample.status == "failed":
            raise ProcedureFailed(f"QEMU could not load {order.vm}: {sample.error}", f"see: zv vm log {order.vm}")

    async def _tell_loaded(self, expected: _Expected, loaded_bytes: int) -> None:
        try:
            await self._answer(expected, loaded_bytes=loaded_bytes)
        except ZugvogelError as error:
            log.info("%s: how much is loaded was not told: %s", expected.order.vm, error)

    async def _answer(self, expected: _Expected, *, why: str = "", loaded_bytes: int = 0) -> None:
        order = expected.order
        answer = ResumeAnswer(id=order.id, why=why, loaded_bytes=loaded_bytes)
        orders = self._vms.mounted(expected.datastore).orders
        await orders.answer(self._vms.host, order.vm, answer.model_dump_json().encode())

    async def _lease(self, store: MountedDatastore, vm: str) -> Lease | None:
        try:
            return await store.leases.read(vm)
        except ZugvogelError as error:
            log.info("%s: lease not read: %s", vm, error)
            await self._clock.sleep(IDLE_POLL_S)
            return None

    async def _still_stands(self, store: MountedDatastore, order: ResumeOrder) -> bool:
        try:
            raw = (await store.orders.given(self._vms.host)).get(order.vm)
        except ZugvogelError:
            return True
        try:
            return raw is not None and ResumeOrder.model_validate_json(raw).id == order.id
        except ValidationError:
            return False


async def _give_up(machine: Machine | None, reader: MemoryReader | None) -> None:
    if reader is not None:
        reader.close()
    if machine is not None:
        await machine.kill()
