from __future__ import annotations

import pytest

from zugvogel.core.death_proof import proof_of, proof_of_kind, unsafe
from zugvogel.core.filesystems import classify
from zugvogel.domain.datastore import Datastore, Sharing
from zugvogel.domain.ha import Proof


def datastore(kind: str, *, is_shared: bool = True, proof: Proof | None = None) -> Datastore:
    return Datastore(name="ds", id="i", path="/srv", kind=kind, is_shared=is_shared, proof=proof)


@pytest.mark.parametrize(
    ("fs_type", "options", "proof"),
    [
        ("nfs4", "rw,vers=4.2", Proof.LOCK),
        ("nfs", "rw,vers=3", Proof.CONFIRM),
        ("ocfs2", "rw", Proof.CONFIRM),
        ("ocfs2", "rw,cluster_stack=pcmk", Proof.LOCK),
        ("gfs2", "", Proof.LOCK),
        ("ceph", "", Proof.LOCK),
        ("fuse.ceph-fuse", "", Proof.LOCK),
        ("fuse.glusterfs", "", Proof.LOCK),
        ("gpfs", "", Proof.LOCK),
        ("lustre", "", Proof.LOCK),
        ("cifs", "", Proof.GUARD),
        ("smb3", "", Proof.GUARD),
        ("beegfs", "", Proof.GUARD),
        ("fuse.bindfs", "", Proof.GUARD),
        ("fuse", "", Proof.GUARD),
        ("9p", "", Proof.GUARD),
        ("ext4", "", Proof.LOCK),
        ("xfs", "", Proof.LOCK),
        ("fuseblk", "", Proof.LOCK),
    ],
)
def test_each_kind_of_file_system_has_its_proof(fs_type: str, options: str, proof: Proof) -> None:
    fs = classify(fs_type, "x", options)
    found = proof_of(datastore(fs.kind, is_shared=fs.sharing is not Sharing.LOCAL))
    assert (found.proof, found.is_chosen) == (proof, False)


@pytest.mark.parametrize("proof", list(Proof))
def test_a_datastore_may_choose_another(proof: Proof) -> None:
    found = proof_of(datastore("NFS v4", proof=proof))
    assert (found.proof, found.is_chosen) == (proof, True)
    assert found.why.startswith("chosen for this datastore")


@pytest.mark.parametrize("kind", ["NFS v4", "NFS v3", "CIFS", "something new", "ext4"])
def test_the_reason_is_one_sentence_without_its_full_stop(kind: str) -> None:
    why = proof_of_kind(kind).why
    assert why
    assert not why.endswith(".")
    assert ". " not in why


def test_only_a_fence_or_a_person_vouches_where_locks_stay() -> None:
    assert {p for p in Proof if proof_of(datastore("x", proof=p)).needs_word} == {Proof.FENCE, Proof.CONFIRM}


def test_what_is_not_known_is_never_trusted_with_its_locks() -> None:
    assert proof_of_kind("FUSE (new)", is_shared=False).proof is Proof.GUARD
    assert proof_of_kind("new").proof is Proof.GUARD


@pytest.mark.parametrize("proof", list(Proof))
@pytest.mark.parametrize("kind", ["NFS v4", "NFS v3", "CIFS", "something new", "ext4"])
def test_only_a_lock_that_every_host_sees_and_a_dead_one_drops_may_be_chosen(kind: str, proof: Proof) -> None:
    store = datastore(kind, is_shared=kind != "ext4")
    is_refused = proof is Proof.LOCK and proof_of(store).proof is not Proof.LOCK
    assert bool(unsafe(proof, store)) is is_refused
