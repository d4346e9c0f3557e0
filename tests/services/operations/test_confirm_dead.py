from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.facts import definition
from tests.services.operations.cluster_of_two import ClusterOfTwo
from zugvogel.domain.host import Verdict
from zugvogel.domain.lease import Holder, Lease, LeaseState
from zugvogel.domain.vm import VmState
from zugvogel.errors import Refused

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
