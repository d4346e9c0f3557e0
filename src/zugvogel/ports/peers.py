"""Other agents: RPC with answers, heartbeats without."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from zugvogel.domain.host import Heartbeat, Host

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""An RPC command: JSON object in, JSON object out; raises ZugvogelError, which reaches the caller as the
same class."""


class Peers(Protocol):
    async def call(
        self, host: Host, command: str, payload: dict[str, Any], *, timeout_s: float = 10.0
    ) -> dict[str, Any]:
        """RPC over mutual TLS on a kept connection. Raises what the peer raised, or `Unreachable`."""


class HeartbeatSender(Protocol):
    def send(self, to: Sequence[Host], heartbeat: Heartbeat) -> None:
        """One signed datagram to each; never blocks, never raises. A report that does not fit is left out: the
        receiver sees the digest differ and asks for it by RPC."""
