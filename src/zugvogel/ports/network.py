"""Bridges and what passes over them, as services see it."""

from __future__ import annotations

from typing import Protocol

from zugvogel.domain.host import BridgeFacts


class RarpWatch(Protocol):
    """Looks for RARP frames of one MAC that come in from outside this host's own taps."""

    async def seen(self, timeout_s: float) -> float | None:
        """How many seconds ago the first one came; None: none has, nor did within `timeout_s`."""

    def close(self) -> None: ...


class HostNetwork(Protocol):
    async def bridges(self) -> list[BridgeFacts]: ...

    async def link_mbit(self, address: str) -> int:
        """Speed of the link that carries `address`; 0 where the driver does not tell."""

    def watch_rarp(self, bridge: str, mac: str) -> RarpWatch:
        """Starts listening at once (AF_PACKET on the bridge's ports that are no taps)."""

    async def probe(self, bridge: str, address: str, timeout_s: float = 1.0) -> str | None:
        """ARP probe (RFC 5227) for `address` from this host's bridge: the MAC that answered, or None.
        Repeated every 100 ms until the timeout."""

    def learned_addresses(self, mac: str) -> tuple[str, ...]:
        """IPv4 addresses that `mac` claimed in ARP frames on this host's taps, latest first."""

    def teach(self, mac: str, addresses: tuple[str, ...]) -> None:
        """What another host learned of a vm that moves here."""

    def start_learning(self) -> None:
        """From here on addresses are learned; needs the running loop."""
