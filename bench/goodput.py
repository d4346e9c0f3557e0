"""What one TCP connection carries between two lab hosts, measured with sockets of our own."""

from __future__ import annotations

import socket
import threading
import time

from zugvogel.lab.layout import Layout
from zugvogel.lab.namespaces import in_netns

PORT = 7999
_BLOCK = 1 << 20


def measure(layout: Layout, source: str, target: str, seconds: float) -> float:
    """Bytes per second of payload received at `target` from `source`. The first 0.2 s do not count (slow start).
    Raises OSError."""
    address = layout.load().host(target).address
    listener = in_netns(layout.netns_path(target), lambda: _listen(address))
    received: list[float] = []
    sink = threading.Thread(target=lambda: received.append(_drain(listener, seconds)), daemon=True)
    sink.start()
    try:
        sender = in_netns(layout.netns_path(source), lambda: socket.create_connection((address, PORT), 5.0))
        with sender:
            _blast(sender, seconds + 0.5)
        sink.join(10.0)
    finally:
        listener.close()
    if not received:
        raise OSError("the receiver of the goodput measurement did not finish")
    return received[0]


def _listen(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.settimeout(5.0)
    listener.bind((address, PORT))
    listener.listen(1)
    return listener


def _blast(sender: socket.socket, seconds: float) -> None:
    block, deadline = bytes(_BLOCK), time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            sender.sendall(block)
    except (ConnectionError, TimeoutError):
        return  # the receiver has seen enough


def _drain(listener: socket.socket, seconds: float) -> float:
    connection, _ = listener.accept()
    connection.settimeout(5.0)
    buffer, total = bytearray(_BLOCK), 0
    with connection:
        warm = time.monotonic() + 0.2
        while time.monotonic() < warm:
            connection.recv_into(buffer)
        began = time.monotonic()
        while (now := time.monotonic()) - began < seconds:
            total += connection.recv_into(buffer)
    return total / (now - began)
