"""Suspend, resume, discard and quick migration as a user sees them, with a real guest asked from outside."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

import pytest

from tests.e2e.cluster import Cluster

pytestmark = pytest.mark.lab

VM = "saved"


@pytest.fixture
def vm(cluster: Cluster) -> Iterator[str]:
    cluster.create(VM, disks=[{"size_bytes": 64 << 20}])
    cluster.boot(VM, "host1")
    yield VM
    if cluster.vm(VM)["state"] == "suspended":
        cluster.zv("vm", "discard", VM, "--yes")
    cluster.remove(VM)


def test_a_suspended_vm_goes_on_elsewhere(cluster: Cluster, vm: str) -> None:
    before = cluster.guest(vm)
    report = json.loads(cluster.zv("vm", "suspend", vm, "--json").stdout)
    assert (report["mode"], report["result"]) == ("quick", "suspended")
    cluster.assert_suspended(vm)
    assert "resume" in cluster.refused("vm", "start", vm)
    assert "suspended already" in cluster.refused("vm", "suspend", vm)
    assert "discard" in cluster.refused("vm", "delete", vm, "--yes")
    assert "suspended" in cluster.refused("vm", "migrate", vm)
    assert "suspended" in cluster.refused("vm", "set", vm, "--add-disk", "64M")
    report = json.loads(cluster.zv("vm", "resume", vm, "--on", "host3", "--json").stdout)
    assert report["target"] == "host3"
    after = cluster.guest(vm)
    assert after["boot_id"] == before["boot_id"]
    assert after["counter"] > before["counter"]
    assert cluster.assert_runs_once(vm) == "host3"
    assert "not suspended" in cluster.refused("vm", "resume", vm)
    assert "not suspended" in cluster.refused("vm", "discard", vm, "--yes")


@pytest.mark.parametrize("how", ["stop-first", "streamed"])
def test_a_quick_migration_keeps_the_guest(cluster: Cluster, vm: str, how: str) -> None:
    before = cluster.guest(vm, "/load?disk=1&disk_mb=8&rate_mb_s=8")
    plan = json.loads(
        cluster.zv("vm", "migrate", vm, "--mode", "quick", "--to", "host2", "--dry-run", "--json").stdout
    )
    assert plan["mode"] == "quick"
    assert plan["forecast"]["size_bytes"] > 0
    assert plan["forecast"]["outage_s"] > 0
    assert plan["forecast"]["is_streamed"]
    done = cluster.zv("vm", "migrate", vm, "--mode", "quick", f"--{how}", "--to", "host2", "--json")
    report = json.loads(done.stdout)
    assert (report["mode"], report["result"], report["target"]) == ("quick", "moved", "host2")
    assert report["is_streamed"] == (how == "streamed")
    stream = ["stream"] if report["is_streamed"] else []
    names = ["prepare", *stream, "suspend", "durable", "hand-over", "load"]
    assert [p["name"] for p in report["phases"]][: len(names)] == names
    assert 0 < report["outage_ms"] < report["total_s"] * 1000
    assert report["outage_ms"] == report["downtime_ms"]
    assert all(check["is_verified"] for check in report["network"])
    after = cluster.guest(vm)
    assert after["boot_id"] == before["boot_id"]
    assert after["counter"] > before["counter"]
    assert cluster.assert_runs_once(vm) == "host2"
    live = json.loads(cluster.zv("vm", "migrate", vm, "--to", "host1", "--json").stdout)
    assert live["result"] == "moved"
    after = cluster.guest(vm, "/load?disk=0&verify=1")
    assert after["boot_id"] == before["boot_id"]
    assert after["verify"]["disk_blocks"] > 0
    assert (after["verify"]["disk_errors"], after["disk"]["errors"], after["disk"]["io_errors"]) == (0, 0, 0)


def test_a_busy_guest_is_streamed_whole(cluster: Cluster, vm: str) -> None:
    """Every page it writes meanwhile is checked by the guest itself."""
    before = cluster.guest(vm, "/load?dirty_mb_s=20&working_set_mb=24")
    done = cluster.zv("vm", "migrate", vm, "--mode", "quick", "--streamed", "--to", "host2", "--json")
    report = json.loads(done.stdout)
    assert (report["result"], report["is_streamed"]) == ("moved", True)
    assert len(report["rounds"]) >= 1
    assert report["forecast"]["dirty_bps"] > 0
    after = cluster.guest(vm, "/load?dirty_mb_s=0&verify=1")
    assert after["boot_id"] == before["boot_id"]
    assert after["verify"]["memory_pages"] > 0
    assert after["verify"]["memory_errors"] == 0
    assert cluster.assert_runs_once(vm) == "host2"


def test_compressed_memory_is_smaller_and_goes_on_anywhere(cluster: Cluster, vm: str) -> None:
    before = cluster.guest(vm)
    sizes = {}
    for how in ((), ("--compress",)):
        report = json.loads(cluster.zv("vm", "suspend", vm, *how, "--json").stdout)
        assert report["is_compressed"] == bool(how)
        sizes[how] = report["transferred_bytes"]
        cluster.zv("vm", "resume", vm, "--on", "host3")
        after = cluster.guest(vm)
        assert after["boot_id"] == before["boot_id"]
        assert cluster.assert_runs_once(vm) == "host3"
    assert sizes["--compress",] < 0.7 * sizes[()]


def test_the_guests_clock_is_right_after_a_resume_where_it_has_an_agent(cluster: Cluster) -> None:
    behind_s = 3.0
    vms = {"lab-guest": "clockless", "lab-guest-agent": "clocked"}
    try:
        for image, name in vms.items():
            cluster.create(name, image=image)
            cluster.boot(name, "host1")
            cluster.zv("vm", "suspend", name)
        time.sleep(behind_s)
        for name in vms.values():
            cluster.zv("vm", "resume", name)
        cluster.wait("the clock to be right", lambda: _clock_error_s(cluster, vms["lab-guest-agent"]) < 1.0, 10.0)
        assert _clock_error_s(cluster, vms["lab-guest"]) > behind_s - 0.5
    finally:
        for name in vms.values():
            cluster.remove(name)


def _clock_error_s(cluster: Cluster, vm: str) -> float:
    return abs(time.time() - float(cluster.guest(vm)["clock_s"]))


def test_vms_of_a_host_are_saved_one_at_a_time(cluster: Cluster, vm: str) -> None:
    other, step = "other", "source.stopped"
    cluster.create(other)
    try:
        cluster.boot(other, "host1")
        cluster.hold("host1", step)
        first = str(cluster.api("POST", f"/vms/{vm}/suspend")["id"])
        cluster.wait("the first to be stopped", lambda: cluster.reached("host1", step))
        second = str(cluster.api("POST", f"/vms/{other}/suspend")["id"])
        cluster.wait(
            "the second to wait", lambda: cluster.api("GET", f"/tasks/{second}")["progress"]["phase"] == "waiting"
        )
        cluster.guest(other)  # it runs meanwhile
        cluster.release("host1", step)
        assert {cluster.task_end(t)["state"] for t in (first, second)} == {"done"}
        cluster.assert_suspended(vm)
        cluster.assert_suspended(other)
        cluster.zv("vm", "discard", other, "--yes")
    finally:
        cluster.release("host1", step)
        cluster.remove(other)


def test_one_that_waits_for_its_turn_can_be_cancelled(cluster: Cluster, vm: str) -> None:
    other, step = "other", "source.stopped"
    cluster.create(other)
    try:
        before = cluster.boot(other, "host1")
        cluster.hold("host1", step)
        first = str(cluster.api("POST", f"/vms/{vm}/suspend")["id"])
        cluster.wait("the first to be stopped", lambda: cluster.reached("host1", step))
        second = cluster.quick(other, "host2")
        cluster.wait(
            "the second to wait", lambda: cluster.api("GET", f"/tasks/{second}")["progress"]["phase"] == "waiting"
        )
        cluster.api("POST", f"/tasks/{second}/cancel")
        assert cluster.task_end(second)["state"] == "cancelled"
        assert cluster.guest(other)["boot_id"] == before["boot_id"]
        cluster.release("host1", step)
        assert cluster.task_end(first)["state"] == "done"
        assert cluster.assert_runs_once(other) == "host1"
    finally:
        cluster.release("host1", step)
        cluster.remove(other)


def test_discarded_memory_is_gone_and_the_vm_boots_fresh(cluster: Cluster, vm: str) -> None:
    before = cluster.guest(vm)
    cluster.zv("vm", "suspend", vm)
    cluster.zv("vm", "discard", vm, "--yes")
    assert cluster.saved(vm) == []
    cluster.wait("it to be stopped", lambda: cluster.vm(vm)["state"] == "stopped")
    assert cluster.boot(vm, "host2")["boot_id"] != before["boot_id"]


def test_a_vm_whose_disk_was_changed_is_not_resumed(cluster: Cluster, vm: str) -> None:
    cluster.zv("vm", "suspend", vm)
    disk = cluster.layout.shared / vm / "disk0"
    times = disk.stat()
    disk.touch()
    assert "was changed" in cluster.refused("vm", "resume", vm)
    cluster.assert_suspended(vm)
    os.utime(disk, ns=(times.st_atime_ns, times.st_mtime_ns))
    cluster.zv("vm", "resume", vm)
    cluster.assert_runs_once(vm)


def test_a_damaged_stream_is_not_run(cluster: Cluster, vm: str) -> None:
    """Whatever of it QEMU has loaded by then; it goes on once the file is as it was."""
    before = cluster.guest(vm)
    cluster.zv("vm", "suspend", vm, "--compress")
    memory = next((cluster.layout.shared / vm).glob("memory.*.ram"))
    stored = memory.read_bytes()
    place = next(at for at in range(len(stored) // 2, len(stored)) if stored[at])  # what pads a frame is zeros
    whole = stored[place]
    for byte, is_damaged in ((whole ^ 1, True), (whole, False)):
        with memory.open("r+b") as file:
            file.seek(place)
            file.write(bytes([byte]))
        if is_damaged:
            assert "damaged" in cluster.refused("vm", "resume", vm)
            cluster.assert_suspended(vm)
    cluster.zv("vm", "resume", vm)
    cluster.assert_runs_once(vm)
    assert cluster.guest(vm)["boot_id"] == before["boot_id"]


def test_torn_memory_is_not_resumed(cluster: Cluster, vm: str) -> None:
    cluster.zv("vm", "suspend", vm)
    memory = next((cluster.layout.shared / vm).glob("memory.*.ram"))
    with memory.open("r+b") as file:
        file.truncate(memory.stat().st_size - 4096)
    said = cluster.refused("vm", "resume", vm)
    assert "not what was saved" in said
    assert "zv vm discard" in said
    cluster.assert_suspended(vm)


def test_a_suspended_vm_survives_the_power_loss_of_every_host(cluster: Cluster, vm: str) -> None:
    before = cluster.guest(vm)
    cluster.zv("vm", "suspend", vm)
    for host in cluster.hosts:
        cluster.zv("lab", "power", host, "off")
    for host in cluster.hosts:
        cluster.zv("lab", "power", host, "on")
    cluster.all_live()
    cluster.assert_suspended(vm)
    cluster.zv("vm", "resume", vm, "--on", "host2")
    after = cluster.guest(vm)
    assert after["boot_id"] == before["boot_id"]
    assert cluster.assert_runs_once(vm) == "host2"
