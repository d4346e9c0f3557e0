"""Does the guest go on? Looked at from the client, without a break: one TCP connection that is kept open,
and the guest's own word (`GET /state`).

`python -m zugvogel.lab.continuity ADDRESS`, run in the client's namespace, writes JSON lines to stdout: a
first one when it is connected, a last one after SIGTERM or when stdin closes. With `--once` the guest's word
alone."""

from __future__ import annotations

import http.client
import json
import select
import socket
import sys
import threading
import time
from typing import Any

ECHO_PORT = 7
INTERVAL_S = 0.02
ANSWER_S = 30.0
ONCE_S = 3.0


def guest_state(address: str, timeout_s: float = 5.0) -> dict[str, Any]:
    """The guest's /state, read from the namespace the caller is in. Raises OSError."""
    return guest_get(address, "/state", timeout_s)


def guest_get(address: str, path: str, timeout_s: float = 5.0) -> dict[str, Any]:
    """Raises OSError where the guest does not answer, and where it refuses (a load beyond its memory)."""
    connection = http.client.HTTPConnection(address, 80, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        found: dict[str, Any] = json.loads(response.read() or b"{}")
        if response.status != http.client.OK:
            raise OSError(f"the guest refuses {path}: {found.get('error', response.reason)}")
        return found
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"no answer from the guest: {error}") from error
    finally:
        connection.close()


class EchoConnection:
    """Sends a number every 20 ms over one connection to the guest's echo port and checks what comes back."""

    def __init__(self, address: str) -> None:
        self._sock = socket.create_connection((address, ECHO_PORT), timeout=10.0)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.settimeout(ANSWER_S)
        self.echoed = 0
        self.longest_s = 0.0
        self.error = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._exchange(f"{self.echoed:012d}\n".encode())
                self._stop.wait(INTERVAL_S)
        except OSError as error:
            self.error = str(error) or type(error).__name__

    def _exchange(self, wanted: bytes) -> None:
        began = time.monotonic()
        self._sock.sendall(wanted)
        got = b""
        while len(got) < len(wanted):
            part = self._sock.recv(len(wanted) - len(got))
            if not part:
                raise OSError("the guest closed the connection")
            got += part
        if got != wanted:
            raise OSError(f"sent {wanted!r}, got {got!r}")
        self.echoed += 1
        self.longest_s = max(self.longest_s, time.monotonic() - began)

    def close(self) -> dict[str, Any]:
        self._stop.set()
        self._thread.join(ANSWER_S)
        self._sock.close()
        return {
            "echoed": self.echoed,
            "longest_answer_ms": round(self.longest_s * 1000, 1),
            "is_open": not self.error,
            "error": self.error,
        }


def main() -> int:
    address = sys.argv[1]
    if "--once" in sys.argv[2:]:
        print(json.dumps(guest_state(address, ONCE_S)))
        return 0
    before = guest_state(address)
    echo = EchoConnection(address)
    print(json.dumps({"before": before}), flush=True)
    while True:
        readable, _, _ = select.select([sys.stdin], [], [], 1.0)
        if readable and not sys.stdin.readline():
            break
    connection = echo.close()
    print(json.dumps({"after": guest_state(address), "connection": connection}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
