"""zugvogel.services.own_lease"""

from __future__ import annotations

import pytest

from tests.services.ha.held_world import OTHER, HeldHost
from zugvogel.errors import InvalidInput, StorageError
from zugvogel.services.own_lease import read_own


async def test_what_is_not_older_than_this_hosts_own_claim_is_the_lease() -> None:
    host = HeldHost()
    store, leases = host.vms.mounted("ds"), host.leases["ds"]
    mine = leases.link("web")
    assert await read_own(store, "web", 1) == mine
    other = leases.link("web", OTHER)
    assert await read_own(store, "web", 1) == other
    assert await read_own(store, "web", 2) == other
    with pytest.raises(StorageError, match=r"epoch 2; this host linked epoch 3"):
        await read_own(store, "web", 3)


async def test_no_lease_is_believed_only_where_the_vm_is_gone_too() -> None:
    host = HeldHost()
    store = host.vms.mounted("ds")
    with pytest.raises(StorageError, match="old lease"):
        await read_own(store, "web", 1)
    host.folders.gone.add("web")
    assert await read_own(store, "web", 1) is None

    async def damaged(_vm: str) -> None:
        raise InvalidInput("vm.toml, line 3")

    host.folders.read = damaged  # type: ignore[method-assign, assignment]
    with pytest.raises(StorageError, match="old lease"):
        await read_own(store, "web", 1)


async def test_a_folder_that_is_another_vms_by_now_is_no_old_listing() -> None:
    """It was deleted and made anew: its epochs begin at 1."""
    host = HeldHost()
    store = host.vms.mounted("ds")
    host.leases["ds"].link("web", OTHER)
    uuid = (await store.folders.read("web")).uuid
    with pytest.raises(StorageError, match="old lease"):
        await read_own(store, "web", 7, uuid)
    assert await read_own(store, "web", 7, "of an earlier web") is None
