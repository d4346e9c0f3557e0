"""`zv host maintenance`, `zv host set`, `zv cluster reconfigure`."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Zv


def test_maintenance_tells_where_each_vm_went(zv: Zv) -> None:
    ran = zv("host", "maintenance", "host1", "on", "--quick-fallback")
    assert ran.code == 0
    assert "host1 is in maintenance" in ran.out
    assert "host6 is a primary in its place" in ran.out
    assert "web1" in ran.out
    ran = zv("host", "maintenance", "host1", "off", "--return", "--json")
    assert (ran.json["is_in_maintenance"], ran.json["vms"][0]["host"]) == (False, "host2")


@pytest.mark.parametrize("words", ["on --return", "sideways", ""])
def test_a_wish_that_makes_no_sense_is_refused(zv: Zv, words: str) -> None:
    assert zv("host", "maintenance", "host1", *words.split()).code == 2


def test_a_label(zv: Zv) -> None:
    assert zv("host", "set", "host1", "--failure-domain", "rack1").out == "host1 is in failure domain rack1\n"
    assert zv("host", "set", "host1", "--failure-domain", "").out == "host1 has no failure domain\n"
    assert zv("host", "set", "host1", "--failure-domain", "Rack 1").code == 2


def test_roles_anew(zv: Zv) -> None:
    ran = zv("cluster", "reconfigure", "--json")
    assert ran.json == {"host1": "secondary", "host6": "primary"}
    assert "host6" in zv("cluster", "reconfigure").out


def test_a_registry_that_has_its_majority_is_not_formed_anew(zv: Zv) -> None:
    ran = zv("cluster", "reform", "host1", "--yes")
    assert ran.code == 1
    assert "2 of 3 members are not failed" in ran.err
