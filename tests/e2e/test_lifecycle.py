"""A vm's life through the CLI: made, started, looked at, changed, ended, forgotten, found again, deleted."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import ZV, Cluster
from zugvogel.lab import guest

pytestmark = pytest.mark.lab

VM = "life"
STATES = {"running", "stopped", "suspended", "frozen", "failed", "unknown"}


@pytest.fixture(scope="module")
def vm(cluster: Cluster) -> Iterator[str]:
    """Diskless, stopped at first; the tests start and end it."""
    cluster.zv("vm", "create", VM, "--memory", "128M", "--image", "lab-guest", "--description", "for tests")
    yield VM
    cluster.remove(VM)


@pytest.fixture
def stopped(cluster: Cluster, vm: str) -> str:
    cluster.end(vm)
    return vm


def test_made_started_shown_and_stopped_by_its_button(cluster: Cluster, stopped: str) -> None:
    before = cluster.zv_json("vm", "show", VM)
    assert (before["name"], before["state"], before["host"]) == (VM, "stopped", None)
    assert before["mac"].startswith("52:54:00:")

    started = cluster.zv_json("vm", "start", VM, "--on", "host2")
    assert started["state"] == "done"
    assert "is running" in cluster.refused("vm", "start", VM)
    cluster.wait("its address", lambda: cluster.zv_json("vm", "show", VM)["addresses"])
    shown = cluster.zv_json("vm", "show", VM)
    assert (shown["name"], shown["state"], shown["host"]) == (VM, "running", "host2")
    assert shown["mac"] == before["mac"]
    assert shown["addresses"][0].startswith("198.51.100.")
    listed = {v["name"]: v for v in cluster.zv_json("vm", "list")}
    assert listed[VM]["state"] in STATES
    assert listed[VM]["addresses"] == shown["addresses"]
    for told in (cluster.zv("vm", "list").stdout, cluster.zv("vm", "show", VM).stdout):
        assert VM in told
        assert "running" in told
        assert "host2" in told
    cluster.wait("the guest to answer", lambda: cluster.guest(VM))

    assert "is stopped" in cluster.zv("vm", "stop", VM, "--timeout", "60").stdout
    after = cluster.zv_json("vm", "show", VM)
    assert (after["state"], after["host"], after["addresses"]) == ("stopped", None, [])
    assert cluster.qemus(VM) == {}
    assert cluster.taps("host2") == []
    assert cluster.lease(VM)["state"] == "released"


def test_reset_boots_anew_and_kill_ends_at_once(cluster: Cluster, vm: str) -> None:
    first = cluster.boot(VM, "host1")
    pid = cluster.qemus(VM)
    cluster.zv("vm", "reset", VM)
    cluster.wait("another boot", lambda: cluster.guest(VM)["boot_id"] != first["boot_id"])
    assert cluster.qemus(VM) == pid
    assert "is off" in cluster.zv("vm", "kill", VM).stdout
    assert cluster.qemus(VM) == {}
    assert cluster.zv_json("vm", "show", VM)["state"] == "stopped"
    for what in ("kill", "stop", "reset"):
        assert f"{VM} is stopped, not running" in cluster.refused("vm", what, VM)


def test_set_takes_effect_at_the_next_start(cluster: Cluster, stopped: str) -> None:
    cluster.zv("vm", "set", VM, "--memory", "192M", "--cpus", "2", "--description", "changed")
    try:
        shown = cluster.zv_json("vm", "show", VM)
        assert (shown["memory_bytes"], shown["cpus"]) == (192 << 20, 2)
        assert shown["definition"]["description"] == "changed"
        assert (128 << 20) < cluster.boot(VM, "host1")["memory"]["total_bytes"] < (192 << 20)
        told = cluster.zv("vm", "set", VM, "--memory", "128M", "--cpus", "1").stdout
        assert "next start" in told
        assert cluster.zv_json("vm", "show", VM)["memory_bytes"] == 128 << 20
        assert cluster.guest(VM)["memory"]["total_bytes"] > 128 << 20
    finally:
        cluster.end(VM)
        cluster.zv("vm", "set", VM, "--memory", "128M", "--cpus", "1")


def test_a_definition_edited_by_hand_is_taken_and_shown_at_the_next_start(cluster: Cluster, stopped: str) -> None:
    file = cluster.layout.shared / VM / "vm.toml"
    before = file.read_text()
    try:
        file.write_text(before.replace(f"memory_bytes = {128 << 20}", f"memory_bytes = {192 << 20}"))
        assert (128 << 20) < cluster.boot(VM, "host1")["memory"]["total_bytes"] < (192 << 20)
        cluster.wait("it to be shown", lambda: cluster.vm(VM)["memory_bytes"] == 192 << 20)
        assert cluster.zv_json("vm", "show", VM)["definition"]["memory_bytes"] == 192 << 20
    finally:
        cluster.end(VM)
        cluster.zv("vm", "set", VM, "--memory", "128M")
    assert cluster.zv_json("vm", "show", VM)["memory_bytes"] == 128 << 20


def test_log_and_console(cluster: Cluster, vm: str) -> None:
    """What is typed into `zv vm console` reaches the guest's shell, and its answer comes back."""
    cluster.boot(VM, "host1")
    done = subprocess.run(
        [*ZV, "vm", "console", VM],
        input="\necho it-is-$((40+2))\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "it-is-42" in done.stdout
    assert "host1" in done.stderr
    log = cluster.zv_json("vm", "log", VM)
    assert "it-is-42" in log["serial"]
    assert "it-is-42" in cluster.zv("vm", "log", VM, "--lines", "20").stdout
    cluster.end(VM)
    assert "start it: zv vm start" in cluster.refused("vm", "console", VM)


def test_forgotten_and_found_again(cluster: Cluster, stopped: str) -> None:
    before = cluster.zv_json("vm", "show", VM)
    cluster.zv("vm", "start", VM, "--on", "host1")
    assert "stop it first" in cluster.refused("vm", "unregister", VM)
    assert "stop it first" in cluster.refused("vm", "delete", VM, "--yes")
    cluster.end(VM)
    cluster.zv("vm", "unregister", VM)
    assert VM not in [v["name"] for v in cluster.zv_json("vm", "list")]
    assert (cluster.layout.shared / VM / "vm.toml").exists()
    assert VM in cluster.refused("vm", "show", VM)
    cluster.zv("vm", "register", VM)
    assert cluster.zv_json("vm", "show", VM)["mac"] == before["mac"]
    assert "taken" in cluster.refused("vm", "register", VM)
    assert cluster.zv_json("vm", "start", VM)["state"] == "done"


@pytest.fixture
def disks(cluster: Cluster, tmp_path: Path) -> Iterator[str]:
    """Two disks of both formats, booted by kernel, initrd and command line, with an address of its own choice."""
    image = guest.build()
    name = "disks"
    cluster.zv(
        *("vm", "create", name, "--memory", "128M", "--disk", "16M", "--disk", "24M,raw"),
        *("--kernel", str(image.kernel), "--initrd", str(image.initrd)),
        *("--append", f"{image.append} zv.ip=198.51.100.77/24"),
    )
    yield name
    cluster.remove(name)


def _image_facts(path: Path) -> dict[str, Any]:
    out = subprocess.run(
        ["qemu-img", "info", "-U", "--output=json", str(path)], capture_output=True, check=True
    ).stdout
    found: dict[str, Any] = json.loads(out)
    return found


def test_disks_keep_what_is_written_through_a_live_migration(cluster: Cluster, disks: str) -> None:
    folder = cluster.layout.shared / disks
    shown = cluster.zv_json("vm", "show", disks)["definition"]["disks"]
    assert [(d["format"], d["size_bytes"]) for d in shown] == [("qcow2", 16 << 20), ("raw", 24 << 20)]
    for disk in shown:
        facts = _image_facts(folder / disk["file"])
        assert (facts["format"], facts["virtual-size"]) == (disk["format"], disk["size_bytes"])

    cluster.boot(disks, "host1")
    assert cluster.vm(disks)["addresses"] == ["198.51.100.77"]
    cluster.guest(disks, "/load?disk=1&disk_mb=8&rate_mb_s=8")
    cluster.wait("blocks", lambda: cluster.guest(disks)["disk"]["blocks_written"] > 500)
    cluster.zv("vm", "migrate", disks, "--to", "host2")
    written = cluster.guest(disks)["disk"]["blocks_written"]
    cluster.wait("more blocks", lambda: cluster.guest(disks)["disk"]["blocks_written"] > written + 500)
    verified = cluster.guest(disks, "/load?disk=0&verify=1")
    assert verified["verify"]["disk_blocks"] > 0
    assert verified["verify"]["disk_errors"] == 0
    assert (verified["disk"]["errors"], verified["disk"]["io_errors"]) == (0, 0)

    cluster.zv("vm", "stop", disks, "--timeout", "60")
    check = subprocess.run(["qemu-img", "check", str(folder / shown[0]["file"])], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout
    cluster.zv("vm", "delete", disks, "--yes")
    assert not folder.exists()


def test_an_image_file_becomes_the_first_disk(cluster: Cluster, tmp_path: Path) -> None:
    image = tmp_path / "system.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "8M"], check=True)
    try:
        cluster.zv("vm", "create", "imported", "--memory", "128M", "--disk", "20M", "--image", str(image))
        (disk,) = cluster.zv_json("vm", "show", "imported")["definition"]["disks"]
        assert disk["size_bytes"] == 20 << 20
        facts = _image_facts(cluster.layout.shared / "imported" / disk["file"])
        assert facts["virtual-size"] == 20 << 20
        assert "backing-filename" not in facts
    finally:
        cluster.remove("imported")


NEW = ("vm", "create", "new", "--memory", "128M")
BAD_INPUT = {
    "unknown vm": (("vm", "show", "nobody"), 1, "nobody"),
    "unknown vm started": (("vm", "start", "nobody"), 1, "nobody"),
    "unknown vm deleted": (("vm", "delete", "nobody", "--yes"), 1, "nobody"),
    "unknown vm migrated": (("vm", "migrate", "nobody"), 1, "nobody"),
    "unknown host": (("vm", "start", VM, "--on", "host9"), 1, "host9"),
    "unknown target": (("vm", "migrate", VM, "--to", "host9"), 1, ""),
    "unknown image": ((*NEW, "--image", "no-such"), 1, "no-such"),
    "unknown kernel": ((*NEW, "--kernel", "/no/such"), 1, "/no/such"),
    "unknown network": ((*NEW, "--network", "nowhere"), 1, "nowhere"),
    "unknown datastore": ((*NEW, "--datastore", "nowhere"), 1, "nowhere"),
    "unknown folder": (("vm", "register", "nobody"), 1, "nobody"),
    "the name is taken": (("vm", "create", VM, "--memory", "128M"), 1, VM),
    "no size": (("vm", "create", "new", "--memory", "much"), 2, "much"),
    "too little memory": (("vm", "create", "new", "--memory", "1M"), 2, "memory"),
    "no disk size": ((*NEW, "--disk", "big"), 2, "big"),
    "disk of no size": ((*NEW, "--disk", "0"), 2, "disk"),
    "unknown disk format": ((*NEW, "--disk", "1G,vmdk"), 2, "format"),
    "no cpus": ((*NEW, "--cpus", "0"), 2, "cpus"),
    "name is a path": (("vm", "create", "../new", "--memory", "128M"), 2, "name"),
    "upper case name": (("vm", "create", "New", "--memory", "128M"), 2, "name"),
    "initrd alone": ((*NEW, "--initrd", "/etc/hostname"), 2, "kernel"),
    "unknown cpu model": ((*NEW, "--cpu-model", "z80"), 2, "z80"),
    "no mac": ((*NEW, "--mac", "nonsense"), 2, "mac"),
    "set to nothing": (("vm", "set", VM, "--memory", "0"), 2, "memory"),
    "set of nobody": (("vm", "set", "nobody", "--cpus", "2"), 1, "nobody"),
    "unknown command": (("vm", "explode", VM), 2, "explode"),
    "no name": (("vm", "start"), 2, "NAME"),
}


def test_bad_input_is_told_plainly_and_changes_nothing(cluster: Cluster, stopped: str) -> None:
    folders = sorted(p.name for p in cluster.layout.shared.iterdir())
    vms = cluster.zv_json("vm", "list")
    for case, (arguments, code, told) in BAD_INPUT.items():
        assert told.lower() in cluster.refused(*arguments, code=code).lower(), case
    assert cluster.zv_json("vm", "list") == vms
    assert sorted(p.name for p in cluster.layout.shared.iterdir()) == folders


def test_a_mac_belongs_to_one_vm(cluster: Cluster, stopped: str) -> None:
    mac = cluster.zv_json("vm", "show", VM)["mac"]
    assert "taken" in cluster.refused(*NEW, "--mac", mac)
    assert "new" not in [v["name"] for v in cluster.zv_json("vm", "list")]
    assert not (cluster.layout.shared / "new").exists()


def test_a_vm_with_a_seed_and_with_what_was_added_later_starts_and_moves(cluster: Cluster, tmp_path: Path) -> None:
    name = "grown"
    user_data = tmp_path / "user-data"
    user_data.write_text("#cloud-config\nhostname: grown\n")
    try:
        cluster.zv(
            *("vm", "create", name, "--memory", "128M", "--image", "lab-guest", "--disk", "64M"),
            *("--cloud-init", str(user_data)),
        )
        before = cluster.boot(name, "host1")
        assert "running" in cluster.refused("vm", "set", name, "--add-disk", "64M")
        cluster.zv("vm", "migrate", name, "--to", "host2")
        assert cluster.guest(name)["boot_id"] == before["boot_id"]
        cluster.end(name)
        cluster.zv("vm", "set", name, "--add-disk", "64M", "--add-network", "lan", "--memory", "160M")
        definition = cluster.zv_json("vm", "show", name)["definition"]
        assert [d["file"] for d in definition["disks"]] == ["disk0", "disk1"]
        assert definition["cloud_init"] == "seed.iso"
        assert len({n["mac"] for n in definition["nics"]}) == 2
        grown = cluster.boot(name, "host1")
        assert grown["memory"]["total_bytes"] > before["memory"]["total_bytes"]
        cluster.zv("vm", "migrate", name, "--to", "host2")
        assert cluster.guest(name)["boot_id"] == grown["boot_id"]
        cluster.zv("vm", "migrate", name, "--to", "host1", "--mode", "quick")
        assert cluster.guest(name)["boot_id"] == grown["boot_id"]
        assert cluster.assert_runs_once(name) == "host1"
    finally:
        cluster.remove(name)
