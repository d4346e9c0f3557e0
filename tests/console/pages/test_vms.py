from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.console.conftest import Browser
from tests.console.pages.vm_fields import mirror_of, vm
from zugvogel.console.mirror import Mirror

Browse = Callable[[Mirror], Browser]

FLOCK = (
    vm("web2", definition={"description": "the shop"}),
    vm("web10", host="host2", ha={"restart_priority": "high", "anti_affinity": "shop"}),
    vm("db1", state="stopped", host=None, datastore="san", addresses=[], why="the guest powered off as asked"),
    vm("db2", state="failed", host=None, why="its QEMU was killed by signal 9"),
    vm("mail1", is_migrating=True),
)


async def names(browse: Browse, query: str) -> list[str]:
    page = await (await browse(mirror_of(*FLOCK)).log_in("viewer")).get(f"/vms{query}")
    assert page.status_code == 200
    return re.findall(r'<tr id="vm-([^"]+)"', page.text)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["db1", "db2", "mail1", "web2", "web10"]),
        ("?sort=name&down=1", ["web10", "web2", "mail1", "db2", "db1"]),
        ("?state=migrating", ["mail1"]),
        ("?state=running", ["web2", "web10"]),
        ("?host=host2", ["web10"]),
        ("?datastore=san", ["db1"]),
        ("?priority=high", ["web10"]),
        ("?q=shop", ["web2", "web10"]),
        ("?q=web+host2", ["web10"]),
        ("?q=52:54:00:00:00:01&state=stopped", ["db1"]),
        ("?q=nothing-like-this", []),
    ],
)
async def test_the_list_is_filtered_and_sorted(browse: Browse, query: str, found: list[str]) -> None:
    assert await names(browse, query) == found


async def test_the_counts_of_states_are_those_of_the_other_filters(browse: Browse) -> None:
    page = await (await browse(mirror_of(*FLOCK)).log_in("viewer")).get("/vms?q=db&state=failed")
    assert re.findall(r"(\w+) <strong>(\d+)</strong>", page.text) == [("stopped", "1"), ("failed", "1")]
    assert 'href="?q=db&amp;state=stopped"' in page.text


async def test_why_a_vm_failed_stands_beside_it(browse: Browse) -> None:
    page = await (await browse(mirror_of(*FLOCK)).log_in("viewer")).get("/vms")
    assert "its QEMU was killed by signal 9" in page.text
    assert "the guest powered off" not in page.text.replace('title="the guest powered off as asked"', "")


@pytest.mark.parametrize(("role", "is_offered"), [("viewer", False), ("operator", True)])
async def test_who_may_make_vms_is_offered_it(browse: Browse, role: str, is_offered: bool) -> None:
    page = await (await browse(mirror_of()).log_in(role)).get("/vms")
    assert ("New VM" in page.text) is is_offered
    assert "There is no VM yet." in page.text
