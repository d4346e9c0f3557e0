from __future__ import annotations

import asyncio
import errno
import multiprocessing
import os
import shutil
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from tests.adapters.datastore.conftest import opened
from zugvogel.adapters.datastore.layout import names_in
from zugvogel.adapters.datastore.leases import highest_epoch
from zugvogel.domain.lease import KEPT_EPOCHS, Holder, Lease, LeaseState
from zugvogel.errors import LeaseTaken, NotFound, StorageError


def lease(epoch: int, host: str = "host1", vm: str = "web") -> Lease:
    return Lease(vm=vm, epoch=epoch, state=LeaseState.RUNNING, holder=Holder(host=host, boot_id="1"))


async def test_a_vm_never_claimed_has_no_lease(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    assert await store.leases.read("web") is None
    with pytest.raises(NotFound):
        await store.leases.claim(lease(1))


async def test_role_leases_of_a_datastore_from_before_there_were_roles_get_their_folders(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    shutil.rmtree(tmp_path / ".zugvogel/roles")
    claim = lease(1, vm="active-primary")
    assert await store.role_leases.read("active-primary") is None
    await store.role_leases.claim(claim)
    assert await store.role_leases.read("active-primary") == claim
    shutil.rmtree(tmp_path / ".zugvogel")
    with pytest.raises(StorageError):
        await store.role_leases.claim(lease(1, vm="registry"))
    assert not (tmp_path / ".zugvogel").exists()  # something else is mounted there


async def test_the_highest_epoch_is_read_and_repeating_a_claim_is_harmless(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    (tmp_path / "web").mkdir()
    await store.leases.claim(lease(1))
    await store.leases.claim(lease(2))
    assert await store.leases.claim(lease(2)) == lease(2)
    assert await store.leases.read("web") == lease(2)
    assert sorted(names_in(tmp_path / "web")) == ["lease.1", "lease.2"]
    assert (tmp_path / "web/lease.2").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("epoch", [1, 2])
async def test_a_claim_at_or_below_the_highest_epoch_loses(tmp_path: Path, epoch: int) -> None:
    store = await opened(tmp_path)
    (tmp_path / "web").mkdir()
    await store.leases.claim(lease(1))
    await store.leases.claim(lease(2))
    with pytest.raises(LeaseTaken, match=r"epoch 2 \(held by host1") as caught:
        await store.leases.claim(lease(epoch, "host2"))
    assert caught.value.epoch == 2


async def test_only_the_last_epochs_are_kept(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    (tmp_path / "web").mkdir()
    for epoch in range(1, KEPT_EPOCHS + 4):
        await store.leases.claim(lease(epoch))
    assert len(names_in(tmp_path / "web")) == KEPT_EPOCHS
    assert highest_epoch(tmp_path / "web") == KEPT_EPOCHS + 3


@pytest.mark.parametrize("damage", [b"", b'{"vm": "web"}', b"\0" * 4096])
async def test_a_torn_lease_is_an_error_never_an_older_epoch(tmp_path: Path, damage: bytes) -> None:
    store = await opened(tmp_path)
    (tmp_path / "web").mkdir()
    await store.leases.claim(lease(1))
    (tmp_path / "web/lease.2").write_bytes(damage)
    with pytest.raises(StorageError, match=r"lease\.2 is damaged"):
        await store.leases.read("web")


async def test_temporary_files_of_dead_processes_are_removed(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    (tmp_path / "web").mkdir()
    mine, others = tmp_path / "web/.tmp.host1.999999999.0", tmp_path / "web/.tmp.host2.999999999.0"
    mine.touch()
    others.touch()
    await store.leases.claim(lease(1))
    assert not mine.exists()
    assert others.exists()


async def test_a_link_whose_reply_was_lost_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await opened(tmp_path)
    (tmp_path / "web").mkdir()
    link = os.link

    def link_and_lose_the_reply(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")  # what an NFS client answers to its own retry

    monkeypatch.setattr(os, "link", link_and_lose_the_reply)
    await store.leases.claim(lease(1))
    monkeypatch.undo()
    assert await store.leases.read("web") == lease(1)


async def test_roles_have_leases_too(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    claim = lease(1, vm="active-primary")
    await store.role_leases.claim(claim)
    assert await store.role_leases.read("active-primary") == claim
    assert (tmp_path / ".zugvogel/roles/active-primary/lease.1").exists()


def _claimer(path: str, host: str, rounds: int, barrier: Barrier) -> None:
    async def claim() -> None:
        store = await opened(Path(path), host)
        for epoch in range(1, rounds + 1):
            barrier.wait(60)
            try:
                await store.leases.claim(lease(epoch, host))
            except LeaseTaken:
                continue
            with (Path(path) / f"won.{epoch}.{host}").open("x"):
                pass

    asyncio.run(claim())


async def test_of_many_processes_one_wins_each_epoch(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    await opened(tmp_path)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(6)
    claimers = [context.Process(target=_claimer, args=(str(tmp_path), f"host{i}", 20, barrier)) for i in range(6)]
    for claimer in claimers:
        claimer.start()
    for claimer in claimers:
        await asyncio.to_thread(claimer.join)
    assert [claimer.exitcode for claimer in claimers] == [0] * 6
    won = sorted(int(name.split(".")[1]) for name in names_in(tmp_path) if name.startswith("won."))
    assert won == list(range(1, 21))
