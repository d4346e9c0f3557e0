"""ICMP echo (`zugvogel.ports.pinger.Pinger`), one socket for each request, which the kernel binds to the address.

A raw socket where the process may have one, else the kernel's ping socket (`net.ipv4.ping_group_range`), which
sets the identifier itself; so an answer is known by the random payload that it brings back.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import struct
from pathlib import Path

log = logging.getLogger(__name__)

ROUTES = Path("/proc/net/route")
ROUTES_IPV6 = Path("/proc/net/ipv6_route")
_UP_AND_GATEWAY = 0x1 | 0x2
_PAYLOAD_BYTES = 16
_HEADER_BYTES = 8
_REQUEST = {socket.AF_INET: 8, socket.AF_INET6: 128}
_REPLY = {socket.AF_INET: 0, socket.AF_INET6: 129}
_PROTOCOL = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}


class IcmpPinger:
    def __init__(self) -> None:
        self._is_told = False

    async def ping(self, address: str, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                return await _ping(address)
        except TimeoutError:
            return False
        except OSError as error:
            if isinstance(error, PermissionError) and not self._is_told:
                self._is_told = True
                log.warning("isolation addresses cannot be pinged: %s (told once)", error)
            log.debug("ping of %s: %s", address, error)
            return False

    def default_gateway(self) -> str | None:
        return gateway_of(_text(ROUTES)) or gateway_of_ipv6(_text(ROUTES_IPV6))


async def _ping(address: str) -> bool:
    found = socket.getaddrinfo(address, None, type=socket.SOCK_RAW, flags=socket.AI_NUMERICHOST)
    family, where = found[0][0], found[0][4]
    payload = secrets.token_bytes(_PAYLOAD_BYTES)
    loop = asyncio.get_running_loop()
    with _open(family) as sock:
        sock.connect(where)
        await loop.sock_sendall(sock, echo_request(family, payload))
        while True:
            if is_answer(family, await loop.sock_recv(sock, 2048), payload):
                return True


def _open(family: socket.AddressFamily) -> socket.socket:
    try:
        sock = socket.socket(family, socket.SOCK_RAW, _PROTOCOL[family])
    except PermissionError:
        sock = socket.socket(family, socket.SOCK_DGRAM, _PROTOCOL[family])
    sock.setblocking(False)
    return sock


def echo_request(family: int, payload: bytes) -> bytes:
    """The checksum of ICMPv6, which covers the addresses too, is the kernel's work."""
    head = struct.pack("!BBHHH", _REQUEST[socket.AddressFamily(family)], 0, 0, int.from_bytes(payload[:2]), 1)
    if family == socket.AF_INET6:
        return head + payload
    total = sum(struct.unpack(f"!{(len(head) + len(payload)) // 2}H", head + payload))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return head[:2] + struct.pack("!H", total ^ 0xFFFF) + head[4:] + payload


def is_answer(family: int, packet: bytes, payload: bytes) -> bool:
    """`packet` as received: a raw IPv4 socket gives the IP header as well, all others begin with ICMP's."""
    if family == socket.AF_INET and packet[:1] and packet[0] >> 4 == 4:
        packet = packet[(packet[0] & 0x0F) * 4 :]
    is_reply = packet[:1] == bytes([_REPLY[socket.AddressFamily(family)]])
    return is_reply and packet[_HEADER_BYTES:] == payload


def gateway_of(routes: str) -> str | None:
    """The IPv4 default gateway in the text of /proc/net/route; of several the one with the lowest metric."""
    found = []
    for line in routes.splitlines()[1:]:
        words = line.split()
        if len(words) < 8 or words[1] != "00000000" or words[7] != "00000000":
            continue
        if int(words[3], 16) & _UP_AND_GATEWAY == _UP_AND_GATEWAY:
            found.append((int(words[6]), socket.inet_ntoa(struct.pack("=I", int(words[2], 16)))))
    return min(found)[1] if found else None


def gateway_of_ipv6(routes: str) -> str | None:
    """As `gateway_of`, in the text of /proc/net/ipv6_route; a link-local one with its interface."""
    found = []
    for line in routes.splitlines():
        words = line.split()
        if len(words) < 10 or words[0].strip("0") or words[1] != "00":
            continue
        if int(words[8], 16) & _UP_AND_GATEWAY == _UP_AND_GATEWAY:
            address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(words[4]))
            scope = f"%{words[9]}" if address.startswith("fe80:") else ""
            found.append((int(words[5], 16), address + scope))
    return min(found)[1] if found else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
