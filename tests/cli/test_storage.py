from __future__ import annotations

from tests.cli.conftest import Zv


def test_a_proof_is_chosen_and_shown(zv: Zv) -> None:
    listed = zv("datastore", "list").out.splitlines()
    assert listed[0].split()[4] == "PROOF"
    assert "lock" in listed[1]
    told = zv("datastore", "set", "shared", "--proof", "fence").out
    assert "fence: chosen for this datastore" in told
    assert "fence: chosen for this datastore" in zv("datastore", "show", "shared").out
    found = zv("datastore", "set", "shared", "--proof", "default", "--json").json
    assert (found["proof"], found["is_proof_chosen"]) == ("lock", False)
    shown = zv("datastore", "show", "shared").out
    for text in ("/srv/shared", "NFS v4", "lock: its server drops", "8.0 GiB of 16.0 GiB", "host1"):
        assert text in shown
    assert zv("datastore", "show", "shared", "--json").json["name"] == "shared"


def test_what_cannot_be_chosen_is_said(zv: Zv) -> None:
    refused = zv("datastore", "set", "shared", "--proof", "guard")
    assert (refused.code, "knows of no guard" in refused.err) == (1, True)
    assert zv("datastore", "set", "shared", "--proof", "hope").code == 2
    assert zv("datastore", "set", "shared").code == 2
    assert zv("datastore", "show", "nosuch").code == 1
