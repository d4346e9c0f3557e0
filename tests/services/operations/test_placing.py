"""Starts that come at the same time, or quicker than hosts report."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.core.facts import GIB, definition
from tests.services.operations.cluster_of_two import ClusterOfTwo, Node
from zugvogel.domain.host import HostStatus, Verdict
from zugvogel.domain.placing import PlaceWish
from zugvogel.domain.requests import StartVm
from zugvogel.domain.vm import VmDefinition
from zugvogel.errors import Refused, Unreachable
from zugvogel.services.operations.placing import BEGUN_S, Placements


class Cluster(ClusterOfTwo):
    """host1 to host3 have 16 GiB each; `active` is the active primary. Reports never change by themselves."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.active = "host2"
        self.starting: dict[str, str] = {}

    def statuses(self) -> list[HostStatus]:
        return [self._told(s) for s in super().statuses()]

    def _told(self, status: HostStatus) -> HostStatus:
        name = status.host.name
        assert status.report is not None
        starting = tuple(vm for vm, host in self.starting.items() if host == name)
        report = status.report.model_copy(
            update={"starting": starting, "reserved_bytes": len(starting) * 10 * GIB}
        )
        return status.model_copy(update={"is_active_primary": name == self.active, "report": report})

    def placements(self, host: str) -> Placements:
        return self.nodes[host].operations._placements

    async def place(self, host: str, vm: str, **fields: object) -> str:
        record = self.nodes[host].inventory.vm(vm)
        wish = PlaceWish.model_validate({"record": record, "what": "start", "is_admitted": True, **fields})
        return (await self.placements(host).place(wish)).host


@pytest.fixture
async def cluster(tmp_path: Path) -> Cluster:
    """Vms a, b, c and d want 10 GiB each: one a host, and two of them are all that may run."""
    found = Cluster(tmp_path)
    await found.begin()
    for name in "abcd":
        await found.add(definition(name=name, nics=(), memory_bytes=10 * GIB - 64 * 1024**2))
    for node in found.nodes.values():
        await node.inventory.set_setting("das.enabled", True)
        await node.inventory.set_setting("das.failoverlevel", 1)
    return found


async def test_starts_in_quick_succession_go_to_different_hosts(cluster: Cluster) -> None:
    assert [await cluster.place("host1", "a"), await cluster.place("host1", "b")] == ["host1", "host2"]


@pytest.mark.parametrize("hosts", [("host1", "host1", "host1"), ("host1", "host2", "host1")])
async def test_starts_at_once_never_use_up_what_is_kept(cluster: Cluster, hosts: tuple[str, ...]) -> None:
    """Through one host, and through several: all ask the active primary."""
    asked = zip(hosts, "abc", strict=True)
    found = await asyncio.gather(*(cluster.place(h, vm) for h, vm in asked), return_exceptions=True)
    assert sorted(f for f in found if isinstance(f, str)) == ["host1", "host2"]
    (refused,) = [f for f in found if isinstance(f, BaseException)]
    assert isinstance(refused, Refused)
    assert "a (10.00 GiB) would not fit on the others if host1 failed" in refused.cause


async def test_a_start_its_host_tells_of_is_not_counted_twice(cluster: Cluster) -> None:
    await cluster.place("host1", "a")
    cluster.starting["a"] = "host1"
    assert await cluster.place("host1", "b") == "host2"
    with pytest.raises(Refused):
        await cluster.place("host1", "c")
    cluster.starting.clear()  # it failed: its room is free again, that of b is not
    assert await cluster.place("host1", "c") == "host1"


async def test_one_that_was_never_begun_counts_no_more_after_a_while(cluster: Cluster) -> None:
    for vm in "ab":
        await cluster.place("host1", vm)
    with pytest.raises(Refused):
        await cluster.place("host1", "c")
    await cluster.nodes["host2"].world.clock.sleep(BEGUN_S)
    assert await cluster.place("host1", "c") == "host1"


async def test_the_same_vm_again_does_not_stand_in_its_own_way(cluster: Cluster) -> None:
    assert [await cluster.place("host1", "a") for _ in range(3)] == ["host1"] * 3


@pytest.mark.parametrize("trouble", ["silent", "failed", "none"])
async def test_without_an_active_primary_a_host_decides_by_itself(cluster: Cluster, trouble: str) -> None:
    if trouble == "silent":
        cluster.gone.add("host2")
    elif trouble == "failed":
        cluster.verdicts["host2"] = Verdict.FAILED
    else:
        cluster.active = ""
    assert await cluster.place("host1", "a") == "host1"
    if trouble != "failed":
        assert await cluster.place("host1", "b") == "host2"


async def test_a_forced_start_is_placed_and_says_what_it_breaks(cluster: Cluster) -> None:
    for vm in "ab":
        await cluster.place("host1", vm)
    wish = PlaceWish(
        record=cluster.nodes["host1"].inventory.vm("c"), what="start", is_admitted=True, is_forced=True
    )
    found = await cluster.placements("host1").place(wish)
    assert found.host == "host3"
    assert "das.failoverlevel" in found.overridden


# the target has the last word -----------------------------------------------------------------------------


def full(node: Node, calls: Counter[str]) -> Callable[[VmDefinition], None]:
    def reserve(vm: VmDefinition) -> None:
        calls[node.vms.host] += 1
        raise Refused(f"{vm.name} needs 10.00 GiB of memory, {node.vms.host} has 7.81 left", "choose another host")

    return reserve


async def test_a_host_that_has_no_room_after_all_is_passed_over(cluster: Cluster) -> None:
    calls = Counter[str]()
    one, two = cluster.nodes["host1"], cluster.nodes["host2"]
    one.vms.reserve = full(one, calls)
    task = await one.operations.start_vm("a", StartVm())
    assert (task.owner, calls) == ("host2", {"host1": 1})
    await two.world.clock.sleep(BEGUN_S)
    two.vms.reserve = full(two, calls)
    cluster.verdicts["host3"] = Verdict.MAINTENANCE
    await cluster.nodes["host1"].inventory.set_setting("das.failoverlevel", 0)
    await cluster.nodes["host2"].inventory.set_setting("das.failoverlevel", 0)
    with pytest.raises(Refused) as refused:
        await one.operations.start_vm("b", StartVm())
    assert "b cannot start: no host can take it" in refused.value.cause
    assert refused.value.cause.count("has 7.81 left") == 2
    assert "choose another host" not in refused.value.next_step


async def test_a_named_host_is_not_replaced_by_another(cluster: Cluster) -> None:
    one, calls = cluster.nodes["host1"], Counter[str]()
    one.vms.reserve = full(one, calls)
    with pytest.raises(Refused, match=r"host1 has 7\.81 left"):
        await one.operations.start_vm("a", StartVm(host="host1"))


async def test_a_host_that_does_not_answer_is_not_passed_over(cluster: Cluster) -> None:
    """It may have begun."""
    cluster.active = ""
    cluster.verdicts["host1"] = Verdict.FAILED
    cluster.gone.add("host2")
    with pytest.raises(Unreachable):
        await cluster.nodes["host1"].operations.start_vm("a", StartVm())


async def test_the_target_holds_the_room_from_its_answer_until_the_start_is_over(cluster: Cluster) -> None:
    two = cluster.nodes["host2"]
    task = await two.operations.start_vm("a", StartVm(host="host2"))
    assert [d.name for d in two.vms.starting()] == ["a"]
    await two.end_of(task)  # there is no QEMU: it fails
    assert two.vms.starting() == []
