"""Raw Ethernet sockets with classic BPF filters: ARP and RARP frames only, sorted out by the kernel."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
from typing import Any

ETH_P_ALL, ETH_P_ARP, ETH_P_RARP = 0x0003, 0x0806, 0x8035
SO_ATTACH_FILTER = 26
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
BROADCAST = b"\xff" * 6
_ETHERTYPE_OFFSET = 12


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def mac_text(raw: bytes) -> str:
    return ":".join(f"{b:02x}" for b in raw)


def open_socket(ethertype: int, interface: str = "") -> socket.socket:
    """Non-blocking; all interfaces where none is named. Everything but `ethertype` that comes in is dropped in the
    kernel; a kernel before 4.20 hands over what goes out as well (`is_outgoing`)."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0 if interface else socket.htons(ETH_P_ALL))
    try:
        _attach_filter(sock, ethertype)
        with contextlib.suppress(OSError):  # spares the kernel a copy of each frame that is sent
            sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        sock.setblocking(False)
        if interface:
            sock.bind((interface, ETH_P_ALL))
    except BaseException:
        sock.close()
        raise
    return sock


def is_outgoing(origin: tuple[Any, ...]) -> bool:
    """`origin` as `recvfrom` gives it: True for what this host sent into the interface."""
    return bool(origin[2] == socket.PACKET_OUTGOING)


def _attach_filter(sock: socket.socket, ethertype: int) -> None:
    """ldh [12]; jeq #ethertype, accept, drop."""
    program = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (0x28, 0, 0, _ETHERTYPE_OFFSET),
            (0x15, 0, 1, ethertype),
            (0x06, 0, 0, 0xFFFF),
            (0x06, 0, 0, 0),
        )
    )
    buffer = ctypes.create_string_buffer(program)
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 4, ctypes.addressof(buffer)))


def arp_probe(sender_mac: bytes, target_ip: str) -> bytes:
    """RFC 5227: a request whose sender address is 0.0.0.0, so that no cache anywhere learns from it."""
    head = BROADCAST + sender_mac + struct.pack("!H", ETH_P_ARP)
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    return (head + body + sender_mac + bytes(4) + bytes(6) + socket.inet_aton(target_ip)).ljust(60, b"\0")


def parse_arp(frame: bytes) -> tuple[str, str] | None:
    """(sender MAC, sender IPv4) of an ARP frame; None for anything else."""
    if len(frame) < 42 or frame[12:14] != b"\x08\x06" or frame[14:20] != b"\x00\x01\x08\x00\x06\x04":
        return None
    return mac_text(frame[22:28]), socket.inet_ntoa(frame[28:32])
