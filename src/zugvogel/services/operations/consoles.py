"""Operation: the serial console of a vm, from whichever host is asked.

A vm's console is a socket on the host that runs it. Asked elsewhere, this host gets a one-time ticket from
the one that runs it and connects there.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, Protocol

from zugvogel.domain.host import Host
from zugvogel.ports.backend import ByteStream
from zugvogel.services.operations.vms import VmOperations
from zugvogel.services.operations.world import World

TICKETS = 64


class Consoles(Protocol):
    """How console streams are opened."""

    async def local(self, socket: Path) -> ByteStream:
        """A serial socket on this host. Raises Refused when somebody else has it."""

    async def remote(self, host: Host, vm: str, ticket: str) -> ByteStream:
        """Through the API of `host`. Raises Unreachable."""


class ConsoleOperations:
    def __init__(self, world: World, vms: VmOperations, consoles: Consoles) -> None:
        self._w = world
        self._console_vms = vms
        self._consoles = consoles
        self.tickets: dict[str, str] = {}
        """One-time tickets that another agent asked for: secret -> vm; `authenticate` takes them."""
        world.handlers["console.ticket"] = self._on_ticket

    async def console(self, name: str) -> ByteStream:
        host = await self._console_vms.holder(name)
        if host == self._w.me:
            guest = await self._w.vms.known_guest(name)
            return await self._consoles.local(guest.machine.serial_socket)
        answer = await self._w.on(host, "console.ticket", {"vm": name})
        return await self._consoles.remote(self._w.inventory.host(host), name, str(answer["ticket"]))

    async def _on_ticket(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Valid once, for this vm's console, until 64 newer ones were made."""
        await self._w.vms.known_guest(str(payload["vm"]))
        ticket = f"ticket.{secrets.token_urlsafe(32)}"
        self.tickets[ticket] = str(payload["vm"])
        for old in list(self.tickets)[:-TICKETS]:
            del self.tickets[old]
        return {"ticket": ticket}
