from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.adapters.datastore.conftest import datastore_at, opened
from zugvogel.adapters.datastore.store import FileDatastores
from zugvogel.errors import InvalidInput


async def test_an_order_is_seen_answered_and_taken_back(tmp_path: Path) -> None:
    giver = (await opened(tmp_path)).orders
    taker = FileDatastores("host2", os.getuid(), os.getgid()).open(datastore_at(tmp_path)).orders
    assert await taker.given("host2") == {}
    await giver.give("host2", "web", b"be ready")
    assert await taker.given("host2") == {"web": b"be ready"}
    assert await taker.given("host3") == {}
    assert await giver.answer_of("host2", "web") is None
    await taker.answer("host2", "web", b"ready")
    assert await giver.answer_of("host2", "web") == b"ready"
    await giver.take_back("host2", "web")
    await giver.take_back("host2", "web")
    assert await taker.given("host2") == {}
    assert await giver.answer_of("host2", "web") is None


async def test_a_torn_order_is_none(tmp_path: Path) -> None:
    orders = (await opened(tmp_path)).orders
    await orders.give("host2", "web", b"be ready")
    (tmp_path / ".zugvogel/orders/host2/web.order").write_bytes(b"be re")
    assert await orders.given("host2") == {}


@pytest.mark.parametrize(("host", "vm"), [("../x", "web"), ("host2", "../x"), ("", "web")])
async def test_names_never_become_paths(tmp_path: Path, host: str, vm: str) -> None:
    orders = (await opened(tmp_path)).orders
    with pytest.raises(InvalidInput):
        await orders.give(host, vm, b"x")


async def test_what_a_killed_agent_was_writing_does_not_stay(tmp_path: Path) -> None:
    """Seen by the next agent of the same host alone; others' may be being written."""
    giver = (await opened(tmp_path)).orders
    taker = FileDatastores("host2", os.getuid(), os.getgid()).open(datastore_at(tmp_path)).orders
    await giver.give("host2", "web", b"be ready")
    folder = tmp_path / ".zugvogel/orders/host2"
    no_process = 1 << 22
    mine, others = folder / f".tmp.host2.{no_process}.0", folder / f".tmp.host1.{no_process}.0"
    mine.touch()
    others.touch()
    assert await taker.given("host2") == {"web": b"be ready"}
    assert (mine.exists(), others.exists()) == (False, True)
    await giver.take_back("host2", "web")
    assert list(folder.iterdir()) == []
