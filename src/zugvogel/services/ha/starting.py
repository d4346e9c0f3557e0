"""The ordered host's side of a failover: orders found on the datastore, or sooner by RPC.

An order names the epoch it was judged from, and only the next one is linked for it. So an order that is late, or
comes twice, or was given to two hosts, starts at most one QEMU in the cluster.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from pydantic import ValidationError

from zugvogel.domain.ha import StartAnswer, StartOrder
from zugvogel.errors import ImageLocked, InvalidInput, ProcedureFailed, Refused, Unreachable, ZugvogelError
from zugvogel.ports.hypervisor import Machine
from zugvogel.ports.peers import Handler
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.local_vms import Guest, LocalVms
from zugvogel.services.looks import Looks
from zugvogel.services.own_lease import epoch_of
from zugvogel.services.suspend.resuming import Resumer

log = logging.getLogger(__name__)

KILL_S = 20.0


class StartOrders:
    """RPC commands ``ha.start`` and ``ha.give_up``; `tick` each second. `is_enabled`: HA is; orders on the
    datastore are looked for only then. `usable(datastore)`: this host's last beat there was written in time, and
    why not. `tell_now`: have the primaries hear of a vm that runs now. `on_run(guest, order, taken_at)`: told of
    each vm that runs by an order, and when that was taken up; never raises."""

    def __init__(
        self,
        vms: LocalVms,
        resumer: Resumer,
        stores: Callable[[], Sequence[MountedDatastore]],
        *,
        is_enabled: Callable[[], bool],
        usable: Callable[[str], tuple[bool, str]],
        tell_now: Callable[[], Awaitable[None]],
        failpoint: Callable[[str], Awaitable[None]],
        on_run: Callable[[Guest, StartOrder, float], Awaitable[None]],
    ) -> None:
        self._vms = vms
        self._resumer = resumer
        self._stores = stores
        self._is_enabled = is_enabled
        self._usable = usable
        self._tell_now = tell_now
        self._failpoint = failpoint
        self._on_run = on_run
        self._taken: dict[str, str] = {}
        """vm -> the order that was taken up last; an order is taken up once."""
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self.looks = Looks("orders to start")

    def handlers(self) -> dict[str, Handler]:
        return {"ha.start": self._on_start, "ha.give_up": self._on_give_up}

    async def stop(self) -> None:
        """What is under way is cut off as by a crash; the next agent settles it."""
        await self.looks.stop()
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # taking up ---------------------------------------------------------------------------------------

    async def _on_start(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Returns when the order is taken up; the answer goes to the datastore."""
        try:
            order = StartOrder.model_validate(payload.get("order"))
        except ValidationError as error:
            raise InvalidInput(f"the order is not understood: {error}") from None
        self._take_up(order)
        return {}

    async def tick(self) -> None:
        """Begin to take up orders that are new. A datastore that does not answer holds up nobody else's."""
        if self._is_enabled():
            for store in self._stores():
                self.looks.begin(store.datastore.name, partial(self._look, store))

    async def _look(self, store: MountedDatastore) -> None:
        try:
            given = await store.start_orders.given(self._vms.host)
        except ZugvogelError as error:
            log.debug("orders not looked at: %s", error)
            return
        for vm, raw in given.items():
            try:
                order = StartOrder.model_validate_json(raw)
            except ValidationError as error:
                log.warning("order to start %s is not understood: %s", vm, error)
                continue
            if order.vm == vm and order.datastore == store.datastore.name:
                self._take_up(order)

    def _take_up(self, order: StartOrder) -> None:
        if self._taken.get(order.vm) == order.id or order.vm in self._under_way:
            return
        self._taken[order.vm] = order.id
        work = self._carry_out(order)
        self._under_way[order.vm] = asyncio.create_task(work, name=f"ordered start of {order.vm}")

    # carrying out --------------------------------------------------------------------------------------

    async def _carry_out(self, order: StartOrder) -> None:
        try:
            await self._answer(order, await self._start(order))
        except ZugvogelError as error:
            log.warning("%s: the answer to %s was not written: %s", order.vm, order.judge, error)
        except Exception as error:
            log.exception("ordered start of %s", order.vm)
            await self._answer(order, StartAnswer(id=order.id, why=f"the agent has a defect: {error!r}"))
        finally:
            self._under_way.pop(order.vm, None)

    async def _start(self, order: StartOrder) -> StartAnswer:
        guest = self._vms.guests.get(order.vm)
        if guest is not None and guest.epoch > order.epoch:
            return StartAnswer(id=order.id, epoch=guest.epoch)  # done before: this agent was restarted since
        taken_at = self._vms.clock.monotonic()
        try:
            await self._failpoint("ordered.taken")
            await self._vms.looked_at(order.vm)
            if order.is_resume:
                loaded = await self._resumer.resume(
                    order.vm,
                    order.datastore,
                    lambda *said, **more: None,
                    is_takeover=True,
                    judged_epoch=order.epoch,
                    why=f"resumed by high availability: {order.why}",
                )
                guest = loaded.guest
            else:
                guest = await self._vms.start(order.vm, judged_epoch=order.epoch)
            await self._failpoint("ordered.started")
        except ImageLocked as error:
            return StartAnswer(id=order.id, why=error.cause, is_lock_held=True)
        except ZugvogelError as error:
            return StartAnswer(id=order.id, why=error.cause)
        await self._tell_now()
        await self._on_run(guest, order, taken_at)
        return StartAnswer(id=order.id, epoch=guest.epoch)

    async def _answer(self, order: StartOrder, answer: StartAnswer) -> None:
        orders = self._vms.mounted(order.datastore).start_orders
        await orders.answer(self._vms.host, order.vm, answer.model_dump_json().encode())
        if order.vm not in await orders.given(self._vms.host):
            await orders.withdraw(self._vms.host, order.vm)  # taken back meanwhile: nobody waits for it

    # giving up -----------------------------------------------------------------------------------------

    async def _on_give_up(self, payload: dict[str, Any]) -> dict[str, Any]:
        """End the QEMU of a vm whose datastore this host does not reach, or (`dead_heir`) whose live migration was
        to run it on a host that is dead. An answer says that no process of it is left here; none is started
        without a claim. Raises where that cannot be said."""
        name, epoch, dead_heir = str(payload["vm"]), int(payload["epoch"]), str(payload.get("dead_heir", ""))
        try:
            await self._vms.looked_at(name)
        except Unreachable:
            left = self._vms.left_unread(name)
            if left is None or dead_heir:
                raise
            await self._end_left(*left, epoch)
            return {}
        guest = self._vms.guests.get(name)
        if guest is None:
            if self._vms.may_have_process(name):
                raise Refused(f"{self._vms.host} still has something of {name}", f"see: zv vm show {name}")
            return {}
        if guest.epoch > epoch:  # a lower one: a claim of this host whose outcome it does not know
            raise Refused(f"{name} runs here at epoch {guest.epoch}, not {epoch}", "its lease has gone on")
        self._refuse_keeping(guest, dead_heir)
        guest.failure_why = (
            f"{dead_heir}, which was to run it from here on, died"
            if dead_heir
            else f"{self._vms.host} had lost datastore {guest.datastore}, so it was given up"
        )
        try:
            await self._kill(guest.machine)
        except ProcedureFailed:
            guest.failure_why = ""
            raise
        return {}

    async def _end_left(self, machine: Machine, datastore: str, epoch: int) -> None:
        """One that outlived an earlier agent, and whose lease this one could not read yet: its datastore does not
        answer. It is settled as any other whose QEMU has ended when that does."""
        if epoch_of(machine) > epoch:
            raise Refused(f"{machine.vm} was started here later than epoch {epoch}", "its lease has gone on")
        self._refuse_usable(machine.vm, datastore)
        await self._kill(machine)

    def _refuse_keeping(self, guest: Guest, dead_heir: str) -> None:
        """Raises for a vm that this host does better to keep. A move that is under way is no reason: without the
        datastore it does not end, and whatever it is about to claim, only one epoch follows the one that was
        judged."""
        name = guest.name
        if dead_heir:
            if guest.machine.is_alive and not guest.awaits_heir:
                raise Refused(f"{name} has not been handed over to {dead_heir}", f"see: zv vm show {name}")
            return
        self._refuse_usable(name, guest.datastore)

    def _refuse_usable(self, name: str, datastore: str) -> None:
        if self._usable(datastore)[0]:
            raise Refused(
                f"the beats of {self._vms.host} on {datastore} work again, so {name} stays there",
                f"see: zv ha explain {self._vms.host}",
            )

    async def _kill(self, machine: Machine) -> None:
        try:
            async with asyncio.timeout(KILL_S):
                await machine.kill()
        except TimeoutError:
            log.warning("%s: its QEMU did not end within %.0f s", machine.vm, KILL_S)
        if machine.is_alive:
            raise ProcedureFailed(
                f"the QEMU of {machine.vm} on {self._vms.host} cannot be ended: it waits for its disk",
                f"cut the power of {self._vms.host}, then: zv host confirm-dead {self._vms.host}",
            )
