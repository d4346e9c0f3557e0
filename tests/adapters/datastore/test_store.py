from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.adapters.datastore.conftest import Bindfs, datastore_at, opened
from zugvogel.adapters.datastore.store import FileDatastores
from zugvogel.domain.datastore import Beat, Sharing
from zugvogel.errors import DeadlineExceeded, NotFound, Refused, StorageError

BEAT = Beat(host="host1", boot_id="1", counter=1)


async def test_a_datastore_of_another_cluster_is_refused(tmp_path: Path) -> None:
    await opened(tmp_path)
    await opened(tmp_path)  # again is harmless
    datastores = FileDatastores("host2", 0, 0)
    with pytest.raises(Refused, match="id-1"):
        await datastores.initialise(datastore_at(tmp_path).model_copy(update={"id": "id-2"}))


async def test_probes_are_seen_by_nonce_and_cleared(tmp_path: Path) -> None:
    one, two = FileDatastores("host1", 0, 0), FileDatastores("host2", 0, 0)
    path = str(tmp_path)
    assert await one.read_probes(path, "n1") == set()
    await one.write_probe(path, "n1", "host1")
    await two.write_probe(path, "n1", "host2")
    await two.write_probe(path, "n2", "host2")
    assert await one.read_probes(path, "n1") == {"host1", "host2"}
    await one.clear_probes(path, "n1")
    assert await one.read_probes(path, "n1") == set()
    assert await one.read_probes(path, "n2") == {"host2"}


@pytest.mark.skipif(os.getuid() != 0, reason="gives files to others")
async def test_a_user_of_qemu_with_another_number_is_refused_and_reported(tmp_path: Path) -> None:
    one, two = FileDatastores("host1", 997, 997), FileDatastores("host2", 998, 997)
    path, datastore = str(tmp_path), datastore_at(tmp_path)
    await one.write_probe(path, "n1", "host1")
    assert await one.read_probes(path, "n1") == {"host1"}
    await two.write_probe(path, "n1", "host2")
    with pytest.raises(Refused, match="uid 997 and gid 997 on host1 but uid 998 and gid 997 on host2"):
        await one.read_probes(path, "n1")
    await one.initialise(datastore)
    assert (await one.open(datastore).report()).is_usable
    report = await two.open(datastore).report()
    assert not report.is_usable
    assert report.why == (
        "the user of QEMU has uid 998 and gid 997 on host2, but disks on store belong to uid 997 and gid 997"
    )


async def test_the_report_says_what_is_wrong(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    report = await store.report()
    assert report.is_usable
    assert report.total_bytes % (64 * 1024**2) == 0
    store.beats.last_good_s = 0.0
    store.beats.allowed_age_s = 0.0
    assert (await store.report()).why == "no beat could be written to store"
    (tmp_path / ".zugvogel/id").unlink()
    assert "not mounted" in (await store.report()).why


async def test_images_are_found_by_name_or_path(tmp_path: Path) -> None:
    await opened(tmp_path)
    datastores, datastore = FileDatastores("host1", 0, 0), datastore_at(tmp_path)
    folder = tmp_path / ".zugvogel/images/lab-guest"
    folder.mkdir()
    for name in ("kernel", "initrd", "append"):
        (folder / name).touch()
    assert set(await datastores.find_image(datastore, "lab-guest")) == {"kernel", "initrd", "append"}
    file = tmp_path / "x.img"
    file.touch()
    assert await datastores.find_image(datastore, str(file)) == {"disk": file}
    with pytest.raises(NotFound, match="lab-guest"):
        await datastores.find_image(datastore, "other")


@pytest.mark.lab
async def test_a_hung_datastore_meets_its_deadline_and_goes_on_afterwards(
    tmp_path: Path, make_mount: Callable[[Path, str], Bindfs]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    await opened(source)
    mount = make_mount(source, "mount")
    store = FileDatastores("host1", 0, 0, deadline_s=0.3).open(datastore_at(mount.path))
    mount.hang()
    with pytest.raises(DeadlineExceeded):
        await store.beats.write(BEAT)
    assert not (await store.report()).is_usable
    mount.go_on()
    for _ in range(100):
        try:
            await store.beats.write(BEAT)
            break
        except DeadlineExceeded:
            continue
    assert (await store.beats.read_all())["host1"] == BEAT
    assert (await store.report()).is_usable


@pytest.mark.lab
async def test_a_dead_datastore_is_an_error_at_once(
    tmp_path: Path, make_mount: Callable[[Path, str], Bindfs]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    await opened(source)
    mount = make_mount(source, "mount")
    store = FileDatastores("host1", 0, 0).open(datastore_at(mount.path))
    assert (await FileDatastores("host1", 0, 0).recognise(str(mount.path))).sharing is Sharing.UNKNOWN
    mount.die()
    with pytest.raises(StorageError, match="lost its connection"):
        await store.beats.write(BEAT)
    with pytest.raises(StorageError):
        await store.folders.names()
    assert not (await store.report()).is_usable
