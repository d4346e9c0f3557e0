"""Operations: the serial and the graphical console of a vm, from whichever host is asked.

A vm's consoles are sockets on the host that runs it. Asked elsewhere, this host gets a one-time ticket from
the one that runs it and connects there.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, Protocol

from zugvogel.domain.host import Host
from zugvogel.errors import Refused
from zugvogel.ports.backend import ByteStream, ConsoleKind
from zugvogel.services.local_vms import Guest
from zugvogel.services.operations.vms import VmOperations
from zugvogel.services.operations.world import World

TICKETS = 64


class Consoles(Protocol):
    """How console streams are opened."""

    async def local(self, socket: Path, *, is_shared: bool) -> ByteStream:
        """A QEMU's socket on this host. Raises Refused when it is not shared and somebody else has it, Unreachable
        when nobody listens there."""

    async def remote(self, host: Host, vm: str, kind: ConsoleKind, ticket: str) -> ByteStream:
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
        return await self._open(name, "console")

    async def display(self, name: str) -> ByteStream:
        return await self._open(name, "display")

    async def _open(self, name: str, kind: ConsoleKind) -> ByteStream:
        host = await self._console_vms.holder(name)
        if host == self._w.me:
            socket = _socket_of(await self._w.vms.known_guest(name), kind)
            return await self._consoles.local(socket, is_shared=kind == "display")
        answer = await self._w.on(host, "console.ticket", {"vm": name, "kind": kind})
        return await self._consoles.remote(self._w.inventory.host(host), name, kind, str(answer["ticket"]))

    async def _on_ticket(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Valid once, for this vm's consoles, until 64 newer ones were made."""
        kind: ConsoleKind = "display" if payload.get("kind") == "display" else "console"
        _socket_of(await self._w.vms.known_guest(str(payload["vm"])), kind)
        ticket = f"ticket.{secrets.token_urlsafe(32)}"
        self.tickets[ticket] = str(payload["vm"])
        for old in list(self.tickets)[:-TICKETS]:
            del self.tickets[old]
        return {"ticket": ticket}


def _socket_of(guest: Guest, kind: ConsoleKind) -> Path:
    if kind == "console":
        return guest.machine.serial_socket
    socket = guest.machine.display_socket
    if socket is None:
        raise Refused(
            f"{guest.name} was started without a display",
            f"give it one from its next start on: zv vm set {guest.name} --display vga; "
            f"or look at its serial console: zv vm console {guest.name}",
        )
    return socket
