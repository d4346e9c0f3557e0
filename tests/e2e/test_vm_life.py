"""A vm's life through the CLI where it is less plain: the names scripts rely on, a guest that ignores its button,
disks and definitions that outlive being forgotten, mistakes. The plain course is in test_lifecycle."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.cluster import ZV, Cluster

pytestmark = pytest.mark.lab

VM, DEAF, NAMELESS = "keeper", "deaf", "stray"
VERDICTS = {"live", "partitioned", "isolated", "storage-lost", "failed"}
STATES = {"running", "stopped", "suspended", "frozen", "failed", "unknown"}


@pytest.fixture(scope="module")
def made(cluster: Cluster) -> Iterator[str]:
    cluster.zv("vm", "create", VM, "--memory", "128M", "--image", "lab-guest", "--disk", "16M")
    yield VM
    cluster.remove(VM)


@pytest.fixture
def stopped(cluster: Cluster, made: str) -> str:
    cluster.end(made)
    return made


@pytest.fixture
def deaf(cluster: Cluster) -> Iterator[str]:
    """Runs on host2 and boots nothing: its firmware does not look at the power button."""
    cluster.zv("vm", "create", DEAF, "--memory", "64M", "--no-network")
    cluster.zv("vm", "start", DEAF, "--on", "host2")
    yield DEAF
    cluster.remove(DEAF)


def _one_line(cluster: Cluster, *arguments: str, code: int = 1) -> str:
    said = cluster.refused(*arguments, code=code)
    assert len(said.splitlines()) == 1, said
    assert said.startswith("zv: ")
    return said


def _all(cluster: Cluster) -> tuple[Any, list[str]]:
    """The vms as told, and everything that lies in their datastore but beats."""
    shared = cluster.layout.shared
    files = [str(p.relative_to(shared)) for p in shared.rglob("*")]
    return cluster.zv_json("vm", "list"), sorted(f for f in files if not f.startswith(".zugvogel"))


def _as_scripts_read(vm: dict[str, Any]) -> dict[str, Any]:
    """The names that scripts rely on, each of the right kind."""
    told = {key: vm[key] for key in ("name", "host", "state", "addresses", "mac")}
    assert vm["state"] in STATES
    assert isinstance(vm["addresses"], list)
    assert (vm["host"] is None) == (vm["state"] != "running")
    return told


def test_the_names_that_scripts_rely_on(cluster: Cluster, stopped: str, deaf: str) -> None:
    hosts = cluster.zv_json("host", "list")
    assert [h["name"] for h in hosts] == cluster.hosts
    for host, of_lab in zip(hosts, cluster.layout.load().hosts, strict=True):
        assert (host["role"], host["verdict"], host["address"]) == ("primary", "live", of_lab.address)
        assert host["verdict"] in VERDICTS
    listed = {vm["name"]: _as_scripts_read(vm) for vm in cluster.zv_json("vm", "list")}
    for name in (stopped, deaf):
        assert _as_scripts_read(cluster.zv_json("vm", "show", name)) == listed[name]
    assert listed[stopped]["mac"]
    assert listed[deaf] == {"name": deaf, "host": "host2", "state": "running", "addresses": [], "mac": ""}


def test_a_guest_that_ignores_its_button_is_told_and_left_alone(cluster: Cluster, deaf: str) -> None:
    qemus = cluster.qemus(deaf)
    said = _one_line(cluster, "vm", "stop", deaf, "--timeout", "1")
    assert "still running" in said
    assert f"zv vm kill {deaf}" in said
    assert cluster.qemus(deaf) == qemus
    assert cluster.zv_json("vm", "show", deaf)["state"] == "running"
    cluster.zv("vm", "reset", deaf)
    assert "disks" in _one_line(cluster, "vm", "set", deaf, "--add-disk", "8M")
    cluster.zv("vm", "kill", deaf)
    assert cluster.qemus(deaf) == {}
    assert cluster.zv_json("vm", "show", deaf)["state"] == "stopped"


def test_what_is_on_its_disk_outlives_stop_and_being_forgotten(cluster: Cluster, stopped: str) -> None:
    before = cluster.zv_json("vm", "show", VM)
    cluster.boot(VM, "host1")
    cluster.guest(VM, "/load?disk=1&disk_mb=4&rate_mb_s=8")
    cluster.wait("blocks", lambda: cluster.guest(VM)["disk"]["blocks_written"] > 200)
    written = cluster.guest(VM, "/load?disk=0")["disk"]["last_sequence"]
    cluster.zv("vm", "stop", VM, "--timeout", "60")
    cluster.zv("vm", "set", VM, "--add-disk", "8M,raw")
    cluster.zv("vm", "unregister", VM)
    cluster.zv("vm", "register", VM)

    shown = cluster.zv_json("vm", "show", VM)
    assert (shown["state"], shown["mac"]) == ("stopped", before["mac"])
    assert shown["definition"]["uuid"] == before["definition"]["uuid"]
    assert [(d["format"], d["size_bytes"]) for d in shown["definition"]["disks"]] == [
        ("qcow2", 16 << 20),
        ("raw", 8 << 20),
    ]
    cluster.boot(VM, "host3")
    adopted = cluster.guest(VM, "/load?disk=1&disk_mb=4")["disk"]
    assert adopted["last_sequence"] >= written > 200
    verified = cluster.guest(VM, "/load?disk=0&verify=1")
    assert verified["verify"]["disk_blocks"] > 200
    assert verified["disk"]["errors"] == 0


def test_its_definition_may_be_edited_by_hand(cluster: Cluster, stopped: str) -> None:
    """As the head of vm.toml says. A mistake is told with its line, and nothing is started."""
    file = cluster.layout.shared / VM / "vm.toml"
    text = file.read_text()
    try:
        file.write_text(text.replace("cpus = 1", "cpus = 0"))
        line = next(number for number, words in enumerate(text.splitlines(), 1) if words == "cpus = 1")
        said = cluster.refused("vm", "start", VM, code=2)
        assert f"vm.toml of {VM}, line {line}: cpus" in said
        assert cluster.qemus(VM) == {}
        file.write_text(text.replace("cpus = 1", "cpus = 2"))
        cluster.zv("vm", "start", VM, "--on", "host1")
        assert cluster.zv_json("vm", "show", VM)["cpus"] == 2
    finally:
        cluster.end(VM)
        file.write_text(text)


def test_a_folder_that_is_no_vms_is_not_registered(cluster: Cluster) -> None:
    folder = cluster.layout.shared / NAMELESS
    folder.mkdir()
    file = folder / "vm.toml"
    try:
        assert NAMELESS in _one_line(cluster, "vm", "register", NAMELESS)
        for text, told in (("cpus: 2", "no TOML"), ("cpus = 2\n", "name"), ("", "name")):
            file.write_text(text)
            said = _one_line(cluster, "vm", "register", NAMELESS, code=2)
            assert f"vm.toml of {NAMELESS}" in said
            assert told in said
        assert [p.name for p in folder.iterdir()] == ["vm.toml"]
        assert NAMELESS not in [vm["name"] for vm in cluster.zv_json("vm", "list")]
        assert NAMELESS in _one_line(cluster, "vm", "create", NAMELESS, "--memory", "128M")
        assert file.read_text() == ""
    finally:
        file.unlink(missing_ok=True)
        folder.rmdir()


def test_deleted_only_when_it_is_meant_and_then_wholly(cluster: Cluster) -> None:
    name, folder = "passing", cluster.layout.shared / "passing"
    cluster.zv("vm", "create", name, "--memory", "128M", "--disk", "8M")
    mac = cluster.zv_json("vm", "show", name)["mac"]
    try:
        for answer in ("n\n", ""):
            done = subprocess.run(
                [*ZV, "vm", "delete", name], input=answer, capture_output=True, text=True, timeout=60, check=False
            )
            assert (done.returncode, done.stdout) == (1, ""), done
            assert name in done.stderr
        assert (folder / "vm.toml").exists()
        assert cluster.zv_json("vm", "delete", name, "--yes")["state"] == "done"
        assert not folder.exists()
        assert name in _one_line(cluster, "vm", "show", name)
        assert name in _one_line(cluster, "vm", "register", name)
        cluster.zv("vm", "create", name, "--memory", "64M", "--mac", mac)
        anew = cluster.zv_json("vm", "show", name)
        assert (anew["mac"], anew["memory_bytes"], anew["definition"]["disks"]) == (mac, 64 << 20, [])
    finally:
        cluster.remove(name)


NEW = ("vm", "create", "new", "--memory", "128M")
MISTAKES = {
    "unknown vm": (("vm", "show", "nobody"), 1, "nobody"),
    "the name is taken": (("vm", "create", VM, "--memory", "128M"), 1, VM),
    "unknown datastore": ((*NEW, "--datastore", "nowhere"), 1, "nowhere"),
    "a size in words": (("vm", "create", "new", "--memory", "much"), 2, "much"),
    "a size below zero": (("vm", "create", "new", "--memory=-1G"), 2, "-1G"),
    "a size that is no number": (("vm", "create", "new", "--memory", "nanG"), 2, "nanG"),
    "a size of two": ((*NEW, "--disk", "1G2G"), 2, "1G2G"),
    "an empty size": ((*NEW, "--disk", ""), 2, "size"),
    "a disk greater than any": ((*NEW, "--disk", "999999999T"), 2, "size"),
    "memory greater than any": (("vm", "create", "new", "--memory", "999999999T"), 2, "memory"),
    "memory no host has, at the start": (("vm", "start", "giant"), 1, "memory"),
    "register what is known": (("vm", "register", VM), 1, "taken"),
    "log of nobody": (("vm", "log", "nobody"), 1, "nobody"),
    "unregister nobody": (("vm", "unregister", "nobody"), 1, "nobody"),
}


@pytest.fixture(scope="module")
def giant(cluster: Cluster) -> Iterator[str]:
    """Larger than every host."""
    cluster.zv("vm", "create", "giant", "--memory", "4T", "--no-network")
    yield "giant"
    cluster.remove("giant")


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.usefixtures("made", "giant")
def test_a_mistake_is_one_plain_line_and_changes_nothing(cluster: Cluster, mistake: str) -> None:
    arguments, code, told = MISTAKES[mistake]
    cluster.end(VM)
    before = _all(cluster)
    assert told in _one_line(cluster, *arguments, code=code)
    assert _all(cluster) == before
