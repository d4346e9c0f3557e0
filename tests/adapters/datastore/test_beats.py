from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.adapters.datastore.conftest import Bindfs, datastore_at, opened
from zugvogel.adapters.datastore import beats
from zugvogel.adapters.datastore.direct_io import read_uncached, write_block
from zugvogel.adapters.datastore.store import FileDatastores
from zugvogel.domain.datastore import Beat
from zugvogel.errors import DeadlineExceeded, StorageError


def beat(host: str, counter: int) -> Beat:
    return Beat(host=host, boot_id="1", counter=counter)


async def test_torn_and_foreign_files_are_left_out(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.beats.write(beat("host1", 1))
    hosts = tmp_path / ".zugvogel/hosts"
    block = (hosts / "host1").read_bytes()
    assert len(block) == 4096
    (hosts / "torn").write_bytes(block.replace(b'"counter":1', b'"counter":2'))
    (hosts / "other").write_bytes(block)  # says that it is host1's
    (hosts / "empty").touch()
    (hosts / "folder").mkdir()
    assert await store.beats.read_all() == {"host1": beat("host1", 1)}


async def test_a_file_that_cannot_be_read_leaves_those_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opened(tmp_path)
    for host in ("host1", "host2"):
        await store.beats.write(beat(host, 1))
    bad = {"host1"}

    def read(path: Path, length: int) -> bytes:
        if path.name in bad:
            raise OSError(errno.EIO, "Input/output error")
        return read_uncached(path, length)

    monkeypatch.setattr(beats, "read_uncached", read)
    assert await store.beats.read_all() == {
        "host1": "datastore store has an I/O error",
        "host2": beat("host2", 1),
    }
    bad.add("host2")
    with pytest.raises(StorageError, match="I/O error"):
        await store.beats.read_all()


async def test_a_beat_goes_nowhere_but_to_its_own_datastore(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    (tmp_path / ".zugvogel/id").write_text("another\n")
    with pytest.raises(StorageError, match="another datastore"):
        await store.beats.write(beat("host1", 1))
    (tmp_path / ".zugvogel/id").unlink()
    with pytest.raises(StorageError, match="not mounted"):
        await store.beats.write(beat("host1", 1))


async def test_a_write_that_was_given_up_may_still_land(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await opened(tmp_path)
    assert not store.beats.may_still_land()
    answers = threading.Event()

    def hangs(path: Path, data: bytes) -> None:
        answers.wait(20)
        write_block(path, data)

    monkeypatch.setattr(beats, "write_block", hangs)
    monkeypatch.setattr(store._beats._deadlines, "deadline_s", 0.05)
    for counter in range(1, 7):  # more than there are threads: the last two are never begun
        with pytest.raises(DeadlineExceeded):
            await store.beats.write(beat("host1", counter))
        assert store.beats.may_still_land()
    monkeypatch.undo()
    answers.set()
    async with asyncio.timeout(10):
        while store.beats.may_still_land():  # noqa: ASYNC110 - threads
            await asyncio.sleep(0.005)
    assert (await store.beats.read_all())["host1"] in [beat("host1", counter) for counter in range(1, 5)]
    await store.beats.write(beat("host1", 9))
    assert not store.beats.may_still_land()


@pytest.mark.lab
async def test_beats_pass_the_caches_of_two_hosts(
    tmp_path: Path, make_mount: Callable[[Path, str], Bindfs]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    await opened(source)
    one, two = make_mount(source, "one"), make_mount(source, "two")
    writer = FileDatastores("host1", 0, 0).open(datastore_at(one.path))
    reader = FileDatastores("host2", 0, 0).open(datastore_at(two.path))
    for counter in range(1, 20):
        await writer.beats.write(beat("host1", counter))
        assert await reader.beats.read_all() == {"host1": beat("host1", counter)}


async def test_one_host_s_beat_is_read_alone(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.beats.write(beat("host1", 1))
    assert await store.beats.read("host1") == beat("host1", 1)
    assert await store.beats.read("host2") is None
    file = tmp_path / ".zugvogel/hosts/host1"
    file.write_bytes(file.read_bytes().replace(b'"counter":1', b'"counter":2'))
    assert await store.beats.read("host1") is None  # torn


async def test_a_beat_that_cannot_be_read_is_not_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opened(tmp_path)

    def broken(path: Path, size: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(beats, "read_uncached", broken)
    with pytest.raises(StorageError):
        await store.beats.read("host1")
