"""An interactive serial console over the API's WebSocket; it finds the vm again after a migration."""

from __future__ import annotations

import os
import select
import sys
import termios
import threading
import time
import tty
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed

from zugvogel import errors
from zugvogel.cli.client import Api
from zugvogel.cli.vm_stream import VmStream, connected, running_host

if TYPE_CHECKING:
    from collections.abc import Iterator

from contextlib import ExitStack, contextmanager

LEAVE = b"\x1d"
"""Ctrl-], as telnet has it."""
AGAIN_S = 30.0
QUIET_S = 1.0
"""Input from a pipe has ended: leave when the console was quiet for so long."""


class SerialConsole:
    def __init__(self, api: Api, vm: str) -> None:
        self._api = api
        self._vm = vm
        self._heard_at = time.monotonic()
        self._input_ended = False

    def run(self) -> None:
        """Until the user leaves. Raises NotFound, Refused, Unreachable; the terminal is put back always."""
        host = running_host(self._api, self._vm)
        with ExitStack() as opened:
            socket = opened.enter_context(connected(self._api, self._vm, "console"))
            _note(f"console of {self._vm} on {host}; Ctrl-] leaves")
            opened.enter_context(_raw_terminal())
            while not self._serve(socket):
                socket = self._connect_again(opened)
                now = running_host(self._api, self._vm)
                _note(f"{self._vm} {'is on ' + str(now) + ' now' if now != host else 'is back'}; connected again")
                host = now

    def _connect_again(self, opened: ExitStack) -> VmStream:
        """The console ended: the vm moved, or is off (Refused), or its agent restarts."""
        deadline = time.monotonic() + AGAIN_S
        while True:
            time.sleep(0.3)
            try:
                running_host(self._api, self._vm)
                return opened.enter_context(connected(self._api, self._vm, "console"))
            except (errors.Unreachable, errors.Conflict):
                if time.monotonic() > deadline:
                    raise

    def _serve(self, socket: VmStream) -> bool:
        """Copy both ways. True: the user left; False: the connection ended."""
        gone_read, gone_write = os.pipe()
        reader = threading.Thread(target=self._show, args=(socket, gone_write), daemon=True)
        reader.start()
        try:
            return self._type(socket, gone_read)
        finally:
            socket.close()
            reader.join(timeout=2)
            os.close(gone_read)

    def _show(self, socket: VmStream, gone: int) -> None:
        try:
            for data in socket:
                self._heard_at = time.monotonic()
                os.write(1, data)
        except OSError:
            pass
        finally:
            os.close(gone)

    def _type(self, socket: VmStream, gone: int) -> bool:
        keyboard = sys.stdin.fileno()
        while True:
            watched = [gone] if self._input_ended else [gone, keyboard]
            ready, _, _ = select.select(watched, [], [], 0.2)
            if gone in ready:
                return False
            if keyboard in ready:
                data = os.read(keyboard, 4096)
                self._input_ended = not data
                self._heard_at = time.monotonic()
                before, left, _ = data.partition(LEAVE)
                try:
                    if before:
                        socket.send(before)
                except ConnectionClosed:
                    return False
                if left:
                    return True
            if self._input_ended and time.monotonic() - self._heard_at > QUIET_S:
                return True


def _note(text: str) -> None:
    sys.stderr.write(f"\r\n[{text}]\r\n")
    sys.stderr.flush()


@contextmanager
def _raw_terminal() -> Iterator[None]:
    """Keys go through one by one, Ctrl-C too. Nothing is done where standard input is no terminal."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        sys.stderr.write("\r\n")
