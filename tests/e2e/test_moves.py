"""Moves between all hosts, asked of any host: a loaded guest with a disk goes on and stays right, every host tells
the same, two vms may cross, and a moved vm lives on like any other. Figures and refusals: test_migration."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from tests.e2e.cluster import ZV, Cluster
from tests.e2e.test_migration import assert_went_on, watched

pytestmark = pytest.mark.lab

VM, SECOND = "carrier", "crosser"
HOST_NAMES = ("name", "role", "verdict", "address")
VM_NAMES = ("name", "host", "state", "addresses", "mac")
REPORT_NAMES = {
    *("mode", "source", "target", "total_s", "downtime_ms", "transferred_bytes", "rounds", "phases"),
}


@pytest.fixture(scope="module")
def made(cluster: Cluster) -> Iterator[str]:
    cluster.zv("vm", "create", VM, "--memory", "128M", "--image", "lab-guest", "--disk", "16M")
    yield VM
    cluster.remove(VM)


@pytest.fixture
def vm(cluster: Cluster, made: str) -> str:
    """Runs on host1 and answers, without load."""
    cluster.boot(made, "host1")
    cluster.guest(made, "/load?dirty_mb_s=0&working_set_mb=0&disk=0")
    return made


def _ask(cluster: Cluster, host: str, *arguments: str) -> Any:
    return cluster.zv_json("--context", cluster.context_of(host), *arguments)


def _only(names: tuple[str, ...], told: dict[str, Any]) -> dict[str, Any]:
    return {name: told[name] for name in names}


def test_three_moves_under_memory_and_disk_load_each_asked_of_another_host(cluster: Cluster, vm: str) -> None:
    """The asked host is in turn the target, neither of both, and the source."""
    cluster.guest(vm, "/load?dirty_mb_s=20&working_set_mb=16&disk=1&disk_mb=4&rate_mb_s=4")
    moves = [("host1", "host2", "host2"), ("host2", "host3", "host1"), ("host3", "host1", "host3")]
    states = [cluster.guest(vm)]
    with watched(cluster, vm) as told:
        for source, target, asked in moves:
            report = _ask(cluster, asked, "vm", "migrate", vm, "--to", target)
            assert report.keys() >= REPORT_NAMES
            assert (report["mode"], report["source"], report["target"]) == ("live", source, target)
            assert report["network"][0]["is_verified"] is True
            assert cluster.assert_runs_once(vm) == target
            states.append(cluster.guest(vm))
            done = states[-1]["disk"]["blocks_written"]
            cluster.wait("blocks", lambda done=done: cluster.guest(vm)["disk"]["blocks_written"] > done)
    assert_went_on(told)
    for earlier, later in pairwise(states):
        assert later["boot_id"] == earlier["boot_id"]
        assert later["counter"] > earlier["counter"]
        assert later["uptime_s"] > earlier["uptime_s"]
        assert later["disk"]["blocks_written"] > earlier["disk"]["blocks_written"]
        assert later["dirty"]["dirtied_bytes"] > earlier["dirty"]["dirtied_bytes"]
    last = cluster.guest(vm, "/load?dirty_mb_s=0&disk=0&verify=1")
    assert last["verify"]["memory_pages"] > 0
    assert last["verify"]["disk_blocks"] > 0
    assert (last["verify"]["memory_errors"], last["verify"]["disk_errors"]) == (0, 0)
    assert (last["disk"]["errors"], last["disk"]["io_errors"]) == (0, 0)


def test_every_host_tells_the_same_after_a_move(cluster: Cluster, vm: str) -> None:
    report = cluster.zv_json("vm", "migrate", vm, "--to", "host3")
    task = cluster.zv_json("task", "list", "--subject", vm)[-1]["id"]
    for host in cluster.hosts:  # at once
        shown = _ask(cluster, host, "vm", "show", vm)
        assert (shown["host"], shown["state"]) == ("host3", "running"), host
    cluster.wait("its address", lambda: all(cluster.vm_as_told_by(h, vm)["addresses"] for h in cluster.hosts))
    answers = []
    for host in cluster.hosts:
        shown = _ask(cluster, host, "vm", "show", vm)
        listed = next(v for v in _ask(cluster, host, "vm", "list") if v["name"] == vm)
        assert listed == shown
        answers.append(
            {
                "hosts": [_only(HOST_NAMES, h) for h in _ask(cluster, host, "host", "list")],
                "vm": _only(VM_NAMES, shown),
                "definition": shown["definition"],
                "report": _ask(cluster, host, "task", "show", task)["report"],
                "events": [e["id"] for e in _ask(cluster, host, "event", "list", "--subject", vm)],
            }
        )
    assert answers[0]["report"] == report
    assert answers[0]["vm"]["host"] == "host3"
    assert [h["verdict"] for h in answers[0]["hosts"]] == ["live"] * 3
    assert answers == [answers[0]] * len(cluster.hosts)


def test_the_ping_goes_on_while_it_moves(cluster: Cluster, vm: str) -> None:
    address = cluster.vm(vm)["addresses"][0]
    ping = subprocess.Popen(
        [*ZV, "lab", "ping", vm, "--interval-ms", "20", "--seconds", "60", "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        cluster.zv("vm", "migrate", vm, "--to", "host2")
        cluster.guest(vm)
        ping.terminate()  # ends it with its report, like Ctrl-C
        told = json.loads(ping.communicate(timeout=30)[0])
    finally:
        ping.kill()
        ping.wait()
    assert (told["vm"], told["address"]) == (vm, address)
    assert told["sent"] > told["lost"] >= 0
    assert told["sent"] - told["lost"] == told["received"] > 0
    assert told["max_gap_ms"] >= told["interval_ms"] / 2


def test_a_moved_vm_lives_on_like_any_other(cluster: Cluster, vm: str) -> None:
    before = cluster.guest(vm)
    cluster.zv("vm", "migrate", vm, "--to", "host2")
    assert cluster.zv_json("vm", "log", vm)["serial"]
    cluster.zv("vm", "set", vm, "--description", "moved")
    cluster.zv("vm", "reset", vm)
    cluster.wait("another boot", lambda: cluster.guest(vm)["boot_id"] != before["boot_id"])
    assert cluster.assert_runs_once(vm) == "host2"
    cluster.zv("vm", "migrate", vm, "--to", "host3")
    cluster.zv("vm", "stop", vm, "--timeout", "60")
    shown = cluster.zv_json("vm", "show", vm)
    assert (shown["state"], shown["host"], shown["definition"]["description"]) == ("stopped", None, "moved")
    assert cluster.qemus(vm) == {}
    assert [cluster.taps(host) for host in cluster.hosts] == [[], [], []]
    cluster.zv("vm", "start", vm, "--on", "host2")
    assert cluster.assert_runs_once(vm) == "host2"


def test_two_vms_cross(cluster: Cluster, vm: str) -> None:
    """Both at once, in opposite directions between the same two hosts."""
    cluster.zv("vm", "create", SECOND, "--memory", "128M", "--image", "lab-guest")
    try:
        before = {SECOND: cluster.boot(SECOND, "host2"), vm: cluster.guest(vm)}
        tasks = [
            cluster.zv_json("vm", "migrate", name, "--to", target, "--detach")["id"]
            for name, target in ((vm, "host2"), (SECOND, "host1"))
        ]
        for task in tasks:
            cluster.zv("task", "watch", task)
            assert cluster.zv_json("task", "show", task)["report"]["result"] == "moved"
        assert cluster.assert_runs_once(vm) == "host2"
        assert cluster.assert_runs_once(SECOND) == "host1"
        for name, state in before.items():
            after = cluster.guest(name)
            assert after["boot_id"] == state["boot_id"]
            assert after["counter"] > state["counter"]
    finally:
        cluster.remove(SECOND)
