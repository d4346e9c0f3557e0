"""Six hosts: five primaries and a secondary (P1), which is a host like the others. A lab of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.own_lab import six_hosts

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

VM = "six"
SECONDARY = "host6"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with six_hosts(tmp_path_factory, "six") as made:
        yield made


def test_five_primaries_a_secondary_and_a_vm_that_moves_to_it(cluster: Cluster) -> None:
    hosts = {h["name"]: h for h in cluster.zv_json("host", "list")}
    assert list(hosts) == [f"host{i}" for i in range(1, 7)]
    assert [h["role"] for h in hosts.values()] == ["primary"] * 5 + ["secondary"]
    assert {h["verdict"] for h in hosts.values()} == {"live"}
    assert [h["address"] for h in hosts.values()] == [f"192.0.2.{10 + i}" for i in range(1, 7)]
    primaries = cluster.zv_json("cluster", "show")["primaries"]
    assert primaries == [f"host{i}" for i in range(1, 6)]
    # The primaries, and no other, become etcd's members, one after the other.
    cluster.wait("etcd's members", lambda: [h for h in hosts if cluster.runs(h, "etcd")] == primaries)

    asking = ("--context", cluster.context_of(SECONDARY))
    cluster.zv(*asking, "vm", "create", VM, "--memory", "128M", "--image", "lab-guest")
    cluster.zv(*asking, "vm", "start", VM, "--on", "host1")
    before = cluster.wait("the guest to answer", lambda: cluster.guest(VM))
    report = cluster.zv_json(*asking, "vm", "migrate", VM, "--to", SECONDARY)
    assert (report["source"], report["target"]) == ("host1", SECONDARY)
    assert report["network"][0]["is_verified"] is True
    assert cluster.assert_runs_once(VM) == SECONDARY
    after = cluster.guest(VM)
    assert after["boot_id"] == before["boot_id"]
    assert after["counter"] > before["counter"]

    seen = cluster.zv_json(*asking, "host", "list")
    assert {h["name"]: (h["role"], h["verdict"]) for h in seen} == {
        name: (h["role"], h["verdict"]) for name, h in hosts.items()
    }
    cluster.zv(*asking, "settings", "set", "migration.maxdowntime", "250")
    told = cluster.context_of("host3")
    cluster.wait(
        "the setting on a primary",
        lambda: cluster.zv_json("--context", told, "settings", "get", "migration.maxdowntime")["value"] == 250,
    )
    cluster.zv(*asking, "vm", "migrate", VM, "--to", "host2")
    assert cluster.assert_runs_once(VM) == "host2"
    cluster.zv(*asking, "vm", "kill", VM)


def test_a_primarys_failure_promotes_nobody(cluster: Cluster) -> None:
    """P5, and the registry goes on with four of five."""
    cluster.zv("lab", "power", "host5", "off")
    cluster.wait(
        "host5 to have failed",
        lambda: {h["name"]: h["verdict"] for h in cluster.zv_json("host", "list")}["host5"] == "failed",
    )
    hosts = {h["name"]: h for h in cluster.zv_json("host", "list")}
    assert [h["role"] for h in hosts.values()] == ["primary"] * 5 + ["secondary"]
    assert {name for name, h in hosts.items() if h["verdict"] != "live"} == {"host5"}
    cluster.zv("settings", "set", "migration.maxdowntime", "300")
    cluster.zv("lab", "power", "host5", "on")
    cluster.all_live()
    cluster.remove(VM)
