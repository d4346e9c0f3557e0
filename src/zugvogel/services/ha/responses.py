"""What an isolated host does with its vms (H3, H7): only what a judge has accepted, and only while it is isolated.

The acceptance is a file, since nothing else gets through. Whatever is done ends in a lease that lets the judge go
on with the vm: released as failed, or suspended with its memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pydantic import ValidationError

from zugvogel.domain.ha import IsolationOrder, IsolationResponse
from zugvogel.domain.memory import SaveOptions
from zugvogel.domain.task import Severity
from zugvogel.errors import NotFound, ProcedureFailed, Refused, ZugvogelError
from zugvogel.ports.storage import MountedDatastore
from zugvogel.services.local_vms import Guest, LocalVms
from zugvogel.services.looks import Looks
from zugvogel.services.suspend.quick import QuickMigrations
from zugvogel.services.tasks import TaskBoard, TaskCancelled, TaskContext

log = logging.getLogger(__name__)

KIND = "vm.isolate"
CHECK_S = 1.0
AGAIN_S = 10.0
"""A response that was not carried out is tried again after so long, while its order stands."""
ABOUT_TO = "about to be suspended"
CALLED_OFF, FROZEN = "called off", "frozen"


class IsolationResponses:
    """`tick` each second; it only begins looks, and none unless high availability `is_enabled` and this host
    `is_isolated`."""

    def __init__(
        self,
        vms: LocalVms,
        quick: QuickMigrations,
        tasks: TaskBoard,
        stores: Callable[[], Sequence[MountedDatastore]],
        is_isolated: Callable[[], bool],
        is_enabled: Callable[[], bool],
    ) -> None:
        self._vms = vms
        self._clock = vms.clock
        self._quick = quick
        self._tasks = tasks
        self._stores = stores
        self._is_isolated: Callable[[], bool] = lambda: is_isolated() and is_enabled()
        self._taken: dict[str, str] = {}
        """vm -> the order that was taken up last; not there any more where nothing was done for it."""
        self._again_at: dict[str, tuple[float, str]] = {}
        """vm -> when an order that came to nothing is due again, and which."""
        self.looks = Looks("isolation orders")

    async def stop(self) -> None:
        await self.looks.stop()

    async def tick(self) -> None:
        if self._is_isolated():
            for store in self._stores():
                self.looks.begin(store.datastore.name, partial(self._look, store))

    async def _look(self, store: MountedDatastore) -> None:
        try:
            given = await store.isolation_orders.given(self._vms.host)
        except ZugvogelError as error:
            log.debug("isolation orders not looked at: %s", error)
            return
        for vm, raw in given.items():
            try:
                order = IsolationOrder.model_validate_json(raw)
            except ValidationError as error:
                log.warning("isolation order for %s is not understood: %s", vm, error)
                continue
            if (
                order.vm == vm
                and self._taken.get(vm) != order.id
                and self._clock.monotonic() >= self._due_at(order)
            ):
                self._take_up(order)

    def _due_at(self, order: IsolationOrder) -> float:
        at, order_id = self._again_at.get(order.vm, (0.0, ""))
        return at if order_id == order.id else 0.0

    def _take_up(self, order: IsolationOrder) -> None:
        """Left for another look while something else is being done with the vm, or it stands still."""
        guest = self._vms.guests.get(order.vm)
        # a lower epoch here: a claim of this host whose outcome it does not know; the judge read it as held here
        if guest is None or guest.epoch > order.epoch or guest.busy or _is_frozen(guest):
            return
        if order.response is IsolationResponse.LEAVE or not self._is_isolated():
            return
        self._taken[order.vm] = order.id

        async def work(ctx: TaskContext) -> dict[str, Any]:
            done = CALLED_OFF
            try:
                ctx.progress("isolated", f"accepted by {order.judge}: {order.response}")
                done = await self._carry_out(ctx, order, guest)
            finally:
                if done in {CALLED_OFF, FROZEN}:
                    self._let_go(order)
            return {"response": done}

        try:
            self._tasks.start(KIND, order.vm, work)
        except Refused as error:  # the agent stops
            log.info("%s: %s", order.vm, error)
            self._let_go(order)

    def _let_go(self, order: IsolationOrder) -> None:
        """Nothing was done: the vm is still here, and the order is good for another try."""
        if self._taken.get(order.vm) == order.id:
            del self._taken[order.vm]
            self._again_at[order.vm] = (self._clock.monotonic() + AGAIN_S, order.id)

    async def _carry_out(self, ctx: TaskContext, order: IsolationOrder, guest: Guest) -> str:
        """Returns what was done."""
        if order.response is IsolationResponse.SUSPEND:
            return await self._suspend(ctx, order, guest)
        if order.response is IsolationResponse.SHUTDOWN:
            return await self._shut_down(order, guest)
        return await self._cut(order, "its isolation response is poweroff")

    # shut down, power off ------------------------------------------------------------------------------

    def _why(self) -> str:
        return f"{self._vms.host} is isolated; it is to go on elsewhere"

    async def _cut(self, order: IsolationOrder, why: str) -> str:
        if not self._is_isolated():
            return self._called_off(order)
        await self._vms.kill(order.vm, failure_why=self._why())
        told = f"the power of {order.vm} was cut on isolated {self._vms.host}: {why}"
        self._vms.events.emit("vm.powered-off", order.vm, told, severity=Severity.WARNING)
        return IsolationResponse.POWEROFF

    async def _shut_down(self, order: IsolationOrder, guest: Guest) -> str:
        timeout_s = float(self._vms.inventory.number("das.isolationshutdowntimeout"))
        deadline = self._clock.monotonic() + timeout_s
        called_off = asyncio.Event()
        watch = asyncio.create_task(self._watch(called_off))
        try:
            await self._vms.stop(order.vm, timeout_s, called_off, failure_why=self._why())
        except ProcedureFailed as error:
            if called_off.is_set() or not self._is_isolated():
                return await self._let_be(order, guest, deadline)
            return await self._cut(order, f"it did not shut down: {error.cause}")
        finally:
            watch.cancel()
        told = f"{order.vm} shut down on isolated {self._vms.host}"
        self._vms.events.emit("vm.shut-down", order.vm, told, severity=Severity.WARNING)
        return IsolationResponse.SHUTDOWN

    async def _watch(self, called_off: asyncio.Event) -> None:
        while self._is_isolated():
            await self._clock.sleep(CHECK_S)
        called_off.set()

    async def _let_be(self, order: IsolationOrder, guest: Guest, deadline: float) -> str:
        """The power button was pressed before the network came back: a guest that still follows is to be started
        again, not taken for one that a user stopped."""
        while not guest.ended.is_set() and self._clock.monotonic() < deadline:
            await self._clock.sleep(CHECK_S)
        if not guest.ended.is_set():
            guest.failure_why = ""
        return self._called_off(order)

    def _called_off(self, order: IsolationOrder) -> str:
        told = f"{self._vms.host} is not isolated any more, or it need not respond: {order.vm} is left as it is"
        self._vms.events.emit("vm.isolation-called-off", order.vm, told)
        return CALLED_OFF

    # suspend -------------------------------------------------------------------------------------------

    async def _suspend(self, ctx: TaskContext, order: IsolationOrder, guest: Guest) -> str:
        """By quick migration through the datastore. What keeps its memory from being saved costs it the memory,
        since it must not stay where nobody reaches it."""
        if order.target is None:
            return await self._cut(order, "no host was named that could resume it")
        if guest.busy:
            return self._called_off(order)
        result, why = await self._migrate(ctx, guest, order.target)
        if result == "stayed":
            return await self._fall_back(order, why)
        return f"{IsolationResponse.SUSPEND}: {result}"

    async def _migrate(self, ctx: TaskContext, guest: Guest, target: str) -> tuple[str, str]:
        """(result of the move, why). The vm is taken from here on, and free again where it stayed."""
        guest.busy = ABOUT_TO
        watch = asyncio.create_task(self._watch(ctx.cancel_requested))
        try:
            host, now = self._vms.inventory.host(target), self._clock.monotonic()
            report = await self._quick.migrate(ctx, guest, host, SaveOptions(), now)
        except (ZugvogelError, TaskCancelled) as error:
            return "stayed", error.cause
        finally:
            watch.cancel()
            if guest.busy == ABOUT_TO:
                guest.busy = ""
        return report.result, report.why

    async def _fall_back(self, order: IsolationOrder, why: str) -> str:
        if not self._is_isolated():
            return self._called_off(order)
        told = f"the memory of {order.vm} could not be saved on isolated {self._vms.host}: {why}"
        self._vms.events.emit("vm.suspend-failed", order.vm, told, severity=Severity.WARNING)
        try:
            guest = self._vms.free_guest(order.vm)
        except NotFound:
            return "ended meanwhile"
        if _is_frozen(guest):
            return FROZEN
        return await self._cut(order, why)


def _is_frozen(guest: Guest) -> bool:
    """Whether it may go on is decided by its lease, once its storage answers."""
    return bool(guest.frozen_why) or guest.machine.is_frozen
