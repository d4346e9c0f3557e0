from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.core.facts import definition
from tests.services.operations.cluster_of_two import ClusterOfTwo
from zugvogel.core import lease_rules
from zugvogel.domain.host import Verdict
from zugvogel.domain.lease import Holder, Lease, LeaseState
from zugvogel.domain.vm import VmState
from zugvogel.errors import Refused, StorageError

DEAD = Holder(host="host3", boot_id="b")


@pytest.fixture
async def cluster(tmp_path: Path) -> ClusterOfTwo:
    found = ClusterOfTwo(tmp_path)
    await found.begin()
    found.verdicts["host3"] = Verdict.FAILED
    return found


async def held(cluster: ClusterOfTwo, vm: str, holder: Holder, heir: str | None = None) -> None:
    await cluster.add(
        definition(name=vm, nics=()), observed=VmState.RUNNING, host=holder.host, epoch=1, wanted="running"
    )
    lease = Lease(
        vm=vm, epoch=1, state=LeaseState.RUNNING, holder=holder, heir=heir, migration_id="m" * bool(heir)
    )
    await cluster.nodes["host1"].store.leases.claim(lease)


async def test_its_vms_are_released_and_others_are_left(cluster: ClusterOfTwo) -> None:
    one = cluster.nodes["host1"]
    await held(cluster, "web1", DEAD)
    await held(cluster, "web2", cluster.nodes["host2"].me)
    await held(cluster, "web3", DEAD, heir="host2")
    await held(cluster, "web4", cluster.nodes["host2"].me, heir="host3")
    task = await one.end_of(await one.hosts.confirm_dead("host3"))
    assert task.report is not None
    assert task.report["released"] == ["web1"]
    assert set(task.report["left"]) == {"web3", "web4"}
    lease = await one.store.leases.read("web1")
    assert (lease.epoch, lease.state, lease.is_failure) == (2, LeaseState.RELEASED, True)
    view = await one.operations.vm("web1")
    assert (view.state, view.host, view.wanted) == (VmState.FAILED, None, "running")
    assert (await one.store.leases.read("web2")).epoch == 1
    kinds = [e.kind for e in await one.events.list(after="", limit=10, subject="")]
    assert kinds == ["vm.failed", "host.confirmed-dead"]


async def test_a_migration_between_two_failed_hosts_is_released(cluster: ClusterOfTwo) -> None:
    one = cluster.nodes["host1"]
    cluster.verdicts["host2"] = Verdict.FAILED
    await held(cluster, "web1", DEAD, heir="host2")
    await held(cluster, "web2", cluster.nodes["host2"].me, heir="host3")
    task = await one.end_of(await one.hosts.confirm_dead("host3"))
    assert task.report == {"released": ["web1", "web2"], "left": {}}


@pytest.mark.parametrize("verdict", [v for v in Verdict if v is not Verdict.FAILED])
async def test_a_host_with_a_sign_of_life_is_refused(cluster: ClusterOfTwo, verdict: Verdict) -> None:
    cluster.verdicts["host3"] = verdict
    with pytest.raises(Refused, match=f"host3 is {verdict}"):
        await cluster.nodes["host1"].hosts.confirm_dead("host3")


async def test_a_host_that_goes_on_after_its_leases_were_read_keeps_its_vms(cluster: ClusterOfTwo) -> None:
    one = cluster.nodes["host1"]
    for vm in ("web1", "web2"):
        await held(cluster, vm, DEAD)
    sleep, began = one.world.clock.sleep, one.world.clock.monotonic()

    async def wakes(seconds: float) -> None:
        cluster.verdicts["host3"] = Verdict.LIVE
        await sleep(seconds)

    one.world.clock.sleep = wakes  # type: ignore[method-assign]
    task = await one.end_of(await one.hosts.confirm_dead("host3"))
    assert task.report is not None
    assert task.report["released"] == []
    assert set(task.report["left"]) == {"web1", "web2"}
    assert "host3 is live" in task.report["left"]["web1"]
    assert (await one.store.leases.read("web1")).epoch == 1
    assert one.world.clock.monotonic() - began >= 3.0  # no verdict rests on an older reading of the beats


async def test_each_vm_is_released_by_a_verdict_of_its_own(cluster: ClusterOfTwo) -> None:
    one = cluster.nodes["host1"]
    for vm in ("web1", "web2"):
        await held(cluster, vm, DEAD)
    emit = one.events.emit

    def wakes(kind: str, subject: str, *more: Any, **fields: Any) -> None:
        if kind == "vm.failed":
            cluster.verdicts["host3"] = Verdict.PARTITIONED
        emit(kind, subject, *more, **fields)

    one.events.emit = wakes  # type: ignore[method-assign]
    task = await one.end_of(await one.hosts.confirm_dead("host3"))
    assert task.report is not None
    assert task.report["released"] == ["web1"]
    assert "host3 is partitioned" in task.report["left"]["web2"]


async def test_a_lease_that_has_gone_on_is_left(cluster: ClusterOfTwo) -> None:
    one = cluster.nodes["host1"]
    await held(cluster, "web1", DEAD)
    sleep = one.world.clock.sleep

    async def thaws(seconds: float) -> None:
        lease = await one.store.leases.read("web1")
        if lease.epoch == 1:
            await one.store.leases.claim(lease_rules.go_on(lease, "web1", DEAD, why="thawed"))
        await sleep(seconds)

    one.world.clock.sleep = thaws  # type: ignore[method-assign]
    task = await one.end_of(await one.hosts.confirm_dead("host3"))
    assert task.report is not None
    assert set(task.report["left"]) == {"web1"}
    assert (await one.store.leases.read("web1")).holder == DEAD


async def test_the_living_side_of_a_move_is_asked(cluster: ClusterOfTwo) -> None:
    one, two = cluster.nodes["host1"], cluster.nodes["host2"]
    asked: list[tuple[str, dict[str, Any]]] = []

    async def abort(payload: dict[str, Any]) -> dict[str, Any]:
        asked.append(("abort", payload))
        phase = "running" if payload["vm"] == "web2" else "gone"
        return {"migration_id": "m", "phase": phase, "is_loaded": True}

    async def give_up(payload: dict[str, Any]) -> dict[str, Any]:
        asked.append(("give up", payload))
        if payload["vm"] == "web4":
            raise Refused("web4 has not been handed over to host3", "")
        return {}

    two.world.handlers.update({"migration.abort": abort, "ha.give_up": give_up})
    for vm in ("web1", "web2"):
        await held(cluster, vm, DEAD, heir="host2")
    for vm in ("web3", "web4"):
        await held(cluster, vm, two.me, heir="host3")
    task = await one.end_of(await one.hosts.confirm_dead("host3"))
    assert task.report is not None
    assert task.report["released"] == ["web1", "web3"]
    assert set(task.report["left"]) == {"web2", "web4"}
    assert "has taken web2 over" in task.report["left"]["web2"]
    assert (await one.store.leases.read("web3")).state is LeaseState.RELEASED
    assert [(what, p["vm"], p.get("dead_heir")) for what, p in asked] == [
        ("abort", "web1", None),
        ("abort", "web2", None),
        ("give up", "web3", "host3"),
        ("give up", "web4", "host3"),
    ]


async def test_a_host_that_holds_a_vm_by_its_lease_alone_is_not_removed(cluster: ClusterOfTwo) -> None:
    """The registry never heard that it was started there, or that it was migrated there."""
    one = cluster.nodes["host1"]
    await cluster.add(definition(name="web1", nics=()), wanted="running")
    await one.store.leases.claim(Lease(vm="web1", epoch=1, state=LeaseState.RUNNING, holder=DEAD))
    await held(cluster, "web2", cluster.nodes["host2"].me, heir="host3")
    with pytest.raises(Refused, match="host3 still holds web1, web2") as refused:
        await one.hosts.remove_host("host3")
    assert "zv host confirm-dead host3" in refused.value.next_step
    assert cluster.removed == set()


async def test_a_host_whose_leases_cannot_be_read_is_removed_and_that_is_told(cluster: ClusterOfTwo) -> None:
    one = cluster.nodes["host1"]
    await held(cluster, "web1", DEAD)
    mounted = one.world.mounted

    def fails(_datastore: str) -> Any:
        raise StorageError("the datastore is gone")

    one.world.mounted = fails
    await one.hosts.remove_host("host3")
    (told,) = await one.events.list(limit=10)
    assert "the leases of web1 could not be read" in told.message
    one.world.mounted = mounted
    cluster.silent = {"host3"}
    task = await one.end_of(await one.hosts.confirm_dead("host3"))
    assert task.report == {"released": ["web1"], "left": {}}
    assert (await one.store.leases.read("web1")).is_failure


async def test_a_removed_host_that_still_beats_keeps_its_vms(cluster: ClusterOfTwo) -> None:
    one = cluster.nodes["host1"]
    await held(cluster, "web1", DEAD)
    cluster.removed = {"host3"}
    task = await one.end_of(await one.hosts.confirm_dead("host3"))
    assert task.report is not None
    assert "its beat on nfs1 was not seen to stand still" in task.report["left"]["web1"]
    assert (await one.store.leases.read("web1")).epoch == 1


async def test_beats_that_nobody_had_read_here_are_given_time(cluster: ClusterOfTwo) -> None:
    one = cluster.nodes["host1"]
    await held(cluster, "web1", DEAD)
    cluster.removed = {"host3"}
    began = one.world.clock.monotonic()
    one.world.shows_no_life = lambda _store, _host: one.world.clock.monotonic() > began + 20
    task = await one.end_of(await one.hosts.confirm_dead("host3"))
    assert task.report == {"released": ["web1"], "left": {}}


async def test_a_migration_between_a_removed_host_and_another(cluster: ClusterOfTwo) -> None:
    one = cluster.nodes["host1"]
    await held(cluster, "web1", DEAD, heir="host2")
    await held(cluster, "web2", DEAD, heir="host9")
    cluster.removed, cluster.silent = {"host3"}, {"host3", "host9"}
    task = await one.end_of(await one.hosts.confirm_dead("host3"))
    assert task.report is not None
    assert task.report["released"] == ["web2"]
    assert set(task.report["left"]) == {"web1"}  # host2, which may run it, does not make sure that it never will


async def test_a_host_that_nobody_knows_is_not_found(cluster: ClusterOfTwo) -> None:
    one = cluster.nodes["host1"]
    await held(cluster, "web1", DEAD)
    task = await one.end_of(await one.hosts.confirm_dead("host7"))
    assert task.error is not None
    assert "there is no host host7, and no vm is held by it" in task.error.cause
