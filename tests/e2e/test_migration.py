"""Live migration as a user sees it: nothing of the guest breaks, every figure is told, cancel leaves it alone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest

from tests.e2e.cluster import ZV, Cluster

pytestmark = pytest.mark.lab

VM = "mover"
CHECKS = {"L1", "L2", "L3", "L4", "L5", "L6"}


@pytest.fixture(scope="module")
def running(cluster: Cluster) -> Iterator[str]:
    cluster.zv("vm", "create", VM, "--memory", "128M", "--image", "lab-guest")
    cluster.boot(VM, "host1")
    yield VM
    cluster.remove(VM)


@pytest.fixture
def vm(cluster: Cluster, running: str) -> str:
    """Runs on host1 without load."""
    if cluster.vm(VM)["host"] != "host1":
        cluster.zv("vm", "migrate", VM, "--to", "host1")
    return running


@pytest.fixture
def busy(cluster: Cluster, vm: str) -> Iterator[str]:
    """Dirties 24 MiB at up to 40 MiB/s."""
    cluster.guest(VM, "/load?dirty_mb_s=40&working_set_mb=24")
    yield vm
    cluster.guest(VM, "/load?dirty_mb_s=0&working_set_mb=0")


@contextmanager
def watched(cluster: Cluster, vm: str = VM) -> Iterator[dict[str, Any]]:
    """One TCP connection to the guest is used all the while; what came of it is in the dict afterwards."""
    address = cluster.wait(f"{vm} to have an address", lambda: cluster.vm(vm)["addresses"])[0]
    told: dict[str, Any] = {}
    process = subprocess.Popen(
        cluster.client(*ZV[:2], "zugvogel.lab.continuity", address),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        told |= json.loads(process.stdout.readline())
        yield told
        process.stdin.close()
        told |= json.loads(process.stdout.readline())
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()


def assert_went_on(told: dict[str, Any]) -> None:
    assert told["connection"]["is_open"], told
    assert told["connection"]["echoed"] > 0
    assert told["after"]["boot_id"] == told["before"]["boot_id"]
    assert told["after"]["counter"] > told["before"]["counter"]
    assert told["after"]["uptime_s"] > told["before"]["uptime_s"]


def test_every_figure_is_told_and_kept(cluster: Cluster, vm: str) -> None:
    mac = cluster.vm(VM)["mac"]
    addresses = cluster.vm(VM)["addresses"]
    with watched(cluster) as told:
        report = cluster.zv_json("vm", "migrate", VM, "--to", "host2", "--mode", "live")
    assert_went_on(told)
    assert (report["mode"], report["source"], report["target"]) == ("live", "host1", "host2")
    assert 0 < report["downtime_ms"] < report["total_s"] * 1000
    assert report["transferred_bytes"] > 1 << 20
    assert report["rounds"]
    assert {"transferred_bytes", "dirty_rate_bps", "throughput_bps"} <= report["rounds"][0].keys()
    phases = {p["name"]: p for p in report["phases"]}
    assert list(phases) == ["prepare", "precopy", "switchover", "take over", "clean up", "verify network"]
    for one, following in pairwise(report["phases"]):
        assert one["start_s"] + one["duration_s"] == pytest.approx(following["start_s"], abs=0.001)
    switchover = phases["switchover"]  # the vm runs again within it
    assert 0 < report["total_s"] - switchover["start_s"] <= switchover["duration_s"]

    (network,) = report["network"]
    assert network["mac"] == mac
    assert network["is_verified"] is True, network
    assert network["rarp_seen"] is True
    assert network["answers_after"] == addresses
    assert cluster.assert_runs_once(VM) == "host2"
    shown = cluster.zv_json("vm", "show", VM)
    assert (shown["host"], shown["mac"]) == ("host2", mac)

    task = cluster.zv_json("task", "list", "--subject", VM)[-1]
    assert task["state"] == "done"
    assert cluster.zv_json("task", "show", task["id"])["report"] == report
    picture = cluster.zv("task", "show", task["id"]).stdout
    for words in ("moved from host1 to host2", "downtime", "round 1", "RARP seen"):
        assert words in picture, picture
    events = cluster.zv_json("event", "list", "--subject", VM)
    assert events[-1]["kind"] == "vm.migrated"


def test_dry_run_tells_all_findings_and_touches_nothing(cluster: Cluster, vm: str) -> None:
    lease, qemus = cluster.lease(VM), cluster.qemus(VM)
    tasks = cluster.zv_json("task", "list")
    plan = cluster.zv_json("vm", "migrate", VM, "--to", "host3", "--dry-run")
    assert (plan["source"], plan["target"]) == ("host1", "host3")
    assert {f["code"] for f in plan["findings"]} >= CHECKS
    assert {f["level"] for f in plan["findings"]} <= {"ok", "warning"}
    text = cluster.zv("vm", "migrate", VM, "--to", "host3", "--dry-run").stdout
    for code in CHECKS:
        assert code in text
    assert (cluster.lease(VM), cluster.qemus(VM)) == (lease, qemus)
    assert cluster.zv_json("task", "list") == tasks
    assert cluster.notes(VM) == []


def test_without_a_target_the_best_is_chosen_and_the_reason_told(cluster: Cluster, vm: str) -> None:
    plan = cluster.zv_json("vm", "migrate", VM, "--dry-run")
    report = cluster.zv_json("vm", "migrate", VM)
    assert report["target"] == plan["target"] != "host1"
    assert report["target"] in report["reason"]
    assert "best of 2" in report["reason"]
    assert cluster.assert_runs_once(VM) == report["target"]


def test_five_moves_back_and_forth_under_load(cluster: Cluster, busy: str) -> None:
    targets = ["host2", "host1", "host3", "host2", "host1"]
    with watched(cluster) as told:
        for target in targets:
            report = cluster.zv_json("vm", "migrate", VM, "--to", target)
            assert report["target"] == target
            assert report["network"][0]["is_verified"] is True
    assert_went_on(told)
    assert cluster.assert_runs_once(VM) == "host1"
    verified = cluster.guest(VM, "/load?dirty_mb_s=0&verify=1")["verify"]
    assert verified["memory_pages"] > 0
    assert verified["memory_errors"] == 0


def test_progress_is_seen_round_by_round_and_cancel_leaves_it_untouched(cluster: Cluster, busy: str) -> None:
    """A stream slower than the guest dirties never converges, so there is time to look and to cancel."""
    qemus = cluster.qemus(VM)
    with watched(cluster) as told:
        slowly = ("--bandwidth", "20", "--max-downtime", "10", "--channels", "1")
        task = cluster.zv_json("vm", "migrate", VM, "--to", "host2", *slowly, "--detach")
        assert task["kind"] == "vm.migrate"

        def two_rounds() -> Any:
            detail = cluster.zv_json("task", "show", task["id"])["progress"]["detail"]
            return detail if len(detail.get("rounds", ())) >= 2 else None

        detail = cluster.wait("two rounds", two_rounds)
        assert detail["phase"]
        assert detail["throughput_bps"] > 0
        assert detail["transferred_bytes"] > detail["rounds"][0]["transferred_bytes"] > 0
        assert [r["number"] for r in detail["rounds"][:2]] == [1, 2]
        assert cluster.vm(VM)["is_migrating"]
        assert task["id"] in cluster.zv("task", "list", "--running").stdout
        assert "migrated already" in cluster.refused("vm", "migrate", VM, "--to", "host3")

        cancelled = cluster.zv_json("task", "cancel", task["id"])
        assert cancelled["state"] == "cancelled"
    assert_went_on(told)
    assert cluster.assert_runs_once(VM) == "host1"
    assert cluster.qemus(VM) == qemus
    assert cluster.zv_json("task", "show", task["id"])["report"]["result"] == "stayed"
    assert cluster.refused("task", "cancel", task["id"])


def test_what_makes_no_move_is_refused(cluster: Cluster, vm: str) -> None:
    qemus, lease = cluster.qemus(VM), cluster.lease(VM)
    assert "is on host1 already" in cluster.refused("vm", "migrate", VM, "--to", "host1")
    cluster.refused("vm", "migrate", VM, "--to", "host9")
    cluster.refused("vm", "migrate", VM, "--mode", "slow", code=2)
    cluster.refused("vm", "migrate", VM, "--max-downtime", "-1", code=2)
    assert (cluster.qemus(VM), cluster.lease(VM)) == (qemus, lease)


def test_the_addresses_are_told_from_the_first_moment(cluster: Cluster, vm: str) -> None:
    """They are known before the move, so no command after it finds the vm without one; rare heartbeats show it."""
    addresses = cluster.vm(VM)["addresses"]
    assert addresses
    cluster.zv("settings", "set", "das.failuredetectiontime", "45000")
    cluster.zv("settings", "set", "das.failuredetectioninterval", "3000")
    try:
        for target in ("host2", "host3", "host2", "host1"):
            cluster.zv("vm", "migrate", VM, "--to", target)
            for host in cluster.hosts:
                shown = cluster.vm_as_told_by(host, VM)
                assert (shown["host"], shown["addresses"]) == (target, addresses)
    finally:
        cluster.zv("settings", "set", "das.failuredetectioninterval", "1000")
        cluster.zv("settings", "set", "das.failuredetectiontime", "15000")
