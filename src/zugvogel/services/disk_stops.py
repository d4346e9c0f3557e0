"""Vms that QEMU stopped because a disk failed (``werror=stop``): told as frozen, and gone on with when their
datastore works again. The guest sees no error."""

from __future__ import annotations

import logging
from collections.abc import Callable

from zugvogel.domain.task import Severity
from zugvogel.errors import ZugvogelError
from zugvogel.ports.hypervisor import MachineStatus
from zugvogel.services.local_vms import Guest, LocalVms
from zugvogel.services.looks import Looks

log = logging.getLogger(__name__)

WHY = "its disk does not answer; it goes on when the datastore works again"


class DiskStops:
    """`usable(datastore)` tells whether this host's last beat there was written in time, and why not."""

    def __init__(self, vms: LocalVms, usable: Callable[[str], tuple[bool, str]]) -> None:
        self._vms = vms
        self._usable = usable
        self.looks = Looks("vms that stand still")

    async def begin(self) -> None:
        """Belongs to each second: `tick`, where there is something to look at, beside whatever else goes on."""
        for guest in self._vms.guests.values():
            if guest.is_paused or guest.frozen_why == WHY:
                self.looks.begin(self._vms.host, self.tick)
                return

    async def tick(self) -> None:
        for guest in list(self._vms.guests.values()):
            if guest.machine.is_frozen:
                continue  # it answers nobody; whoever froze it lets it go on
            if guest.is_paused and not guest.busy:
                try:
                    await self._look_at(guest)
                except ZugvogelError as error:
                    log.warning("%s: stands still and was not looked at: %s", guest.name, error)
            elif guest.frozen_why == WHY and not guest.is_paused:
                self._tell_thawed(guest)

    async def _look_at(self, guest: Guest) -> None:
        if await guest.machine.status() is not MachineStatus.IO_ERROR:
            return
        if not guest.frozen_why:
            guest.frozen_why = WHY
            self._vms.events.emit(
                "vm.frozen", guest.name, f"{guest.name} on {self._vms.host}: {WHY}", severity=Severity.WARNING
            )
        is_usable, _ = self._usable(guest.datastore)
        if is_usable:
            await guest.machine.cont()

    def _tell_thawed(self, guest: Guest) -> None:
        guest.frozen_why = ""
        told = f"{guest.name} on {self._vms.host} goes on: its disk answers again"
        self._vms.events.emit("vm.thawed", guest.name, told)
