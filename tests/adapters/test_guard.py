"""zugvogel.adapters.guard over the real process."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.guarded import GuardedHost, now, until
from zugvogel.adapters import processes
from zugvogel.adapters.guard import HUNG_CALLS, ProcessGuard
from zugvogel.domain.guard import GuardOrders, GuardReport

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[GuardedHost]:
    made = GuardedHost(tmp_path / "run")
    yield made
    made.end_guard()
    made.close()


@pytest.fixture(autouse=True)
def run_directory(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()


def agent(host: GuardedHost) -> ProcessGuard:
    return ProcessGuard(host.run_dir, host.run_dir.parent / "log")


def pid_of(host: GuardedHost) -> int:
    lock = host.folder / "lock"
    words = lock.read_text().split() if lock.exists() else []
    return int(words[0]) if words else 0


def test_it_is_started_once_and_told(host: GuardedHost) -> None:
    guard, vm = agent(host), host.vm("web")
    assert (guard.report(), guard.told()) == (None, None)
    orders = GuardOrders(is_armed=True, freeze_after_s=30.0, good_at={"ds": now()}, heard_at=now(), vms=(vm,))
    guard.tell(orders)
    assert guard.told() == orders
    for _ in range(3):
        guard.ensure_running()
    host.ticks()
    report, pid = guard.report(), pid_of(host)
    assert report is not None
    assert report.frozen == {}
    guard.ensure_running()
    guard.tell(orders.model_copy(update={"good_at": {"ds": now() - 31}}))
    until(lambda: processes.is_stopped(vm.pid), "the freezing")
    assert pid_of(host) == pid
    assert "starts" in (host.run_dir.parent / "log/guard.log").read_text()


def test_a_later_agent_finds_the_guard_and_what_it_was_told(host: GuardedHost) -> None:
    first = agent(host)
    orders = GuardOrders(is_armed=True, freeze_after_s=1.8, good_at={"ds": now()})
    first.tell(orders)
    first.ensure_running()
    host.ticks()
    pid, later = pid_of(host), agent(host)
    later.ensure_running()
    host.ticks()
    assert (later.told(), pid_of(host)) == (orders, pid)


def test_one_that_was_killed_is_started_again(host: GuardedHost) -> None:
    guard = agent(host)
    guard.ensure_running()
    host.ticks()
    pid = pid_of(host)
    os.kill(pid, signal.SIGKILL)
    until(lambda: processes.start_time(pid) is None, "its end")
    guard.ensure_running()
    host.ticks()
    assert pid_of(host) != pid


def test_one_that_hangs_is_replaced_but_not_before_it_had_its_turns(host: GuardedHost) -> None:
    guard = agent(host)
    guard.ensure_running()
    host.ticks()
    pid = pid_of(host)
    os.kill(pid, signal.SIGSTOP)
    until(lambda: processes.is_stopped(pid), "its hang")
    for _ in range(HUNG_CALLS - 1):
        guard.ensure_running()
    assert processes.is_stopped(pid)
    guard.ensure_running()
    until(lambda: processes.start_time(pid) is None, "its end")
    guard.ensure_running()
    host.ticks()
    assert pid_of(host) != pid


def test_one_that_ticks_is_never_taken_for_hung(host: GuardedHost) -> None:
    guard = agent(host)
    guard.ensure_running()
    for _ in range(HUNG_CALLS + 1):
        host.ticks()
        guard.ensure_running()
    assert processes.start_time(pid_of(host)) is not None


def test_damaged_files_count_as_none(host: GuardedHost) -> None:
    for name in ("orders.json", "report.json"):
        (host.folder / name).write_text('{"ticked_at": ')
    assert (agent(host).report(), agent(host).told()) == (None, None)
    (host.folder / "report.json").write_text(json.dumps({"ticked_at": 5.0, "unknown": 1}))
    assert agent(host).report() == GuardReport(ticked_at=5.0)


def test_what_cannot_be_told_or_started_raises_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    guard = ProcessGuard(tmp_path / "file", tmp_path / "log")
    for _ in range(2):
        guard.tell(GuardOrders(is_armed=False, freeze_after_s=9.0))
    guard.ensure_running()
    assert [r.getMessage()[:24] for r in caplog.records] == [
        "the guard was not told: ",
        "the guard was not starte",
    ]
