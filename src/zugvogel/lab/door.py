"""The way from this machine's browser to the consoles of lab hosts, which no other network reaches.

A process listens on loopback out here, then moves into the client's network namespace, where its connections go
out from: each is joined to the console of a host that takes it. TLS goes through as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

from zugvogel.errors import ProcedureFailed, Refused
from zugvogel.lab.layout import CLIENT, Layout
from zugvogel.lab.namespaces import enter_netns

PORT = 7445
"""Of the consoles in the lab, and out here where it is free."""
CONNECT_S = 1.0
READY_S = 10.0
CHUNK = 65536
_UNSURE = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_UNSURE.check_hostname = False
_UNSURE.verify_mode = ssl.CERT_NONE


@dataclass(frozen=True, slots=True)
class Door:
    """Where the console is to be found, and as whom."""

    url: str
    user: str
    password: str


def open_door(layout: Layout, user: str, password: str) -> None:
    """Raises ProcedureFailed. `zv lab down` ends the process, as all of the lab's."""
    with (layout.root / "door.log").open("w") as log:  # not this command's: whoever reads that waits for its end
        process = subprocess.Popen(
            [sys.executable, "-m", "zugvogel.lab.door"],
            env=layout.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    assert process.stdout is not None
    port = process.stdout.readline().strip()
    process.stdout.close()
    if not port:
        raise ProcedureFailed("no way to the console could be opened", f"see {layout.root / 'door.log'}")
    door = Door(f"https://127.0.0.1:{port}/", user, password)
    layout.door_file.touch(mode=0o600)
    layout.door_file.write_text(json.dumps(asdict(door)))


def found_door(layout: Layout) -> Door:
    """Raises Refused where there is none."""
    try:
        return Door(**json.loads(layout.door_file.read_text()))
    except FileNotFoundError:
        raise Refused("this lab has no console", "it needs a cluster: zv lab up") from None


def wait_until_open(door: Door) -> None:
    """Until a console answers, for a few seconds: they start beside their agents. Raises ProcedureFailed."""
    port, deadline = int(door.url.rstrip("/").rpartition(":")[2]), time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if _greets(port):
            return
        time.sleep(0.1)
    raise ProcedureFailed("no host's console answers", "see the hosts' logs: zv lab status")


def _greets(port: int) -> bool:
    """Whether a TLS handshake succeeds: the door itself speaks no TLS, so somebody behind it does."""
    try:
        connection = socket.create_connection(("127.0.0.1", port), CONNECT_S)
        with connection, _UNSURE.wrap_socket(connection):
            return True
    except OSError:
        return False


def _listen() -> socket.socket:
    for port in (PORT, 0):
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", port))
    raise Refused("no port of 127.0.0.1 can be had")


class _Joining:
    """The host that took the last connection is asked first."""

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for address in list(self._addresses):
            try:
                async with asyncio.timeout(CONNECT_S):
                    far_reader, far_writer = await asyncio.open_connection(address, PORT)
            except (OSError, TimeoutError):
                continue
            self._addresses.remove(address)
            self._addresses.insert(0, address)
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
            return
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _serve(layout: Layout) -> None:
    listener = _listen()
    enter_netns(layout.netns_path(CLIENT))
    joining = _Joining([host.address for host in layout.load().hosts])
    server = await asyncio.start_server(joining.serve, sock=listener)
    print(listener.getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(Layout.from_environment()))
