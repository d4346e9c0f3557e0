"""The lab's own ping: one socket, steady spacing, and the longest gap as a user would feel it."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from zugvogel.lab.layout import CLIENT, Layout
from zugvogel.lab.namespaces import in_netns

_GRACE_S = 1.0
_ECHO, _REPLY = 8, 0


@dataclass(slots=True)
class PingResult:
    """`max_gap_ms`: longest time between two answers in a row, the start and the last answer's distance to
    the last request included; without loss it is about the interval."""

    address: str
    interval_ms: float
    sent: int = 0
    received: int = 0
    max_gap_ms: float = 0.0
    rtts_ms: list[float] = field(default_factory=list)

    @property
    def lost(self) -> int:
        return self.sent - self.received

    def as_dict(self) -> dict[str, object]:
        rtts = sorted(self.rtts_ms)
        return {
            "address": self.address,
            "interval_ms": self.interval_ms,
            "sent": self.sent,
            "received": self.received,
            "lost": self.lost,
            "max_gap_ms": round(self.max_gap_ms, 2),
            "rtt_min_ms": round(rtts[0], 3) if rtts else None,
            "rtt_median_ms": round(rtts[len(rtts) // 2], 3) if rtts else None,
            "rtt_max_ms": round(rtts[-1], 3) if rtts else None,
        }


def ping_from_client(
    layout: Layout,
    address: str,
    *,
    interval_ms: float,
    seconds: float,
    on_gap: Callable[[float, float], None] = lambda at_s, gap_ms: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> PingResult:
    """Pings from the lab's client. `on_gap(at_s, gap_ms)` is called when answers come back after a gap of
    more than three intervals. Raises Refused when there is no lab."""
    result = PingResult(address, interval_ms)
    path = layout.netns_path(CLIENT)
    return in_netns(path, lambda: _Pinger(result, seconds, on_gap, should_stop).run())


class _Pinger:
    def __init__(
        self,
        result: PingResult,
        seconds: float,
        on_gap: Callable[[float, float], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._result = result
        self._interval_s = result.interval_ms / 1000
        self._count = max(1, round(seconds / self._interval_s))
        self._on_gap, self._should_stop = on_gap, should_stop
        self._id = os.getpid() & 0xFFFF
        self._cookie = os.urandom(8)
        self._answered: set[int] = set()
        self._begin = self._last_answer = self._last_sent = 0.0

    def run(self) -> PingResult:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            self._begin = self._last_answer = time.monotonic()
            for index in range(self._count):
                self._receive_until(sock, self._begin + index * self._interval_s)
                if self._should_stop():
                    break
                self._send(sock, index)
            deadline = time.monotonic() + max(_GRACE_S, self._interval_s)
            while len(self._answered) < self._result.sent and time.monotonic() < deadline:
                self._receive_until(sock, min(deadline, time.monotonic() + 0.01))
        self._note_gap(self._last_sent)
        return self._result

    def _send(self, sock: socket.socket, index: int) -> None:
        now = time.monotonic()
        body = self._cookie + struct.pack("!Qd", index, now)
        header = struct.pack("!BBHHH", _ECHO, 0, 0, self._id, index & 0xFFFF)
        packet = struct.pack("!BBHHH", _ECHO, 0, _checksum(header + body), self._id, index & 0xFFFF) + body
        self._result.sent += 1
        self._last_sent = now
        try:
            sock.sendto(packet, (self._result.address, 0))
        except OSError:
            return  # no route or host unreachable: lost, as seen from the user's seat

    def _receive_until(self, sock: socket.socket, deadline: float) -> None:
        while True:
            left = deadline - time.monotonic()
            readable, _, _ = select.select([sock], [], [], max(0.0, left))
            if not readable:
                return
            try:
                self._take(sock.recv(2048), time.monotonic())
            except OSError:
                continue

    def _take(self, datagram: bytes, now: float) -> None:
        icmp = datagram[(datagram[0] & 0x0F) * 4 :]
        if len(icmp) < 32 or icmp[0] != _REPLY or icmp[8:16] != self._cookie:
            return
        index, sent_at = struct.unpack("!Qd", icmp[16:32])
        if index in self._answered:
            return
        self._answered.add(index)
        self._result.received += 1
        self._result.rtts_ms.append((now - sent_at) * 1000)
        self._note_gap(now)
        self._last_answer = now

    def _note_gap(self, now: float) -> None:
        gap_ms = (now - self._last_answer) * 1000
        self._result.max_gap_ms = max(self._result.max_gap_ms, gap_ms)
        if gap_ms > 3 * self._result.interval_ms:
            self._on_gap(now - self._begin, gap_ms)


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
