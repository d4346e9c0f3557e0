"""Datastores: what may become one, and what is shown when a host loses its path to one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster

pytestmark = pytest.mark.lab

VM = "writer"
HOST = "host3"


def _datastores(cluster: Cluster) -> list[str]:
    return [d["name"] for d in cluster.zv_json("datastore", "list")]


@pytest.fixture
def folder(cluster: Cluster, request: pytest.FixtureRequest) -> Path:
    """A directory of the machine, seen by all lab hosts, on its local file system."""
    path = cluster.layout.root / f"folder-{abs(hash(request.node.name))}"
    path.mkdir(mode=0o755)
    return path


@contextmanager
def fuse(cluster: Cluster, hosts: list[str], path: Path) -> Iterator[None]:
    """Each of `hosts` mounts a directory of its own there by FUSE: the type does not tell that it is unshared."""
    own = "/var/lib/zugvogel/pretended"
    mounted = []
    try:
        for host in hosts:
            cluster.zv("lab", "exec", host, "--", "mkdir", "-p", own)
            cluster.zv("lab", "exec", host, "--", "bindfs", own, str(path))
            mounted.append(host)
        yield
    finally:
        for host in mounted:
            cluster.zv("lab", "exec", host, "--", "umount", "--lazy", str(path))


def test_bad_paths_are_refused_each_with_its_cause(cluster: Cluster, folder: Path) -> None:
    known = cluster.zv_json("datastore", "list")
    name, path = known[0]["name"], known[0]["path"]
    bad = (
        (("more", "srv/vms"), 2, "absolute path"),
        (("more", "/srv/../etc"), 2, "absolute path"),
        (("more", "/no/such/place"), 1, "/no/such/place"),
        (("Bad Name", str(folder)), 2, "name"),
        ((name, str(folder)), 1, "exists already"),
        (("more", path), 1, "exists already"),
        (("more", str(folder)), 1, "no other host can reach"),
    )
    for arguments, code, told in bad:
        assert told in cluster.refused("datastore", "add", *arguments, code=code), arguments
    assert "nowhere" in cluster.refused("datastore", "remove", "nowhere", "--yes")
    assert _datastores(cluster) == [name]
    assert list(folder.iterdir()) == []


def test_what_the_hosts_do_not_share_is_refused(cluster: Cluster, folder: Path) -> None:
    with fuse(cluster, cluster.hosts, folder):
        said = cluster.refused("datastore", "add", "more", str(folder))
        for host in cluster.hosts:
            assert f"{host} does not see" in said
        assert "does not see" in cluster.refused("datastore", "add", "more", str(folder), "--allow-local")
        for host in cluster.hosts:
            left = cluster.zv("lab", "exec", host, "--", "find", str(folder), "-type", "f").stdout
            assert left == "", left
    with fuse(cluster, ["host2"], folder):
        assert "different file systems" in cluster.refused("datastore", "add", "more", str(folder))
    assert "more" not in _datastores(cluster)


def test_a_local_one_only_when_told_so(cluster: Cluster, folder: Path) -> None:
    added = cluster.zv_json("datastore", "add", "local", str(folder), "--allow-local")
    try:
        assert added["is_shared"] is False
        assert set(added["hosts"]) == set(cluster.hosts)
        shown = {d["name"]: d for d in cluster.zv_json("datastore", "list")}["local"]
        assert (shown["is_shared"], shown["path"]) == (False, str(folder))
        assert all(report["is_usable"] for report in shown["hosts"].values())
        assert "choose with --datastore" in cluster.refused("vm", "create", "which", "--memory", "64M", code=2)
        cluster.zv("vm", "create", "which", "--memory", "64M", "--datastore", "local", "--disk", "1M")
        assert (folder / "which" / "vm.toml").exists()
        assert "holds vms: which" in cluster.refused("datastore", "remove", "local", "--yes")
        cluster.zv("vm", "start", "which", "--on", "host1")
        said = cluster.refused("vm", "migrate", "which", "--to", "host2")
        assert "L2: datastore local is" in said
        assert "two hosts cannot use at once" in said
    finally:
        cluster.remove("which")
        cluster.zv("datastore", "remove", "local", "--yes")
    assert "local" not in _datastores(cluster)
    assert folder.is_dir()


@pytest.fixture(scope="module")
def running(cluster: Cluster) -> Iterator[str]:
    cluster.zv("vm", "create", VM, "--memory", "128M", "--image", "lab-guest", "--disk", "16M")
    yield VM
    cluster.remove(VM)


@pytest.fixture
def writing(cluster: Cluster, running: str) -> str:
    """Runs on HOST and writes to its disk."""
    cluster.boot(VM, HOST)
    cluster.guest(VM, "/load?disk=1&disk_mb=8&rate_mb_s=4")
    cluster.wait("blocks", lambda: cluster.guest(VM)["disk"]["blocks_written"] > 100)
    return running


def _verdict(cluster: Cluster) -> str:
    return str({h["name"]: h["verdict"] for h in cluster.zv_json("host", "list")}[HOST])


def test_a_hung_path_is_waited_out_and_the_guest_sees_no_error(cluster: Cluster, writing: str) -> None:
    before, qemus = cluster.guest(VM), cluster.qemus(VM)
    cluster.zv("lab", "storage", HOST, "hang")
    try:
        cluster.wait("the verdict", lambda: _verdict(cluster) == "storage-lost")
        shown = cluster.zv_json("host", "show", HOST)
        assert "stands still on shared" in shown["why"]
        (store,) = cluster.zv_json("datastore", "list")
        assert not store["hosts"][HOST]["is_usable"]
        assert store["hosts"][HOST]["why"]
        assert cluster.zv_json("vm", "show", VM)["host"] == HOST  # the host is heard: what it tells is known
        assert cluster.zv_json("vm", "show", VM)["state"] in ("running", "frozen")
        assert f"{HOST} does not reach datastore" in cluster.refused("vm", "migrate", VM, "--to", "host1")
    finally:
        cluster.zv("lab", "storage", HOST, "heal")
    cluster.all_live()
    assert cluster.assert_runs_once(VM) == HOST
    assert cluster.qemus(VM) == qemus
    after = cluster.guest(VM)
    assert after["boot_id"] == before["boot_id"]
    cluster.wait(
        "blocks", lambda: cluster.guest(VM)["disk"]["blocks_written"] > after["disk"]["blocks_written"] + 50
    )
    verified = cluster.guest(VM, "/load?disk=0&verify=1")
    assert verified["verify"]["disk_errors"] == 0
    assert (verified["disk"]["errors"], verified["disk"]["io_errors"]) == (0, 0)


def test_a_cut_path_freezes_the_vm_and_is_told(cluster: Cluster, writing: str) -> None:
    """The lab's cut path stays dead for files that were open. What was written last can mostly not be flushed
    through them, and then the vm is to be cut off by hand after the path healed; or its images are opened anew."""

    def events(kind: str) -> list[str]:
        return [e["message"] for e in cluster.zv_json("event", "list", "--subject", VM) if e["kind"] == kind]

    cluster.zv("lab", "storage", HOST, "cut")
    try:
        cluster.wait("the vm to be frozen", lambda: cluster.zv_json("vm", "show", VM)["state"] == "frozen")
        shown = cluster.zv_json("vm", "show", VM)
        assert (shown["state"], shown["host"]) == ("frozen", HOST)
        assert "its disk does not answer" in shown["why"]
        assert "its disk does not answer" in events("vm.frozen")[-1]

        def hosts() -> dict[str, dict[str, object]]:
            (store,) = cluster.zv_json("datastore", "list")
            found: dict[str, dict[str, object]] = store["hosts"]
            return found

        cluster.wait("a beat that failed, too", lambda: not hosts()[HOST]["is_usable"])
        assert hosts()["host1"]["is_usable"]
        cluster.refused("vm", "migrate", VM, "--to", "host1")
        cluster.refused("vm", "start", VM)
    finally:
        cluster.zv("lab", "storage", HOST, "heal")
        cluster.all_live()
    opened, not_opened = "vm.images-reopened", "vm.images-not-reopened"
    cluster.wait("its images to be tried", lambda: events(opened) or events(not_opened))
    if not events(opened):
        assert "cannot be flushed" in events(not_opened)[-1]
        shown = cluster.zv_json("vm", "show", VM)
        assert (shown["state"], shown["host"]) == ("frozen", HOST)
        assert "could not be opened anew" in shown["why"]
    assert list(cluster.qemus(VM)) == [HOST]
    cluster.zv("vm", "kill", VM)
    assert cluster.qemus(VM) == {}
    cluster.boot(VM, "host1")
    cluster.guest(VM, "/load?disk=1&disk_mb=8")
    verified = cluster.guest(VM, "/load?disk=0&verify=1")
    assert verified["verify"]["disk_errors"] == 0
