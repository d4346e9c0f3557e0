"""services.operations.storage: what proves a dead host is chosen for a datastore."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.core.facts import status
from tests.fakes.registry import MemoryRegistry
from tests.services.test_tasks import FastClock
from zugvogel.core.death_proof import proof_of
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.ha import Proof
from zugvogel.domain.requests import ChangeDatastore
from zugvogel.errors import NotFound, Refused
from zugvogel.services.events import EventLog
from zugvogel.services.inventory import Inventory
from zugvogel.services.operations.storage import StorageOperations


class Cluster:
    def __init__(self) -> None:
        registry, clock = MemoryRegistry(), FastClock()
        self.events, self.inventory = EventLog("h1", registry, clock), Inventory(registry, clock, [])

        async def statuses() -> list[Any]:
            return [status("h1", 1)]

        world = SimpleNamespace(
            inventory=self.inventory, events=self.events, statuses=statuses, handlers={}, clock=clock
        )
        self.storage = StorageOperations(cast(Any, world))

    async def add(self, kind: str) -> None:
        store = Datastore(name="vms", id="i", path="/srv/vms", kind=kind, is_shared=True)
        await self.inventory.put("datastores/vms", store)

    async def choose(self, proof: str) -> Datastore:
        request = ChangeDatastore.model_validate({"proof": proof})
        return (await self.storage.change_datastore("vms", request)).datastore


async def test_a_proof_is_chosen_told_and_taken_back() -> None:
    cluster = Cluster()
    await cluster.add("NFS v4")
    before = cluster.inventory.datastore("vms")
    changed = await cluster.choose("fence")
    assert (changed.proof, cluster.inventory.datastore("vms")) == (Proof.FENCE, changed)
    assert changed.place == before.place
    assert (await cluster.choose("default")).proof is None
    chosen, default = [e for e in await cluster.events.list(limit=9) if e.kind == "datastore.changed"]
    assert chosen.evidence == {"proof": "fence", "is_chosen": True, "before": "lock"}
    assert default.evidence == {"proof": "lock", "is_chosen": False, "before": "fence"}


@pytest.mark.parametrize(
    ("kind", "why"), [("CIFS", "could run twice"), ("NFS v3", "until that client comes back")]
)
async def test_a_lock_that_proves_nothing_is_refused(kind: str, why: str) -> None:
    cluster = Cluster()
    await cluster.add(kind)
    with pytest.raises(Refused, match=why):
        await cluster.choose("lock")
    assert proof_of(cluster.inventory.datastore("vms")).is_chosen is False
    for proof in ("guard", "fence", "confirm"):
        assert (await cluster.choose(proof)).proof == proof


async def test_a_datastore_that_is_not_there() -> None:
    with pytest.raises(NotFound):
        await Cluster().choose("fence")
