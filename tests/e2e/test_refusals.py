"""L1 to L6: each misfit of a target is its own finding, all are told, and nothing is touched.
L2 (a file system of one host alone) is tried in test_storage."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.e2e.cluster import Cluster

pytestmark = pytest.mark.lab

VM = "fixed"
SOURCE, TARGET, OTHER = "host1", "host2", "host3"


@pytest.fixture(scope="module")
def vm(cluster: Cluster) -> Iterator[str]:
    """Runs on SOURCE with two cpus."""
    cluster.zv("vm", "create", VM, "--memory", "128M", "--cpus", "2", "--image", "lab-guest")
    cluster.zv("vm", "start", VM, "--on", SOURCE)
    yield VM
    cluster.remove(VM)


ITSELF = {"--link-mbit": "0", "--cores": "0", "--memory": "0", "--cpu-vendor": "", "--cpu-without": ""}
"""Undoes every claim."""


def claim(cluster: Cluster, host: str, **claimed: str) -> None:
    """`host` claims this and nothing else from now on."""
    options = ITSELF | {f"--{key.replace('_', '-')}": value for key, value in claimed.items()}
    cluster.zv("lab", "host-set", host, *(word for option in options.items() for word in option))


@pytest.fixture
def claims(cluster: Cluster, vm: str) -> Iterator[None]:
    """Afterwards all hosts are themselves again, and the cluster has seen it."""
    yield
    network = cluster.vm(VM)["networks"][0]
    for host in (TARGET, OTHER):
        claim(cluster, host, vlan=f"{network}=0")
    for host in (TARGET, OTHER):
        cluster.wait(f"{host} to be fit again", partial(is_fit, cluster, host))


def refusals(cluster: Cluster, host: str) -> list[dict[str, Any]]:
    """The findings that stand against a move there; all checks have been made."""
    plan = cluster.api("POST", f"/vms/{VM}/migration-plan", {"target": host})
    assert {"L1", "L2", "L3", "L4", "L5", "L6"} <= {f["code"] for f in plan["findings"]}
    return [f for f in plan["findings"] if f["level"] == "refused"]


def is_fit(cluster: Cluster, host: str) -> bool:
    return refusals(cluster, host) == []


def assert_refused(cluster: Cluster, codes: str, *words: str) -> None:
    """A move to TARGET is refused for exactly these, told in these words, and leaves everything as it is."""
    qemus, lease = cluster.qemus(VM), cluster.lease(VM)

    def found() -> bool:
        findings = refusals(cluster, TARGET)
        causes = "; ".join(f["cause"] for f in findings)
        assert all(word in causes for word in words), causes
        return " ".join(sorted(f["code"] for f in findings)) == codes

    cluster.wait(f"{codes} {words} to be found", found, 15.0)
    dry = cluster.zv("vm", "migrate", VM, "--to", TARGET, "--dry-run", check=False)
    assert dry.returncode == 1, dry.stdout
    said = cluster.refused("vm", "migrate", VM, "--to", TARGET)
    for finding in refusals(cluster, TARGET):
        assert finding["next_step"]
        for told in (said, dry.stdout):
            assert f"{finding['cause']}; {finding['next_step']}" in " ".join(told.split()), told
    assert (cluster.qemus(VM), cluster.lease(VM)) == (qemus, lease)
    assert cluster.notes(VM) == []
    assert cluster.taps(TARGET) == []
    assert cluster.host(TARGET)["reserved_bytes"] == 0


@pytest.mark.usefixtures("claims")
def test_each_misfit_of_the_target_is_its_own_finding(cluster: Cluster) -> None:
    network = cluster.vm(VM)["networks"][0]
    claim(cluster, TARGET, link_mbit="100")
    assert_refused(cluster, "L3", f"the link of {TARGET} runs at 100 Mbit/s")
    claim(cluster, TARGET, cpu_vendor="OtherVendor")
    assert_refused(cluster, "L4", f"{TARGET} one of OtherVendor; vendors never mix")
    claim(cluster, TARGET, cpu_without="cx16,sse4_2")
    assert_refused(cluster, "L4", "cx16, sse4_2", f"that {TARGET} lacks")
    claim(cluster, TARGET, vlan=f"{network}=20")
    assert_refused(cluster, "L5", f"network {network} is VLAN 20 on {TARGET}")
    claim(cluster, TARGET, vlan=f"{network}=0", cores="1")
    assert_refused(cluster, "L6", f"has 2 cpus, {TARGET} only 1 cores")
    claim(cluster, TARGET, memory="128M")
    assert_refused(cluster, "L6", f"needs 0.19 GiB of memory, {TARGET} has 0.12 GiB left")


@pytest.mark.usefixtures("claims")
def test_everything_wrong_at_once_is_told_at_once(cluster: Cluster) -> None:
    network = cluster.vm(VM)["networks"][0]
    claim(cluster, TARGET, link_mbit="100", cpu_vendor="OtherVendor", cores="1", vlan=f"{network}=20")
    cluster.zv("lab", "storage", TARGET, "cut")
    try:
        assert_refused(cluster, "L1 L3 L4 L5 L6")
    finally:
        cluster.zv("lab", "storage", TARGET, "heal")
    # Without --to the other host is taken; with no fit host at all, each is told with its cause.
    assert cluster.zv_json("vm", "migrate", VM, "--dry-run")["target"] == OTHER
    claim(cluster, OTHER, memory="128M")
    cluster.wait("L6 to be found", lambda: refusals(cluster, OTHER), 15.0)
    said = cluster.refused("vm", "migrate", VM)
    assert TARGET in said
    assert f"{OTHER} lacks" in said
    assert list(cluster.qemus(VM)) == [SOURCE]


@pytest.mark.usefixtures("claims")
def test_memory_promised_to_other_vms_is_not_free(cluster: Cluster) -> None:
    """500 MiB are enough for one vm of 256 MiB and its overhead, not for this one besides."""
    cluster.zv("vm", "create", "filler", "--memory", "256M", "--image", "lab-guest", "--no-network")
    try:
        claim(cluster, TARGET, memory="500M")
        cluster.wait("the claim to be seen", lambda: cluster.host(TARGET)["memory_total_bytes"] == 500 << 20)
        cluster.zv("vm", "start", "filler", "--on", TARGET)
        assert_refused(cluster, "L6", "of memory")
    finally:
        cluster.remove("filler")


def test_a_target_that_lost_the_datastore(cluster: Cluster, vm: str) -> None:
    cluster.zv("lab", "storage", TARGET, "cut")
    try:
        assert_refused(cluster, "L1", f"{TARGET} does not reach datastore")
    finally:
        cluster.zv("lab", "storage", TARGET, "heal")


def test_vms_that_do_not_run_do_not_migrate(cluster: Cluster) -> None:
    cluster.zv("vm", "create", "off", "--memory", "128M", "--no-network")
    try:
        assert "off is stopped, not running" in cluster.refused("vm", "migrate", "off", "--to", TARGET)
    finally:
        cluster.remove("off")
