"""A plan says "restarted" only of what comes by itself."""

from __future__ import annotations

import pytest

from tests.core.facts import definition
from zugvogel.core.restart_terms import RestartTerms, under
from zugvogel.domain.datastore import Datastore
from zugvogel.domain.ha import FailoverPlan, Placed, Proof, RestartPriority
from zugvogel.domain.vm import Disk, VmDefinition, VmRecord

DISK = Disk(file="disk0", format="qcow2", size_bytes=1 << 30)


def terms(kind: str = "NFS v4", proof: Proof | None = None, **fields: object) -> RestartTerms:
    store = Datastore(name="nfs1", id="d", path="/srv/nfs1", kind=kind, is_shared=True, proof=proof)
    return RestartTerms(datastores={"nfs1": store}, **fields)  # type: ignore[arg-type]


def plan(found: RestartTerms, vm: VmDefinition, host: str | None = "h2", is_complete: bool = True) -> FailoverPlan:
    placed = Placed(
        vm="web1", priority=RestartPriority.MEDIUM, memory_bytes=1, source="h1", host=host, why="room is there"
    )
    bare = FailoverPlan(hosts=("h1",), placed=(placed,), is_complete=is_complete)
    return under(bare, {"web1": VmRecord(definition=vm, datastore="nfs1")}, found)


def test_where_locks_go_with_a_dead_host_it_comes_by_itself() -> None:
    found = plan(terms(), definition(disks=(DISK,)))
    assert found.is_complete
    assert found.placed[0].why == "room is there; when its image locks on nfs1 are gone"
    assert found.placed[0].waits_for == ""
    assert plan(terms(), definition()).placed[0].why == "room is there", "no disk, no lock"


def test_while_high_availability_is_disabled_nothing_would_be_restarted() -> None:
    found = plan(terms(is_enabled=False), definition(disks=(DISK,)))
    assert not found.is_complete
    assert "zv ha enable" in found.placed[0].waits_for
    assert found.placed[0].why == found.placed[0].waits_for
    assert found.placed[0].host == "h2"


@pytest.mark.parametrize(
    ("kind", "proof"), [("NFS v3", None), ("OCFS2", None), ("NFS v4", Proof.CONFIRM), ("NFS v4", Proof.FENCE)]
)
def test_where_the_datastore_proves_nothing_a_fence_or_a_word_is_needed(kind: str, proof: Proof | None) -> None:
    found = plan(terms(kind, proof), definition(disks=(DISK,)))
    assert not found.is_complete
    for part in ("no fence device is set for h1", f"nfs1 ({kind})", "zv host confirm-dead h1"):
        assert part in found.placed[0].waits_for
    fenced = plan(terms(kind, proof, fenced=frozenset({"h1"})), definition(disks=(DISK,)))
    assert fenced.is_complete
    assert fenced.placed[0].why == "room is there; when its fence device has cut the power of h1"
    assert not plan(terms(kind, proof, fenced=frozenset({"h2"})), definition()).is_complete


def test_a_guard_does_where_it_is_the_proof() -> None:
    assert plan(terms("CIFS"), definition(disks=(DISK,))).is_complete


def test_a_datastore_that_is_gone_is_told() -> None:
    found = plan(RestartTerms(), definition(disks=(DISK,)))
    assert "does not exist any more" in found.placed[0].waits_for


def test_what_fits_nowhere_stays_as_it_was() -> None:
    found = plan(terms(is_enabled=False), definition(), host=None, is_complete=False)
    assert (found.placed[0].why, found.placed[0].waits_for) == ("room is there", "")
    assert not found.is_complete
