"""The kernel's watchdog as the guard uses it: it resets the host when nobody has fed it for its timeout.

Part of the guard's locked memory: nothing large is imported here.
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from zugvogel.core.guarding import is_watchdog_in_time, watchdog_timeout_s

DEVICE = Path("/dev/watchdog")
NO_WAY_OUT = Path("/sys/class/watchdog/watchdog0/nowayout")
AGAIN_S = 30.0
"""After a refusal (systemd may have it, a driver may be loaded later)."""
_WDIOC_SETTIMEOUT = 0xC0045706


def set_timeout(fd: int, seconds: int) -> int:
    """The timeout that the driver has set, in seconds: it may choose another one. Raises OSError."""
    answer = fcntl.ioctl(fd, _WDIOC_SETTIMEOUT, seconds.to_bytes(4, sys.byteorder))
    return int.from_bytes(answer, sys.byteorder)


class Watchdog:
    """Closed until `hold`. `trouble` says why it is not held though there is one; empty where there is none."""

    def __init__(
        self,
        device: Path = DEVICE,
        no_way_out: Path = NO_WAY_OUT,
        set_timeout: Callable[[int, int], int] = set_timeout,
    ) -> None:
        self.trouble = ""
        self._device = device
        self._no_way_out = no_way_out
        self._set_timeout = set_timeout
        self._fd = -1
        self._held_for_s = 0.0
        self._asked_for_s = 0.0
        self._next_try_at = 0.0

    @property
    def is_held(self) -> bool:
        return self._fd >= 0 and self._held_for_s > 0

    def hold(self, freeze_after_s: float, now: float) -> None:
        """From here on the host is reset when it is not fed. Nothing where it is held for that time already."""
        if self._held_for_s == freeze_after_s or (self._asked_for_s == freeze_after_s and now < self._next_try_at):
            return
        self._open()
        if self._fd >= 0:
            self.trouble = self._refusal(freeze_after_s)
            self._held_for_s = 0.0 if self.trouble else freeze_after_s
            if self.trouble:
                self.release()
        self._asked_for_s, self._next_try_at = freeze_after_s, now + AGAIN_S

    def _refusal(self, freeze_after_s: float) -> str:
        """Why it does not reset the host in time; empty when it does."""
        wanted_s = watchdog_timeout_s(freeze_after_s)
        try:
            timeout_s = self._set_timeout(self._fd, wanted_s)
        except OSError as error:
            return f"{self._device} takes no timeout: {error.strerror}"
        if is_watchdog_in_time(timeout_s, freeze_after_s):
            return ""
        return f"{self._device} resets after {timeout_s} s at the earliest, {wanted_s} s are needed"

    def feed(self) -> None:
        """Nothing where it is not open."""
        self._write(b"\0")

    def release(self) -> None:
        """Nobody needs to be reset any more. One that cannot be stopped is fed on."""
        if self._fd < 0:
            return
        if self._is_without_way_out():
            self.feed()
            return
        self.close()

    def close(self) -> None:
        """In order: the kernel stops it, unless it was built never to stop."""
        if self._fd >= 0:
            self._write(b"V")
            os.close(self._fd)
        self._fd, self._held_for_s, self._next_try_at = -1, 0.0, 0.0

    def _open(self) -> None:
        if self._fd >= 0:
            return
        try:
            if not stat.S_ISCHR(self._device.stat().st_mode):
                return
            self._fd = os.open(self._device, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self.trouble = ""
        except OSError as error:
            self.trouble = f"{self._device} is not to be had: {error.strerror}"

    def _is_without_way_out(self) -> bool:
        try:
            return self._no_way_out.read_text().strip() == "1"
        except OSError:
            return False

    def _write(self, sign: bytes) -> None:
        if self._fd < 0:
            return
        try:
            os.write(self._fd, sign)
        except OSError as error:
            self.trouble = f"{self._device} was not fed: {error.strerror}"
