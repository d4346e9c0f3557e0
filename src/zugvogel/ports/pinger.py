"""Echo requests to addresses outside the cluster, by which a host knows itself isolated (H2)."""

from __future__ import annotations

from typing import Protocol


class Pinger(Protocol):
    async def ping(self, address: str, timeout_s: float) -> bool:
        """One echo request to an IPv4 or IPv6 address: whether its answer came within `timeout_s`. Never raises:
        an address that nothing can be sent to (no route, interface down) does not answer."""

    def default_gateway(self) -> str | None:
        """Its address as this host's routes name it now; None without one."""
