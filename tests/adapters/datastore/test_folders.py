from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.datastore.conftest import datastore_at, opened
from zugvogel.adapters.datastore.layout import names_in
from zugvogel.adapters.datastore.store import FileDatastores
from zugvogel.domain.vm import Boot, Disk, Nic, VmDefinition
from zugvogel.errors import AlreadyExists, InvalidInput, NotFound, Refused, StorageError

MIB = 1024**2
WEB = VmDefinition(
    name="web",
    uuid="7f2c9a52-64a4-4d6c-9a57-0e6f5f1b8a11",
    memory_bytes=128 * MIB,
    cpus=1,
    machine="pc-q35-7.2",
    cpu_model="x86-64-v2",
    disks=(Disk(file="disk0.qcow2", format="qcow2", size_bytes=8 * MIB),),
    nics=(Nic(network="lan", mac="52:54:00:00:00:01"),),
    boot=Boot(kernel="kernel", append='console="ttyS0"'),
)


def tool(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


def info(path: Path) -> dict[str, object]:
    out = tool("qemu-img", "info", "--output", "json", path)
    found: dict[str, object] = json.loads(out)
    return found


async def test_a_definition_survives_the_way_through_its_file(tmp_path: Path) -> None:
    folders = (await opened(tmp_path)).folders
    await folders.create(WEB)
    assert await folders.names() == ["web"]
    assert await folders.read("web") == WEB
    changed = WEB.model_copy(update={"cpus": 2})
    await folders.write(changed)
    assert await folders.read("web") == changed
    with pytest.raises(AlreadyExists):
        await folders.create(WEB)
    with pytest.raises(NotFound):
        await folders.read("other")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("cpus = 1", "cpus = 0", r"line 7: cpus"),
        ("cpus = 1", "cpus = ", "line 7"),
        ('format = "qcow2"', 'format = "vmdk"', r"line 19: disks\.0\.format"),
        ("cpus = 1", "cpus = 1\ncolour = 3", r"line 8: colour"),
        ('name = "web"', 'name = "web2"', r"line 4, says web2"),
    ],
)
async def test_a_wrong_line_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    folders = (await opened(tmp_path)).folders
    await folders.create(WEB)
    path = folders.path("web", "vm.toml")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InvalidInput, match=says):
        await folders.read("web")


@pytest.mark.parametrize("name", ["../x", "a/b", ".zugvogel", "web\n", ""])
async def test_names_cannot_leave_the_datastore(tmp_path: Path, name: str) -> None:
    folders = (await opened(tmp_path)).folders
    with pytest.raises(InvalidInput):
        await folders.read(name)


@pytest.mark.parametrize("format", ["raw", "qcow2"])
async def test_a_disk_is_sparse_and_belongs_to_the_qemu_user(tmp_path: Path, format: str) -> None:
    datastores = FileDatastores("host1", 65534, 65534)
    await datastores.initialise(datastore_at(tmp_path))
    folders = datastores.open(datastore_at(tmp_path)).folders
    await folders.create(WEB)
    await folders.create_disk("web", "disk0.x", format, 64 * MIB)
    disk = folders.path("web", "disk0.x")
    assert (info(disk)["format"], info(disk)["virtual-size"]) == (format, 64 * MIB)
    assert disk.stat().st_blocks * 512 < MIB
    assert (disk.stat().st_uid, disk.parent.stat().st_gid) == (65534, 65534)
    assert disk.parent.stat().st_uid == 0
    with pytest.raises(AlreadyExists):
        await folders.create_disk("web", "disk0.x", format, 64 * MIB)


@pytest.mark.parametrize("format", ["raw", "qcow2"])
@pytest.mark.parametrize(("asked_mib", "got_mib"), [(4, 8), (16, 16)])
async def test_an_image_is_imported_in_its_format_and_grown(
    tmp_path: Path, format: str, asked_mib: int, got_mib: int
) -> None:
    folders = (await opened(tmp_path)).folders
    await folders.create(WEB)
    image = tmp_path / "image"
    tool("qemu-img", "create", "-q", "-f", format, image, "8M")
    tool("qemu-io", "-f", format, "-c", "write -P 7 1M 64k", image)
    assert await folders.import_image("web", "disk0.x", image, asked_mib * MIB) == (format, got_mib * MIB)
    disk = folders.path("web", "disk0.x")
    assert info(disk)["virtual-size"] == got_mib * MIB
    tool("qemu-io", "-r", "-f", format, "-c", "read -P 7 1M 64k", disk)


async def test_images_that_do_not_stand_alone_are_refused(tmp_path: Path) -> None:
    folders = (await opened(tmp_path)).folders
    await folders.create(WEB)
    base, top, vmdk, split = (tmp_path / name for name in ("base.raw", "top.qcow2", "x.vmdk", "split.qcow2"))
    create = ["qemu-img", "create", "-q"]
    tool(*create, "-f", "raw", base, "1M")
    tool(*create, "-f", "qcow2", "-b", base, "-F", "raw", top)
    tool(*create, "-f", "vmdk", vmdk, "1M")
    tool(*create, "-f", "qcow2", "-o", f"data_file={tmp_path}/data", split, "1M")
    for image in (top, vmdk, split):
        with pytest.raises(Refused, match=image.name):
            await folders.import_image("web", "disk0.x", image, MIB)
    with pytest.raises(NotFound):
        await folders.import_image("web", "disk0.x", tmp_path / "none", MIB)
    assert names_in(tmp_path / "web") == ["vm.toml"]


async def test_notes_are_written_listed_and_deleted(tmp_path: Path) -> None:
    folders = (await opened(tmp_path)).folders
    await folders.create(WEB)
    assert await folders.read_note("web", "migration.1.json") is None
    await folders.write_note("web", "migration.1.json", b"one")
    await folders.write_note("web", "migration.1.json", b"two")
    assert await folders.read_note("web", "migration.1.json") == b"two"
    assert await folders.list_notes("web", "migration.") == ["migration.1.json"]
    await folders.delete_note("web", "migration.1.json")
    await folders.delete_note("web", "migration.1.json")
    assert await folders.list_notes("web", "") == []
    with pytest.raises(InvalidInput):
        await folders.write_note("web", "lease.9", b"")


async def test_delete_takes_all_of_ours_and_refuses_what_is_foreign(tmp_path: Path) -> None:
    folders = (await opened(tmp_path)).folders
    await folders.create(WEB)
    await folders.create_disk("web", "disk0.qcow2", "qcow2", MIB)
    await folders.write_note("web", "migration.1.json", b"{}")
    (tmp_path / "web/lease.3").touch()
    foreign = tmp_path / "web/thesis.odt"
    foreign.touch()
    with pytest.raises(Refused, match=r"thesis\.odt"):
        await folders.delete("web")
    assert await folders.read("web") == WEB
    foreign.unlink()
    await folders.delete("web")
    assert not (tmp_path / "web").exists()


@pytest.mark.parametrize("file", ["disk0", "disk12", "disk0.raw", ".tmp.host2.77.0"])
async def test_delete_takes_the_disks_of_a_create_that_did_not_end(tmp_path: Path, file: str) -> None:
    folders = (await opened(tmp_path)).folders
    await folders.create(WEB.model_copy(update={"disks": ()}))
    (tmp_path / "web" / file).touch()
    await folders.delete("web")
    assert not (tmp_path / "web").exists()


async def test_delete_waits_for_what_a_process_has_still_open(tmp_path: Path) -> None:
    """NFS and FUSE keep such files under another name until they are closed."""
    folders = (await opened(tmp_path)).folders
    await folders.create(WEB.model_copy(update={"disks": ()}))
    still_open = tmp_path / "web/.nfs0000a1b2"
    still_open.touch()
    deletion = asyncio.create_task(folders.delete("web"))
    await asyncio.sleep(0.3)
    assert not (tmp_path / "web/vm.toml").exists()
    assert not deletion.done()
    still_open.unlink()
    await deletion
    assert not (tmp_path / "web").exists()


async def test_a_folder_left_by_a_cut_create_is_taken_and_keeps_its_leases(tmp_path: Path) -> None:
    folders = (await opened(tmp_path)).folders
    (tmp_path / "web").mkdir()
    (tmp_path / "web/lease.3").touch()
    await folders.create(WEB)
    assert sorted(names_in(tmp_path / "web")) == ["lease.3", "vm.toml"]


async def test_a_seed_carries_the_user_data(tmp_path: Path) -> None:
    folders = (await opened(tmp_path)).folders
    await folders.create(WEB)
    user_data = tmp_path / "user-data.yaml"
    user_data.write_text("#cloud-config\nhostname: web\n")
    assert await folders.make_seed("web", user_data) == "seed.iso"
    seed = (tmp_path / "web/seed.iso").read_bytes()
    assert seed[32808:32840].strip() == b"cidata"  # volume id of the primary descriptor, ECMA-119 8.4.7
    assert b"#cloud-config\nhostname: web\n" in seed
    assert b'{"instance-id": "7f2c9a52-64a4-4d6c-9a57-0e6f5f1b8a11", "local-hostname": "web"}\n' in seed


@pytest.mark.parametrize("name", ["null", "1e3", "web_1.x"])
async def test_a_seed_names_the_host_as_text_and_takes_any_file_name(tmp_path: Path, name: str) -> None:
    folders = (await opened(tmp_path)).folders
    await folders.create(WEB.model_copy(update={"name": name}))
    user_data = tmp_path / "my 'user' data=$(id);#.sh"
    user_data.write_text("#!/bin/sh\ntrue\n")
    seed = folders.path(name, await folders.make_seed(name, user_data))
    assert tool("isoinfo", "-J", "-i", seed, "-x", "/user-data") == user_data.read_text()
    meta = json.loads(tool("isoinfo", "-J", "-i", seed, "-x", "/meta-data"))
    assert meta["local-hostname"] == name.replace(".", "-").replace("_", "-")


@pytest.mark.parametrize("text", ["", "hello\n", "packages: [curl]\n", "\n#cloud-config\n"])
async def test_user_data_that_cloud_init_would_pass_over_is_refused(tmp_path: Path, text: str) -> None:
    folders = (await opened(tmp_path)).folders
    await folders.create(WEB)
    user_data = tmp_path / "user-data"
    user_data.write_text(text)
    with pytest.raises(InvalidInput, match="cloud-init"):
        await folders.make_seed("web", user_data)
    with pytest.raises(NotFound, match="no cloud-init file"):
        await folders.make_seed("web", tmp_path / "none")
    assert names_in(tmp_path / "web") == ["vm.toml"]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    point = tmp_path / "small"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(point)], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", str(point)], check=True)


@pytest.mark.skipif(os.getuid() != 0, reason="mounts a tmpfs")
async def test_a_full_datastore_is_named_and_keeps_no_partial_file(tmp_path: Path, small: Path) -> None:
    folders = (await opened(small)).folders
    await folders.create(WEB)
    image = tmp_path / "image"
    image.write_bytes(os.urandom(3 * MIB))
    with pytest.raises(StorageError):
        await folders.import_image("web", "disk0.raw", image, 0)
    with pytest.raises(StorageError, match="is full"):
        await folders.copy_in("web", "kernel", image)
    with pytest.raises(StorageError, match="is full"):
        await folders.write_note("web", "big.json", b"x" * 3 * MIB)
    assert names_in(small / "web") == ["vm.toml"]
    assert await folders.read("web") == WEB
