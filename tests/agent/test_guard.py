"""zugvogel.agent.guard: the process itself, over processes that sleep."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.guarded import GuardedHost, now, until
from zugvogel.adapters import processes
from zugvogel.agent.guard import IDLE_S, Guard, OrdersFile, parse
from zugvogel.agent.watchdog import Watchdog
from zugvogel.domain.guard import GuardedVm, GuardOrders, GuardReport

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[GuardedHost]:
    made = GuardedHost(tmp_path)
    yield made
    made.close()


def stands(vm: GuardedVm) -> bool:
    return processes.is_stopped(vm.pid)


# the process ----------------------------------------------------------------------------------------------


def test_it_freezes_the_vms_of_the_datastore_whose_beat_is_old(host: GuardedHost) -> None:
    lost, fine, unknown = host.vm("lost", "a"), host.vm("fine", "b"), host.vm("unknown", "c")
    host.tell(lost, fine, unknown, good_at={"a": now() - 31, "b": now()})
    host.guard()
    until(lambda: stands(lost) and stands(unknown), "the freezing")
    host.ticks()
    assert not stands(fine)
    assert set(host.report()["frozen"]) == {"lost", "unknown"}


def test_one_that_was_let_go_on_without_the_right_to_is_stopped_again(host: GuardedHost) -> None:
    vm = host.vm("web")
    host.tell(vm, good_at={"ds": now() - 31})
    host.guard()
    until(lambda: stands(vm), "the freezing")
    since = host.report()["frozen"]["web"]
    processes.send(vm.pid, vm.start, signal.SIGCONT)
    until(lambda: stands(vm), "the freezing again")
    host.ticks()
    assert host.report()["frozen"]["web"] == since


def test_it_never_lets_go_on(host: GuardedHost) -> None:
    vm = host.vm("web")
    host.tell(vm, good_at={"ds": now() - 31})
    host.guard()
    until(lambda: stands(vm), "the freezing")
    host.tell(vm, good_at={"ds": now()})
    until(lambda: host.report()["frozen"] == {}, "that it lets go")
    host.ticks()
    assert stands(vm)
    processes.send(vm.pid, vm.start, signal.SIGCONT)
    until(lambda: not stands(vm), "that it goes on")
    host.ticks()
    assert not stands(vm)


def test_unarmed_it_freezes_nothing(host: GuardedHost) -> None:
    vm = host.vm("web")
    host.tell(vm, good_at={}, is_armed=False)
    host.guard()
    host.ticks()
    host.ticks()
    assert not stands(vm)


def test_orders_that_go_or_are_torn_change_nothing(host: GuardedHost) -> None:
    vm = host.vm("web")
    host.tell(vm, good_at={"ds": now()})
    host.guard()
    host.ticks()
    (host.folder / "orders.json").write_text('{"is_armed": fal')
    until(lambda: "cannot be read" in host.report()["trouble"], "that it tells of them")
    (host.folder / "orders.json").unlink()
    host.ticks()
    assert not stands(vm)
    host.tell(vm, good_at={"ds": now() - 31})
    until(lambda: stands(vm), "the freezing")
    assert host.report()["trouble"] == ""


def test_a_pid_that_is_used_again_is_left_alone(host: GuardedHost) -> None:
    other, vm = host.vm("other"), host.vm("web")
    host.tell(other.model_copy(update={"start": other.start - 1}), vm, good_at={})
    host.guard()
    until(lambda: stands(vm), "the freezing")
    host.ticks()
    assert not stands(other)
    assert set(host.report()["frozen"]) == {"web"}


def test_it_outlives_whoever_started_it(host: GuardedHost) -> None:
    vm = host.vm("web")
    host.tell(vm, good_at={"ds": now()})
    agent = (
        "import sys, time\nfrom pathlib import Path\nfrom zugvogel.adapters.guard import ProcessGuard\n"
        "run = Path(sys.argv[1])\nProcessGuard(run, run / 'log').ensure_running()\n"
        "print('started', flush=True)\ntime.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", agent, str(host.run_dir)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"started\n"
            host.ticks()
        finally:
            process.kill()
    try:
        host.ticks()
        host.tell(vm, good_at={"ds": now() - 31})
        until(lambda: stands(vm), "the freezing after its parent's death")
    finally:
        host.end_guard()


def test_there_is_one_only(host: GuardedHost) -> None:
    first = host.guard()
    host.ticks()
    second = host.guard()
    assert second.wait(20) == 0
    host.ticks()
    assert first.poll() is None
    assert (host.folder / "lock").read_text().split()[0] == str(first.pid)


def test_another_one_takes_over_where_the_first_was_killed(host: GuardedHost) -> None:
    vm = host.vm("web")
    host.tell(vm, good_at={"ds": now()})
    first = host.guard()
    host.ticks()
    first.kill()
    first.wait()
    host.tell(vm, good_at={"ds": now() - 31})
    host.guard()
    until(lambda: stands(vm), "the freezing by the second")


def test_it_ends_on_sigterm_and_leaves_the_vms_as_they_are(host: GuardedHost) -> None:
    vm = host.vm("web")
    host.tell(vm, good_at={"ds": now()})
    guard = host.guard()
    host.ticks()
    guard.send_signal(signal.SIGHUP)
    host.ticks()
    guard.send_signal(signal.SIGTERM)
    assert guard.wait(20) == 0
    assert not stands(vm)


def test_it_reports_what_the_model_of_reports_knows(host: GuardedHost) -> None:
    host.guard()
    host.ticks()
    raw = host.report()
    assert set(raw) == set(GuardReport.model_fields)
    report = GuardReport.model_validate(raw)
    assert 0 <= now() - report.ticked_at < 60
    assert (report.has_watchdog, report.trouble) == (False, "")


def test_it_is_small() -> None:
    """Its memory is locked, on every host: what makes an agent large is not loaded into it."""
    listing = "import sys, zugvogel.agent.guard; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True).stdout
    assert not {"pydantic", "asyncio", "logging", "subprocess", "threading"} & set(loaded.split())


# its parts --------------------------------------------------------------------------------------------------


def test_it_understands_what_the_agent_writes() -> None:
    vm = GuardedVm(vm="web", pid=7, start=8, datastore="ds")
    told = GuardOrders(is_armed=True, freeze_after_s=1.8, good_at={"ds": 5.5}, heard_at=6.5, vms=(vm,))
    orders = parse(told.model_dump_json().encode())
    assert orders._asdict() | {"vms": ()} == told.model_dump() | {"vms": ()}
    assert [v._asdict() for v in orders.vms] == [vm.model_dump()]
    assert parse(told.model_copy(update={"heard_at": None}).model_dump_json().encode()).heard_at is None


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"3", b'{"is_armed": true, "freeze_after_s": "x"}', b"\xff"])
def test_what_is_no_orders_is_told_and_the_last_ones_stay(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "orders.json"
    good = GuardOrders(is_armed=True, freeze_after_s=9.0).model_dump_json().encode()
    path.write_bytes(good)
    file = OrdersFile(path)
    file.look()
    before = file.orders
    replace(path, raw)
    file.look()
    assert before is not None
    assert file.orders == before
    assert "cannot be read" in file.trouble
    replace(path, good)
    file.look()
    assert file.trouble == ""


def replace(path: Path, data: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)


def guard_in(folder: Path) -> Guard:
    return Guard(folder, Watchdog(folder / "none"), {"is_realtime": False, "is_memory_locked": False})


def test_with_nothing_to_guard_for_long_it_is_done(tmp_path: Path) -> None:
    guard = guard_in(tmp_path)
    guard.round(0.0)
    assert not guard.is_idle(0.0)
    assert not guard.is_idle(IDLE_S)
    assert guard.is_idle(IDLE_S + 1)


def test_while_there_are_orders_or_a_vm_it_is_not_done(host: GuardedHost) -> None:
    vm = host.vm("web")
    host.tell(vm, good_at={}, is_armed=False)
    guard = guard_in(host.folder)
    guard.round(0.0)
    assert not guard.is_idle(10 * IDLE_S)
    (host.folder / "orders.json").unlink()
    guard.round(1.0)
    assert not guard.is_idle(20 * IDLE_S)
    host.close()
    assert not guard.is_idle(30 * IDLE_S)
    assert guard.is_idle(40 * IDLE_S)


def test_a_report_that_cannot_be_written_does_not_keep_it_from_freezing(host: GuardedHost) -> None:
    vm = host.vm("web")
    host.tell(vm, good_at={})
    guard = guard_in(host.folder)
    (host.folder / "report.new").mkdir()
    guard.round(now())
    until(lambda: stands(vm), "the freezing")
    assert json.loads((host.folder / "orders.json").read_text())["vms"][0]["vm"] == "web"
