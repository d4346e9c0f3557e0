"""High availability with real QEMU, six hosts (five primaries) and real power cuts: each vm runs exactly once
afterwards, with its memory where that can be kept. A lab of its own, with a detection time of DETECTION_S."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.own_lab import six_hosts

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

DETECTION_S = 6
RESTART_S = 120.0
"""Until a restarted guest answers; several of them boot on two cores."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with six_hosts(tmp_path_factory, "ha") as made:
        made.zv("settings", "set", "das.failuredetectiontime", str(DETECTION_S * 1000))
        made.zv("ha", "enable")
        yield made


@pytest.fixture
def vm(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A vm with a disk, named for its test, gone afterwards."""
    name = "".join(word[0] for word in request.node.name.removeprefix("test_").split("_"))
    cluster.create(name, disks=[{"size_bytes": 16 << 20}])
    yield name
    cluster.power_on_all()
    cluster.remove(name)


def _answers_on(cluster: Cluster, vm: str, *not_on: str) -> dict[str, Any]:
    """It runs, vCPUs going, on exactly one host that is none of `not_on`, and its guest answers."""

    def answering() -> dict[str, Any]:
        running = cluster.running(vm)
        assert len(running) == 1, running
        (host,) = running
        assert host not in not_on, host
        view = cluster.vm(vm)
        assert (view["state"], view["host"]) == ("running", host), view
        return {"host": host, **cluster.guest(vm)}

    found: dict[str, Any] = cluster.wait(f"{vm} to run elsewhere than on {not_on}", answering, RESTART_S)
    return found


def _events(cluster: Cluster, vm: str, kind: str) -> list[dict[str, Any]]:
    return [e for e in cluster.zv_json("event", "list", "--subject", vm) if e["event"] == kind]


def test_enabled_and_told(cluster: Cluster) -> None:
    status = cluster.zv_json("ha", "status")
    assert status["enabled"] is True
    assert status["failover_level"] == 1
    assert set(status["admission"]) >= {"used", "reserved", "free"}
    active = cluster.wait("an active primary", lambda: cluster.zv_json("ha", "status")["active_primary"])
    hosts = {h["name"]: h for h in cluster.zv_json("host", "list")}
    assert [name for name, h in hosts.items() if h["is_active_primary"]] == [active]
    assert hosts[active]["role"] == "primary"
    told = cluster.zv("ha", "explain", "host2").stdout
    assert "heartbeat" in told
    assert "host2" in cluster.zv("ha", "plan", "--fail", "host2").stdout


def test_power_cut_of_a_host(cluster: Cluster, vm: str) -> None:
    """H3, H6: restarted elsewhere by priority; one whose priority is disabled stays down, registered."""
    down = "staysdown"
    cluster.create(down)
    try:
        cluster.zv("vm", "set", down, "--restart-priority", "disabled")
        before = cluster.boot(vm, "host2")
        cluster.boot(down, "host2")
        cluster.zv("lab", "power", "host2", "off")
        after = _answers_on(cluster, vm, "host2")
        assert after["boot_id"] != before["boot_id"]
        (told,) = _events(cluster, vm, "vm.restarted")
        assert "lost" in told["cause"]
        assert {h["name"]: h["verdict"] for h in cluster.zv_json("host", "list")}["host2"] == "failed"
        assert cluster.running(down) == []
        cluster.power_on_all()
        cluster.wait("it to be down", lambda: cluster.vm(down)["state"] in {"failed", "stopped"})
        assert cluster.assert_runs_once(vm) == after["host"]
        assert cluster.running(down) == []
    finally:
        cluster.remove(down)


def test_network_cut_with_suspend(cluster: Cluster, vm: str) -> None:
    """H7: an isolated host whose storage works saves its vms, and they go on elsewhere with their memory."""
    cluster.zv("vm", "set", vm, "--isolation-response", "suspend")
    before = cluster.boot(vm, "host3")
    cluster.zv("lab", "network", "host3", "cut")
    after = _answers_on(cluster, vm, "host3")
    assert after["boot_id"] == before["boot_id"]
    assert after["counter"] > before["counter"]
    assert {h["name"]: h["verdict"] for h in cluster.zv_json("host", "list")}["host3"] == "isolated"
    cluster.zv("lab", "network", "host3", "heal")
    cluster.all_live()
    assert cluster.assert_runs_once(vm) == after["host"]


def test_network_cut_with_leave(cluster: Cluster, vm: str) -> None:
    """It runs on where it is, unreachable, and nobody starts it elsewhere."""
    cluster.zv("vm", "set", vm, "--isolation-response", "leave")
    before = cluster.boot(vm, "host3")
    pid = cluster.qemus(vm)["host3"]
    cluster.zv("lab", "network", "host3", "cut")
    cluster.wait("the verdict", lambda: cluster.host("host3")["verdict"] == "isolated")
    time.sleep(DETECTION_S)
    assert cluster.running(vm) == ["host3"]
    cluster.zv("lab", "network", "host3", "heal")
    cluster.all_live()
    assert cluster.assert_runs_once(vm) == "host3"
    assert cluster.qemus(vm)["host3"] == pid
    assert cluster.guest(vm)["boot_id"] == before["boot_id"]


def test_storage_hang_freezes_and_thaws(cluster: Cluster, vm: str) -> None:
    before = cluster.boot(vm, "host4")
    pid = cluster.qemus(vm)["host4"]
    cluster.zv("lab", "storage", "host4", "hang")
    cluster.wait("the guard to freeze it", lambda: cluster.running(vm) == [])
    cluster.wait("the verdict", lambda: cluster.host("host4")["verdict"] == "storage-lost")
    cluster.wait("it to be shown", lambda: cluster.vm(vm)["state"] == "frozen")
    cluster.zv("lab", "storage", "host4", "heal")
    after = _answers_on(cluster, vm)
    assert after["host"] == "host4"
    assert cluster.qemus(vm)["host4"] == pid
    assert after["boot_id"] == before["boot_id"]
    cluster.all_live()
    assert cluster.assert_runs_once(vm) == "host4"


def test_storage_cut_for_long_restarts_elsewhere(cluster: Cluster, vm: str) -> None:
    """das.apdtimeout: given up on the host that lost its storage, which proves that nothing of it runs."""
    cluster.zv("settings", "set", "das.apdtimeout", "5")
    try:
        cluster.boot(vm, "host4")
        cluster.zv("lab", "storage", "host4", "cut")
        after = _answers_on(cluster, vm, "host4")
        assert "host4" not in cluster.qemus(vm)
    finally:
        cluster.zv("settings", "set", "das.apdtimeout", "140")
        cluster.zv("lab", "storage", "host4", "heal")
    cluster.all_live()
    assert cluster.assert_runs_once(vm) == after["host"]


def test_network_and_storage_cut_on_a_living_host(cluster: Cluster, vm: str) -> None:
    """Frozen before another host starts it; ended when its host comes back and finds its lease taken."""
    before = cluster.boot(vm, "host5")
    cluster.zv("lab", "network", "host5", "cut")
    cluster.zv("lab", "storage", "host5", "hang")
    after = _answers_on(cluster, vm, "host5")
    assert after["boot_id"] != before["boot_id"]
    assert "host5" in cluster.qemus(vm)  # frozen there
    cluster.zv("lab", "storage", "host5", "heal")
    cluster.zv("lab", "network", "host5", "heal")
    cluster.all_live()
    assert cluster.assert_runs_once(vm) == after["host"]


def test_agent_kill_is_felt_by_no_vm(cluster: Cluster, vm: str) -> None:
    before = cluster.boot(vm, "host2")
    pid = cluster.qemus(vm)["host2"]
    cluster.kill_agent("host2")
    cluster.all_live()
    assert cluster.assert_runs_once(vm) == "host2"
    assert cluster.qemus(vm)["host2"] == pid
    assert cluster.guest(vm)["boot_id"] == before["boot_id"]


def test_a_vm_that_dies_is_started_where_it_was(cluster: Cluster, vm: str) -> None:
    before = cluster.boot(vm, "host2")
    cluster.kill_qemu(vm, "host2")
    after = _answers_on(cluster, vm)
    assert after["host"] == "host2"
    assert after["boot_id"] != before["boot_id"]
    cluster.assert_runs_once(vm)


def test_a_vm_that_was_stopped_by_its_user_stays_down(cluster: Cluster, vm: str) -> None:
    cluster.boot(vm, "host2")
    cluster.zv("vm", "kill", vm)
    time.sleep(DETECTION_S)
    assert cluster.running(vm) == []
    assert cluster.vm(vm)["state"] == "stopped"


def test_a_host_dies_while_etcds_majority_is_killed(cluster: Cluster, vm: str) -> None:
    """Failover waits for no majority; none of the living hosts has failed, so etcd is not formed anew either."""
    before = cluster.boot(vm, "host5")
    with cluster.etcd_killed("host1", "host2", "host3"):
        cluster.wait(
            "no majority",
            lambda: "no majority" in cluster.refused("settings", "set", "migration.maxdowntime", "299"),
        )
        cluster.zv("lab", "power", "host5", "off")
        after = _answers_on(cluster, vm, "host5")
        assert after["boot_id"] != before["boot_id"]
        assert "no majority" in cluster.refused("settings", "set", "migration.maxdowntime", "299")
    cluster.wait(
        "etcd to take writes",
        lambda: cluster.zv("settings", "set", "migration.maxdowntime", "300", check=False).returncode == 0,
        RESTART_S,
    )
    cluster.power_on_all()
    assert cluster.assert_runs_once(vm) == after["host"]
    assert not [e for e in cluster.zv_json("event", "list") if e["event"] == "registry.reformed"]


def test_four_of_five_primaries_lose_their_power_at_once(cluster: Cluster, vm: str) -> None:
    """P4: the last one restarts their vms without etcd's majority, and forms etcd anew."""
    other = "other"
    cluster.create(other)
    gone = ["host1", "host2", "host3", "host4"]
    try:
        cluster.boot(vm, "host1")
        cluster.boot(other, "host3")
        for host in gone:
            cluster.zv("lab", "power", host, "off")
        places = {name: _answers_on(cluster, name, *gone)["host"] for name in (vm, other)}
        cluster.wait(
            "etcd to take writes",
            lambda: cluster.zv("settings", "set", "migration.maxdowntime", "299", check=False).returncode == 0,
            RESTART_S,
        )
        cluster.power_on_all()
        for name, host in places.items():
            assert cluster.assert_runs_once(name) == host
        roles = [h["role"] for h in cluster.zv_json("host", "list")]
        assert roles == ["primary"] * 5 + ["secondary"]
        cluster.wait(
            "all primaries to be members again",
            lambda: [h for h in cluster.hosts if cluster.runs(h, "etcd")] == cluster.hosts[:5],
            RESTART_S,
        )
        cluster.zv("settings", "set", "migration.maxdowntime", "300")
    finally:
        cluster.power_on_all()
        cluster.remove(other)


def test_power_loss_of_every_host(cluster: Cluster, vm: str) -> None:
    before = cluster.boot(vm, "host2")
    for host in cluster.hosts:
        cluster.zv("lab", "power", host, "off")
    cluster.power_on_all()
    after = _answers_on(cluster, vm)
    assert after["boot_id"] != before["boot_id"]
    cluster.assert_runs_once(vm)
