"""A vm's graphical console on a port of this machine, for any VNC viewer.

Each viewer that connects gets a stream of its own, to whichever host runs the vm then: after a move the viewer is
disconnected, and finds the vm again when it connects anew.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from websockets.exceptions import ConnectionClosed

from zugvogel import errors
from zugvogel.cli.client import Api
from zugvogel.cli.output import note
from zugvogel.cli.vm_stream import VmStream, connected, running_host

HERE = "127.0.0.1"
CHUNK = 1 << 16
LOOK_S = 0.2
"""How often it is looked whether the viewer has ended."""
VIEWERS = {"remote-viewer": "vnc://{host}:{port}", "vncviewer": "{host}::{port}", "gvncviewer": "{host}::{port}"}


class DisplayPort:
    """Made before the API is first used: a context may lead this thread into another network namespace, and the
    port is to be where the user is. `port` 0: any that is free. Raises Refused when it is taken."""

    def __init__(self, port: int = 0) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._listener.bind((HERE, port))
        except OSError as error:
            self._listener.close()
            raise errors.Refused(
                f"port {port} of {HERE} cannot be used: {error.strerror}", "choose another with --port, or none"
            ) from None
        self._launcher = ThreadPoolExecutor(1)
        self._launcher.submit(int).result()  # its thread stays in the namespace that this one may leave

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def address(self) -> str:
        return f"{HERE}:{self.port}"

    def launch(self, viewer: str) -> subprocess.Popen[bytes]:
        """Start an installed viewer, one of `VIEWERS`."""
        where = VIEWERS[viewer].format(host=HERE, port=self.port)
        return self._launcher.submit(subprocess.Popen[bytes], [viewer, where]).result()

    def open(self, api: Api, vm: str) -> str | None:
        """The host that shows the vm's display now; viewers may connect from here on. Raises NotFound, Refused,
        Unreachable."""
        host = running_host(api, vm)
        with connected(api, vm, "display"):
            pass  # what it is refused with is told at once: a viewer could not be told
        self._listener.listen()
        self._listener.settimeout(LOOK_S)
        return host

    def serve(self, api: Api, vm: str, has_ended: Callable[[], bool]) -> None:
        """Until `has_ended`, or Ctrl-C. What fails for one viewer is told and does not end the others."""
        while not has_ended():
            try:
                viewer, _ = self._listener.accept()
            except TimeoutError:
                continue
            viewer.settimeout(None)
            threading.Thread(target=_show, args=(viewer, api, vm), daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        self._launcher.shutdown(wait=False)


def installed_viewer() -> str:
    """Raises Refused when there is none."""
    for name in VIEWERS:
        if shutil.which(name):
            return name
    raise errors.Refused(
        "no VNC viewer is installed here",
        "install one (Debian: virt-viewer or tigervnc-viewer), or leave --launch out and use any other",
    )


def _show(viewer: socket.socket, api: Api, vm: str) -> None:
    try:
        with viewer, connected(api, vm, "display") as stream:
            note(f"a viewer has connected to {vm}")
            _join(viewer, stream)
    except errors.ZugvogelError as error:
        note(str(error))
    else:
        note(f"a viewer of {vm} is disconnected; when the vm moved, connect again")


def _join(viewer: socket.socket, stream: VmStream) -> None:
    """Copy both ways until either side ends."""
    back = threading.Thread(target=_copy_to_viewer, args=(stream, viewer), daemon=True)
    back.start()
    try:
        while data := viewer.recv(CHUNK):
            stream.send(data)
    except (ConnectionClosed, OSError):
        pass
    stream.close()
    back.join()


def _copy_to_viewer(stream: VmStream, viewer: socket.socket) -> None:
    try:
        for data in stream:
            viewer.sendall(data)
    except OSError:
        pass
    finally:
        _end(viewer)


def _end(viewer: socket.socket) -> None:
    """Wakes whoever still reads from it."""
    try:
        viewer.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
