"""zugvogel.agent.watchdog: a terminal stands for the device, since it takes and shows every byte; what it takes as
its timeout is the test's."""

from __future__ import annotations

import errno
import os
import select
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from zugvogel.agent.watchdog import AGAIN_S, Watchdog


class Device:
    """`minimum_s`: the shortest timeout its driver knows."""

    def __init__(self, folder: Path) -> None:
        self.ours, theirs = os.openpty()
        tty.setraw(theirs)
        self.path = Path(os.ttyname(theirs))
        self._theirs = theirs
        self.no_way_out = folder / "nowayout"
        self.minimum_s = 1
        self.asked: list[int] = []
        self.is_refusing = False

    def set_timeout(self, _fd: int, seconds: int) -> int:
        self.asked.append(seconds)
        if self.is_refusing:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return max(seconds, self.minimum_s)

    def watchdog(self) -> Watchdog:
        return Watchdog(self.path, self.no_way_out, self.set_timeout)

    def got(self, count: int) -> bytes:
        """So many bytes, or what came within 5 s; and what came besides."""
        found, deadline = b"", time.monotonic() + 5
        while len(found) < count and time.monotonic() < deadline:
            if select.select([self.ours], [], [], 0.1)[0]:
                found += os.read(self.ours, 100)
        return found

    def close(self) -> None:
        os.close(self.ours)
        os.close(self._theirs)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    made = Device(tmp_path)
    yield made
    made.close()


def test_it_is_held_fed_and_stopped_in_order(device: Device) -> None:
    watchdog = device.watchdog()
    watchdog.feed()  # nothing before it is held
    watchdog.hold(9.0, now=0.0)
    watchdog.feed()
    watchdog.hold(9.0, now=0.1)
    watchdog.feed()
    assert (watchdog.is_held, device.got(2), device.asked) == (True, b"\0\0", [4])
    watchdog.release()
    assert (watchdog.is_held, device.got(1)) == (False, b"V")
    watchdog.hold(9.0, now=0.2)  # armed again at once
    assert watchdog.is_held


def test_another_detection_time_sets_another_timeout(device: Device) -> None:
    watchdog = device.watchdog()
    watchdog.hold(9.0, now=0.0)
    watchdog.hold(1.8, now=0.1)
    assert (watchdog.is_held, device.asked) == (True, [4, 1])


def test_one_that_is_too_slow_is_given_up_and_tried_again_later(device: Device) -> None:
    watchdog = device.watchdog()
    device.minimum_s = 30
    watchdog.hold(9.0, now=0.0)
    watchdog.hold(9.0, now=1.0)
    assert (watchdog.is_held, device.got(1), device.asked) == (False, b"V", [4])
    assert "resets after 30 s at the earliest" in watchdog.trouble
    device.minimum_s = 1
    watchdog.hold(9.0, now=AGAIN_S + 1)
    assert (watchdog.is_held, watchdog.trouble) == (True, "")


def test_one_that_takes_no_timeout_is_given_up(device: Device) -> None:
    watchdog = device.watchdog()
    device.is_refusing = True
    watchdog.hold(9.0, now=0.0)
    assert not watchdog.is_held
    assert "takes no timeout" in watchdog.trouble


def test_one_that_cannot_be_stopped_is_fed_on(device: Device) -> None:
    device.no_way_out.write_text("1\n")
    watchdog = device.watchdog()
    watchdog.hold(9.0, now=0.0)
    watchdog.release()
    watchdog.release()
    assert (watchdog.is_held, device.got(2)) == (True, b"\0\0")


def test_without_one_nothing_happens_and_nothing_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # what a lab host has in place of the real one
    for path in (tmp_path / "none", tmp_path / "file"):
        watchdog = Watchdog(path, tmp_path / "nowayout")
        watchdog.hold(9.0, now=0.0)
        watchdog.feed()
        watchdog.close()
        assert (watchdog.is_held, watchdog.trouble) == (False, "")


def test_a_device_that_is_no_watchdog_is_refused(tmp_path: Path) -> None:
    watchdog = Watchdog(Path("/dev/null"), tmp_path / "nowayout")
    watchdog.hold(9.0, now=0.0)
    assert not watchdog.is_held
    assert "takes no timeout" in watchdog.trouble
