"""Starts that would take the room kept for failures of hosts (das.failoverlevel)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.facts import GIB, definition
from tests.services.operations.cluster_of_two import ClusterOfTwo
from zugvogel.domain.requests import StartVm
from zugvogel.errors import Refused


@pytest.fixture
async def cluster(tmp_path: Path) -> ClusterOfTwo:
    """Three hosts with 16 GiB each."""
    found = ClusterOfTwo(tmp_path)
    await found.begin()
    await found.add(definition(name="huge", nics=(), memory_bytes=15 * GIB))
    for node in found.nodes.values():
        await node.inventory.set_setting("das.enabled", True)
        await node.inventory.set_setting("das.failoverlevel", 3)
    return found


async def test_a_start_that_takes_it_is_refused_with_the_figures(cluster: ClusterOfTwo) -> None:
    one = cluster.nodes["host1"]
    with pytest.raises(Refused, match=r"huge has 15\.00 GiB of memory, and no vm may be started") as refused:
        await one.operations.start_vm("huge", StartVm())
    assert "--force" in refused.value.next_step


async def test_a_forced_start_is_told(cluster: ClusterOfTwo) -> None:
    one = cluster.nodes["host1"]
    await one.operations.start_vm("huge", StartVm(is_forced=True))
    (told,) = [e for e in await one.events.list() if e.kind == "ha.admission-overridden"]
    assert "huge was started although" in told.message


@pytest.mark.parametrize("setting", ["das.enabled", "das.failoverlevel"])
async def test_without_it_nothing_is_refused(cluster: ClusterOfTwo, setting: str) -> None:
    one = cluster.nodes["host1"]
    await one.inventory.set_setting(setting, False if setting == "das.enabled" else 0)
    await one.operations.start_vm("huge", StartVm())
    assert [e for e in await one.events.list() if e.kind == "ha.admission-overridden"] == []


async def test_what_leaves_enough_is_started(cluster: ClusterOfTwo) -> None:
    one = cluster.nodes["host1"]
    await one.inventory.set_setting("das.failoverlevel", 1)
    await one.operations.start_vm("huge", StartVm())
