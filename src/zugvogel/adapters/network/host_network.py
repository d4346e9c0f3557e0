"""Bridges of this host and what passes over them (`zugvogel.ports.network.HostNetwork`)."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import OrderedDict
from pathlib import Path

from zugvogel.adapters.network import iproute, packets
from zugvogel.domain.host import BridgeFacts
from zugvogel.errors import Refused

log = logging.getLogger(__name__)

SYS_NET = Path("/sys/class/net")
REMEMBERED_MACS = 4096
REMEMBERED_ADDRESSES = 4
PROBE_EVERY_S = 0.1
IN_VAIN = "0.0.0.0"


class LinuxHostNetwork:
    """Needs a running loop from the first `learned_addresses` or `start_learning` on."""

    def __init__(self) -> None:
        self._learned: OrderedDict[str, list[str]] = OrderedDict()
        self._socket: socket.socket | None = None

    # what there is -------------------------------------------------------------------------------

    async def bridges(self) -> list[BridgeFacts]:
        return _bridges()

    async def link_mbit(self, address: str) -> int:
        """Of the interface that has `address`; of a bridge, the fastest port that is no tap. A veth says
        10,000 whatever it does, and a shaped one is told by overrides."""
        interface = await self._interface_of(address)
        if interface is None:
            return 0
        ports = (
            [p.name for p in (SYS_NET / interface / "brif").iterdir()] if _is_bridge(interface) else [interface]
        )
        return max((_speed(p) for p in ports if not _is_tap(p)), default=0)

    async def _interface_of(self, address: str) -> str | None:
        for link in await iproute.ip_json("addr", "show"):
            if any(a.get("local") == address for a in link.get("addr_info", [])):
                return str(link["ifname"])
        return None

    # addresses of guests ---------------------------------------------------------------------------

    def start_learning(self) -> None:
        """One socket for all interfaces, ARP only. What a guest claims of itself is remembered: frames that come
        out of a tap, never those that go into it, which tell of others."""
        if self._socket is None:
            self._socket = packets.open_socket(packets.ETH_P_ARP)
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)

    def _read(self) -> None:
        assert self._socket is not None
        for _ in range(64):
            try:
                frame, origin = self._socket.recvfrom(2048)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                log.warning("ARP not read: %s", error)
                return
            if str(origin[0]).startswith("zv") and not packets.is_outgoing(origin):
                self._learn(frame)

    def _learn(self, frame: bytes) -> None:
        found = packets.parse_arp(frame)
        if found is None or found[1] == IN_VAIN:
            return
        mac, address = found
        if mac != packets.mac_text(frame[6:12]):
            return
        known = self._learned.setdefault(mac, [])
        self._learned.move_to_end(mac)
        if known[:1] != [address]:
            self._learned[mac] = [address, *(a for a in known if a != address)][:REMEMBERED_ADDRESSES]
        while len(self._learned) > REMEMBERED_MACS:
            self._learned.popitem(last=False)

    def learned_addresses(self, mac: str) -> tuple[str, ...]:
        return tuple(self._learned.get(mac, ()))

    def teach(self, mac: str, addresses: tuple[str, ...]) -> None:
        """What another host learned of a vm that moves here."""
        known = self._learned.get(mac, [])
        self._learned[mac] = [*known, *(a for a in addresses if a not in known)][:REMEMBERED_ADDRESSES]

    # looking from here -----------------------------------------------------------------------------

    def watch_rarp(self, bridge: str, mac: str) -> RarpSeen:
        return RarpSeen(bridge, mac)

    async def probe(self, bridge: str, address: str, timeout_s: float = 1.0) -> str | None:
        own = packets.mac_bytes((SYS_NET / bridge / "address").read_text().strip())
        sock = packets.open_socket(packets.ETH_P_ARP, bridge)
        loop = asyncio.get_running_loop()
        try:
            deadline = loop.time() + timeout_s
            while loop.time() < deadline:
                sock.send(packets.arp_probe(own, address))
                if (mac := await self._answer(sock, address, PROBE_EVERY_S)) is not None:
                    return mac
            return None
        finally:
            sock.close()

    async def _answer(self, sock: socket.socket, address: str, wait_s: float) -> str | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while (left := deadline - loop.time()) > 0:
            try:
                frame = await asyncio.wait_for(loop.sock_recv(sock, 2048), left)
            except TimeoutError:
                return None
            found = packets.parse_arp(frame)
            if found is not None and found[1] == address:
                return found[0]
        return None


class RarpSeen:
    """RARP frames of `mac` that came in through the bridge's ports that are no taps."""

    def __init__(self, bridge: str, mac: str) -> None:
        if not _is_bridge(bridge):
            raise Refused(f"this host has no bridge {bridge}")
        self._mac = packets.mac_bytes(mac)
        self._first: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._sockets: list[socket.socket] = []
        for port in (SYS_NET / bridge / "brif").iterdir():
            if not _is_tap(port.name):
                self._listen(port.name)

    def _listen(self, port: str) -> None:
        sock = packets.open_socket(packets.ETH_P_RARP, port)
        self._sockets.append(sock)
        asyncio.get_running_loop().add_reader(sock.fileno(), self._read, sock)

    def _read(self, sock: socket.socket) -> None:
        try:
            frame, origin = sock.recvfrom(2048)
        except OSError:
            return
        is_its_own = not packets.is_outgoing(origin) and frame[6:12] == self._mac
        if is_its_own and not self._first.done():
            self._first.set_result(asyncio.get_running_loop().time())

    async def seen(self, timeout_s: float) -> float | None:
        try:
            came_at = await asyncio.wait_for(asyncio.shield(self._first), timeout_s)
        except TimeoutError:
            return None
        return asyncio.get_running_loop().time() - came_at

    def close(self) -> None:
        for sock in self._sockets:
            asyncio.get_running_loop().remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()


def _bridges() -> list[BridgeFacts]:
    """From sysfs, which never blocks."""
    found = []
    for path in sorted(SYS_NET.iterdir()):
        if (path / "bridge").is_dir():
            filtering = path / "bridge" / "vlan_filtering"
            aware = filtering.exists() and filtering.read_text().strip() == "1"
            found.append(BridgeFacts(name=path.name, mtu=int((path / "mtu").read_text()), is_vlan_aware=aware))
    return found


def _is_bridge(interface: str) -> bool:
    return (SYS_NET / interface / "bridge").is_dir()


def _is_tap(interface: str) -> bool:
    return (SYS_NET / interface / "tun_flags").exists()


def _speed(interface: str) -> int:
    try:
        return max(0, int((SYS_NET / interface / "speed").read_text()))
    except (OSError, ValueError):
        return 0
