"""zugvogel.adapters.processes"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from zugvogel.adapters import processes


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def start_of(process: subprocess.Popen[bytes]) -> int:
    start = processes.start_time(process.pid)
    assert start is not None
    return start


def test_it_is_stopped_and_goes_on(sleeper: subprocess.Popen[bytes]) -> None:
    start = start_of(sleeper)
    assert not processes.is_stopped(sleeper.pid)
    assert processes.send(sleeper.pid, start, signal.SIGSTOP)
    until(lambda: processes.is_stopped(sleeper.pid))
    assert processes.send(sleeper.pid, start, signal.SIGCONT)
    until(lambda: not processes.is_stopped(sleeper.pid))


def test_another_process_with_its_pid_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    assert not processes.send(sleeper.pid, start_of(sleeper) - 1, signal.SIGKILL)
    assert sleeper.poll() is None


def test_one_that_is_gone_or_a_zombie_is_told_as_gone(sleeper: subprocess.Popen[bytes]) -> None:
    start = start_of(sleeper)
    sleeper.send_signal(signal.SIGKILL)
    until(lambda: processes.start_time(sleeper.pid) is None)  # not reaped: a zombie
    assert not processes.send(sleeper.pid, start, signal.SIGSTOP)
    sleeper.wait()
    assert not processes.send(sleeper.pid, start, signal.SIGSTOP)
    assert not processes.is_stopped(sleeper.pid)


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1, 2**40])
def test_a_pid_that_cannot_be_is_gone(pid: int) -> None:
    assert not processes.send(pid, 1, signal.SIGSTOP)
    assert not processes.is_stopped(pid)


def test_its_own_start_is_in_the_past() -> None:
    ticks = processes.start_time(os.getpid())
    assert ticks is not None
    assert 0 < ticks / os.sysconf("SC_CLK_TCK") <= time.clock_gettime(time.CLOCK_BOOTTIME)
