"""Vms that QEMU stopped because a disk failed (``werror=stop``): told as frozen, and gone on with when their
datastore works again. The guest sees no error.

Mostly `cont` is enough, and it costs nothing to try: a request that fails again stops the vm again before the
guest hears of it. Where it stops again at once the files that QEMU has open are dead (the server dropped the locks
of this host, the client was put out, a FUSE process died), and they are opened anew before the next `cont`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from zugvogel.core import lease_rules
from zugvogel.core.filesystems import keeps_answered_writes
from zugvogel.domain.task import Severity
from zugvogel.errors import ProcedureFailed, Refused, ZugvogelError
from zugvogel.ports.hypervisor import MachineStatus
from zugvogel.services.local_vms import OPENING, Guest, LocalVms, is_locked
from zugvogel.services.looks import Looks
from zugvogel.services.own_lease import read_own

log = logging.getLogger(__name__)

SILENT = "its disk does not answer"
WHY = f"{SILENT}; it goes on when the datastore works again"
LOCKED = "another process, here or elsewhere, holds the lock of one"
AGAIN_S = 5.0
"""A vm that stands still so soon after it was let go stopped for the same cause."""
PAUSE_S = 60.0
"""Between two attempts to open images anew, unless the first is to be finished: a disk may fail for good."""
NEVER = float("-inf")


class DiskStops:
    """`usable(datastore)` tells whether this host's last beat there was written in time, and why not."""

    def __init__(self, vms: LocalVms, usable: Callable[[str], tuple[bool, str]]) -> None:
        self._vms = vms
        self._usable = usable
        self._let_go_at: dict[str, float] = {}
        """By vm: the last `cont`."""
        self._opened_at: dict[str, float] = {}
        """By vm: the last attempt to open its images anew."""
        self.looks = Looks("vms that stand still")

    async def begin(self) -> None:
        """Belongs to each second: each that stands still is looked at, beside whatever else goes on."""
        if self._let_go_at or self._opened_at:
            self._forget_gone()
        for name, guest in self._vms.guests.items():
            if guest.is_paused or (guest.frozen_why and _is_told(guest)):
                self.looks.begin(name, partial(self._look, guest))

    def _forget_gone(self) -> None:
        for gone in (self._let_go_at.keys() | self._opened_at.keys()) - self._vms.guests.keys():
            self._let_go_at.pop(gone, None)
            self._opened_at.pop(gone, None)

    async def _look(self, guest: Guest) -> None:
        if guest.machine.is_frozen:
            return  # it answers nobody; whoever froze it lets it go on
        if guest.is_paused and not guest.busy:
            try:
                await self._look_at(guest)
            except ZugvogelError as error:
                log.warning("%s: stands still and was not looked at: %s", guest.name, error)
        elif _is_told(guest) and not guest.is_paused:
            self._tell_thawed(guest)

    async def _look_at(self, guest: Guest) -> None:
        if await guest.machine.status() is not MachineStatus.IO_ERROR:
            return
        if not guest.frozen_why:
            self._tell_frozen(guest)
        if self._is_usable(guest) and self._are_images_dead(guest):
            await self._open_anew(guest)
        if self._is_usable(guest):
            await guest.machine.cont()
            self._let_go_at[guest.name] = self._vms.clock.monotonic()

    def _is_usable(self, guest: Guest) -> bool:
        return self._usable(guest.datastore)[0]

    def _are_images_dead(self, guest: Guest) -> bool:
        if guest.machine.has_closed_images:
            return True
        now = self._vms.clock.monotonic()
        is_again = now - self._let_go_at.get(guest.name, NEVER) < AGAIN_S
        return is_again and now - self._opened_at.get(guest.name, NEVER) >= PAUSE_S

    async def _open_anew(self, guest: Guest) -> None:
        """The lease is read first: that it is still this host's means that nobody else wrote to the images.
        Returns also where they were left as they were, and `cont` may be tried; raises where they are not open."""
        store = self._vms.mounted(guest.datastore)
        lease = await read_own(store, guest.name, guest.epoch)
        if not lease_rules.holds(lease, self._vms.me):
            raise Refused(f"the lease of {guest.name} is not this host's", "it is ended")
        if guest.busy:
            raise Refused(f"{guest.name} is {guest.busy}")
        since = self._opened_at[guest.name] = self._vms.clock.monotonic()
        guest.busy = OPENING
        try:
            files = await guest.machine.reopen_images(
                keeps_answered_writes=keeps_answered_writes(store.datastore.kind)
            )
        except ProcedureFailed as error:
            self._tell_not_opened(guest, error)
            if guest.machine.has_closed_images:
                raise
            return
        finally:
            if guest.busy == OPENING:
                guest.busy = ""
        if files:
            self._tell_opened(guest, files, self._vms.clock.monotonic() - since)

    def _tell_frozen(self, guest: Guest) -> None:
        guest.frozen_why = WHY
        told = f"{guest.name} on {self._vms.host}: {WHY}"
        self._vms.events.emit("vm.frozen", guest.name, told, severity=Severity.WARNING)

    def _tell_not_opened(self, guest: Guest, error: ProcedureFailed) -> None:
        """Once for each cause."""
        cause = LOCKED if is_locked(error) else error.cause
        why = f"{SILENT}, and its images could not be opened anew: {cause}"
        if guest.frozen_why == why:
            return
        guest.frozen_why = why
        self._vms.events.emit(
            "vm.images-not-reopened",
            guest.name,
            f"{guest.name} on {self._vms.host}: {why}",
            severity=Severity.ERROR,
            evidence={
                "datastore": guest.datastore,
                "epoch": guest.epoch,
                "cause": error.cause,
                "next_step": error.next_step,
            },
        )

    def _tell_opened(self, guest: Guest, files: tuple[str, ...], took_s: float) -> None:
        if _is_told(guest):
            guest.frozen_why = WHY
        self._vms.events.emit(
            "vm.images-reopened",
            guest.name,
            f"{guest.name} on {self._vms.host}: its disks did not answer through the files that were open; "
            "they were opened anew",
            evidence={
                "datastore": guest.datastore,
                "epoch": guest.epoch,
                "files": list(files),
                "took_s": round(took_s, 3),
            },
        )

    def _tell_thawed(self, guest: Guest) -> None:
        guest.frozen_why = ""
        told = f"{guest.name} on {self._vms.host} goes on: its disk answers again"
        self._vms.events.emit("vm.thawed", guest.name, told)


def _is_told(guest: Guest) -> bool:
    return guest.frozen_why.startswith(SILENT)
