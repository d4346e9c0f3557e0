"""Start a vm: on the host that is chosen for it, or the next best where that one has no room after all."""

from __future__ import annotations

import contextlib
from typing import Any

from zugvogel.domain.placing import PlaceWish
from zugvogel.domain.requests import StartVm
from zugvogel.domain.task import Task
from zugvogel.domain.vm import VmRecord
from zugvogel.errors import NotFound, Refused, Unreachable
from zugvogel.services.operations.deletion import Deletion
from zugvogel.services.operations.placing import Placements
from zugvogel.services.operations.world import World
from zugvogel.services.tasks import TaskContext


class VmStarts:
    def __init__(self, world: World, placements: Placements, deletion: Deletion) -> None:
        self._w = world
        self._placements = placements
        self._deletion = deletion
        world.handlers["vm.start"] = self._on_start

    async def start(self, record: VmRecord, request: StartVm) -> Task:
        """Raises Refused when no host takes it."""
        name, refused = record.definition.name, dict[str, str]()
        while True:
            wish = PlaceWish(
                record=record,
                what="start",
                host=request.host,
                refused=refused,
                is_admitted=True,
                is_forced=request.is_forced,
                otherwise=f"start it all the same: zv vm start {name} --force",
            )
            placing = await self._placements.place(wish)
            try:
                answer = await self._w.on(placing.host, "vm.start", {"vm": name, "why": placing.why})
            except Refused as error:
                if request.host is not None or isinstance(error, NotFound):
                    raise
                refused[placing.host] = error.cause
                continue
            if placing.overridden:
                self._placements.tell_overridden(name, "started", placing.overridden)
            return Task.model_validate(answer)

    async def _on_start(self, payload: dict[str, Any]) -> dict[str, Any]:
        """The room is taken before the answer: who asked can go to another host, and others see it taken."""
        name, why = str(payload["vm"]), str(payload.get("why", ""))
        self._hold_room(name)

        async def work(ctx: TaskContext) -> dict[str, Any]:
            try:
                ctx.progress("start", f"starting {name} on {self._w.me} ({why})")
                await self._w.vms.looked_at(name)
                self._deletion.refuse_start(name)  # no await between this and `start` marking it as in care
                guest = await self._w.vms.start(name)
            finally:
                self._w.vms.give_room_back(name)
            return {"vm": name, "host": self._w.me, "epoch": guest.epoch, "why": why}

        try:
            return self._w.tasks.start("vm.start", name, work).model_dump(mode="json")
        except Refused:
            self._w.vms.give_room_back(name)
            raise

    def _hold_room(self, name: str) -> None:
        """Not for one that is here in some way, which its start finds out, nor before this host knows its own
        room, for which its start waits."""
        if self._w.vms.is_in_care(name):
            return
        with contextlib.suppress(Unreachable):
            self._w.vms.hold_room(self._w.inventory.vm(name).definition)
