"""Signed heartbeats over UDP.

A datagram is ``HMAC-SHA256(key, body) + body``, the body zlib-compressed JSON
``{"start": <stamp>, "heartbeat": {...}}``. The signature is checked before anything is unpacked.

Replays: `start` is a stamp that grows with every start of a host's agent (`next_start_stamp`: its wall clock,
but always above the stamp before, kept in a file); within a start `sequence` grows. A receiver keeps per host
the highest (start, sequence) and takes only what is above, so no recorded datagram is ever taken twice, nor
one of an earlier boot after a later one. Stamps of different hosts are never compared.

What this does not cover: a receiver that itself restarted has forgotten the marks, so somebody who recorded a
dead host's datagrams could replay them *to it*, once each. That can delay a failover (the dead host is heard)
and never cause one. And every host of the cluster has the key: a host that turned evil can speak for others.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import os
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zugvogel.domain.host import Heartbeat, Host

log = logging.getLogger(__name__)

SIGNATURE_BYTES = 32
UNSPLIT_BYTES = 1400
"""Largest datagram with a report: fits an Ethernet frame. One lost fragment would lose the heartbeat."""
MAX_BYTES = 60_000
MAX_UNPACKED_BYTES = 1024**2


def next_start_stamp(file: Path) -> int:
    """A stamp above all earlier ones of this host, durable before it is used. A clock that was set back
    between two starts therefore does not silence the host."""
    try:
        before = int(file.read_text())
    except (FileNotFoundError, ValueError):
        before = 0
    stamp = max(before + 1, time.time_ns() // 1_000_000)
    temporary = file.with_name(file.name + ".new")
    with temporary.open("w") as out:
        out.write(f"{stamp}\n")
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)
    return stamp


def encode(heartbeat: Heartbeat, key: bytes, start: int) -> bytes | None:
    """The datagram; without the report where it would not fit a frame; None where it is over `MAX_BYTES`
    even so."""
    datagram = _sign(heartbeat, key, start)
    if len(datagram) > UNSPLIT_BYTES and heartbeat.report is not None:
        datagram = _sign(heartbeat.model_copy(update={"report": None}), key, start)
    return datagram if len(datagram) <= MAX_BYTES else None


def _sign(heartbeat: Heartbeat, key: bytes, start: int) -> bytes:
    text = f'{{"start":{start},"heartbeat":{heartbeat.model_dump_json(exclude_defaults=True)}}}'
    body = zlib.compress(text.encode(), level=1)
    return hmac.digest(key, body, hashlib.sha256) + body


def decode(datagram: bytes, key: bytes) -> tuple[int, Heartbeat] | None:
    """(start, heartbeat), or None for anything that is torn, forged or too large."""
    signature, body = datagram[:SIGNATURE_BYTES], datagram[SIGNATURE_BYTES:]
    if len(datagram) > MAX_BYTES or not hmac.compare_digest(signature, hmac.digest(key, body, hashlib.sha256)):
        return None
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(body, MAX_UNPACKED_BYTES)
        if not unpacker.eof:
            return None
        value = json.loads(text)
        return int(value["start"]), Heartbeat.model_validate(value["heartbeat"])
    except (zlib.error, ValueError, KeyError, TypeError):
        return None


class ReplayGuard:
    """Per host the highest (start, sequence) taken so far."""

    def __init__(self) -> None:
        self._highest: dict[str, tuple[int, int]] = {}

    def admit(self, start: int, heartbeat: Heartbeat) -> bool:
        mark = (start, heartbeat.sequence)
        if mark <= self._highest.get(heartbeat.host, (-1, -1)):
            return False
        self._highest[heartbeat.host] = mark
        return True


class UdpHeartbeats(asyncio.DatagramProtocol):
    """Sender (`zugvogel.ports.peers.HeartbeatSender`) and receiver on one socket; see `open_heartbeats`.
    `rejected` counts datagrams that were not taken."""

    def __init__(self, key: bytes, start: int, receive: Callable[[Heartbeat], None]) -> None:
        self._key = key
        self._start = start
        self._receive = receive
        self._guard = ReplayGuard()
        self._transport: asyncio.DatagramTransport | None = None
        self._failing: set[str] = set()
        self.rejected = 0

    @property
    def port(self) -> int:
        assert self._transport is not None
        return int(self._transport.get_extra_info("sockname")[1])

    def send(self, to: Sequence[Host], heartbeat: Heartbeat) -> None:
        if self._transport is None or self._transport.is_closing() or not to:
            return
        datagram = encode(heartbeat, self._key, self._start)
        if datagram is None:
            self._tell_once("size", f"a heartbeat is larger than {MAX_BYTES} bytes and is not sent")
            return
        for host in to:
            try:
                self._transport.sendto(datagram, (host.address, host.ports.heartbeat))
            except (OSError, ValueError) as error:
                self._tell_once(host.name, f"heartbeat to {host.name}: {error}")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # asyncio.DatagramProtocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        decoded = decode(data, self._key)
        if decoded is None or not self._guard.admit(*decoded):
            self.rejected += 1
            self._tell_once("rejected", f"heartbeat from {addr[0]} is forged, torn or replayed; it is not taken")
            return
        self._receive(decoded[1])

    def error_received(self, exc: Exception) -> None:
        # ICMP "port unreachable" of a host whose agent is down: its own silence tells that already.
        log.debug("heartbeat socket: %s", exc)

    def _tell_once(self, matter: str, text: str) -> None:
        if matter not in self._failing:
            self._failing.add(matter)
            log.warning("%s (told once)", text)


async def open_heartbeats(
    address: str, port: int, key: bytes, start: int, receive: Callable[[Heartbeat], None]
) -> UdpHeartbeats:
    """Listen and be ready to send. `receive` gets each verified, new heartbeat, in the loop; it must not
    block. Raises OSError when the port is taken."""
    _, heartbeats = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: UdpHeartbeats(key, start, receive), local_addr=(address, port)
    )
    return heartbeats
