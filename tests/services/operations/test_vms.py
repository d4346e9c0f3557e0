from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from tests.core.facts import definition
from tests.services.operations.cluster_of_two import ClusterOfTwo
from zugvogel.core import lease_rules
from zugvogel.domain.ha import Monitoring, RestartPriority, VmPolicy
from zugvogel.domain.host import Verdict, VmReport
from zugvogel.domain.lease import LeaseState
from zugvogel.domain.requests import ChangePolicy, ChangeVm, CreateVm, NewDisk, RegisterVm
from zugvogel.domain.task import Task, TaskState
from zugvogel.domain.vm import VmDefinition, VmRecord, VmState
from zugvogel.errors import LeaseTaken, NotFound, Refused
from zugvogel.ports.hypervisor import Machine
from zugvogel.services.local_vms import Guest
from zugvogel.services.operations.vms import PORTION

MIB = 1024**2
WISH = CreateVm(name="web1", memory_bytes=64 * MIB, cpus=1, networks=(), disks=(NewDisk(size_bytes=MIB),))


@pytest.fixture
async def cluster(tmp_path: Path) -> ClusterOfTwo:
    found = ClusterOfTwo(tmp_path)
    await found.begin()
    return found


async def test_a_create_that_fails_after_its_disk_tells_why_and_leaves_nothing(cluster: ClusterOfTwo) -> None:
    node = cluster.nodes["host1"]
    wrong = cluster.path / "user-data"
    wrong.write_text("hello")
    wish = WISH.model_copy(update={"cloud_init": str(wrong)})
    task = await node.end_of(await node.operations.create_vm(wish))
    assert task.error is not None
    assert "no user-data" in task.error.cause
    assert not (cluster.path / "web1").exists()


async def test_a_create_whose_folder_cannot_be_removed_still_tells_the_first_error(cluster: ClusterOfTwo) -> None:
    node = cluster.nodes["host1"]
    folders, create_disk = node.store.folders, node.store.folders.create_disk

    async def and_a_foreign_file(vm: str, file: str, format: str, size_bytes: int) -> None:
        await create_disk(vm, file, format, size_bytes)
        (cluster.path / vm / "thesis.odt").touch()

    folders.create_disk = and_a_foreign_file
    wish = WISH.model_copy(update={"disks": (NewDisk(size_bytes=MIB), NewDisk(size_bytes=2**62))})
    task = await node.end_of(await node.operations.create_vm(wish))
    assert task.error is not None
    assert "thesis" not in task.error.cause
    assert (cluster.path / "web1/disk0").exists()


async def test_a_create_without_an_answer_of_the_registry_keeps_the_folder(cluster: ClusterOfTwo) -> None:
    node = cluster.nodes["host1"]
    create = node.store.folders.create

    async def and_the_registry_goes_away(made: VmDefinition) -> None:
        await create(made)
        cluster.registry.is_reachable = False

    node.store.folders.create = and_the_registry_goes_away
    task = await node.end_of(await node.operations.create_vm(WISH))
    assert task.error is not None
    assert "zv vm register web1" in task.error.next_step
    assert (cluster.path / "web1/disk0").exists()


async def test_nothing_is_made_without_the_registry(cluster: ClusterOfTwo) -> None:
    node = cluster.nodes["host1"]
    cluster.registry.is_reachable = False
    task = await node.end_of(await node.operations.create_vm(WISH))
    assert task.error is not None
    assert "web1 was not made" in task.error.cause
    assert not (cluster.path / "web1").exists()


async def test_a_suspended_vm_is_registered_as_suspended(cluster: ClusterOfTwo) -> None:
    node = cluster.nodes["host1"]
    await cluster.add(definition())
    await node.operations.unregister_vm("web1")
    runs = await node.store.leases.claim(lease_rules.start(None, "web1", node.me, has_qemu=False, why="test"))
    await node.store.leases.claim(lease_rules.suspend(runs, "web1", node.me, "m1", why="test"))
    view = await node.operations.register_vm(RegisterVm(name="web1"))
    assert view.state is VmState.SUSPENDED
    with pytest.raises(Refused, match="suspended"):
        await node.operations.delete_vm("web1")


async def test_delete_removes_folder_and_record(cluster: ClusterOfTwo) -> None:
    node = cluster.nodes["host1"]
    await cluster.add(definition())
    task = await node.end_of(await node.operations.delete_vm("web1"))
    assert task.state is TaskState.DONE, task.error
    assert not (cluster.path / "web1").exists()
    with pytest.raises(NotFound):
        node.inventory.vm("web1")


async def test_no_host_starts_a_vm_while_it_is_deleted(cluster: ClusterOfTwo) -> None:
    one, two = cluster.nodes["host1"], cluster.nodes["host2"]
    await cluster.add(definition())
    before = await two.store.leases.read("web1")
    reached, go_on = asyncio.Event(), asyncio.Event()
    delete = one.store.folders.delete

    async def held_up(vm: str) -> None:
        reached.set()
        await go_on.wait()
        await delete(vm)

    one.store.folders.delete = held_up
    task = await one.operations.delete_vm("web1")
    await reached.wait()
    assert one.vms.is_in_care("web1")  # nobody gives its lease free for having no QEMU here
    early = lease_rules.start(before, "web1", two.me, has_qemu=False, why="read before the delete")
    with pytest.raises(LeaseTaken):
        await two.store.leases.claim(early)
    with pytest.raises(Refused, match="held by host1"):
        lease_rules.start(await two.store.leases.read("web1"), "web1", two.me, has_qemu=False, why="read later")
    started = await one.world.handlers["vm.start"]({"vm": "web1"})
    ended = await one.end_of(await one.tasks.get(started["id"]))
    assert ended.error is not None
    assert "being deleted" in ended.error.cause
    go_on.set()
    assert (await one.end_of(task)).state is TaskState.DONE
    assert not (cluster.path / "web1").exists()
    assert not one.vms.is_in_care("web1")


async def test_a_refused_delete_gives_the_vm_free_again(cluster: ClusterOfTwo) -> None:
    node = cluster.nodes["host1"]
    await cluster.add(definition())
    (cluster.path / "web1/thesis.odt").touch()
    task = await node.end_of(await node.operations.delete_vm("web1"))
    assert task.error is not None
    assert "thesis" in task.error.cause
    lease = await node.store.leases.read("web1")
    assert (lease.state, lease.epoch) == (LeaseState.RELEASED, 2)


async def test_a_delete_that_was_cut_off_is_done_again(cluster: ClusterOfTwo) -> None:
    node = cluster.nodes["host1"]
    await cluster.add(definition())
    await node.store.leases.claim(lease_rules.start(None, "web1", node.me, has_qemu=False, why="being deleted"))
    with pytest.raises(Refused, match="running on host1"):
        await cluster.nodes["host2"].operations.delete_vm("web1")
    task = await node.end_of(await node.operations.delete_vm("web1"))
    assert task.state is TaskState.DONE, task.error


async def test_the_policy_of_a_running_vm_counts_at_once(cluster: ClusterOfTwo) -> None:
    node = cluster.nodes["host1"]
    await cluster.add(definition(nics=()), observed=VmState.RUNNING, host="host1", epoch=1, wanted="running")
    wish = ChangePolicy(restart_priority=RestartPriority.HIGH, preferred_hosts=("host2",), anti_affinity="web")
    await node.operations.change_vm("web1", ChangeVm(ha=wish))
    for found in (await node.store.folders.read("web1"), node.inventory.vm("web1").definition):
        assert found.ha == VmPolicy(
            restart_priority=RestartPriority.HIGH, preferred_hosts=("host2",), anti_affinity="web"
        )
    await node.operations.change_vm(
        "web1", ChangeVm(ha=ChangePolicy(preferred_hosts=(), isolation_response="suspend"))
    )
    policy = node.inventory.vm("web1").definition.ha
    assert (policy.preferred_hosts, policy.isolation_response, policy.anti_affinity) == ((), "suspend", "web")
    with pytest.raises(NotFound, match="host9"):
        await node.operations.change_vm("web1", ChangeVm(ha=ChangePolicy(preferred_hosts=("host9",))))


async def test_a_vm_is_made_with_its_policy(cluster: ClusterOfTwo) -> None:
    node = cluster.nodes["host1"]
    policy = VmPolicy(restart_priority=RestartPriority.DISABLED, preferred_hosts=("host2",))
    task = await node.end_of(await node.operations.create_vm(WISH.model_copy(update={"ha": policy})))
    assert task.state is TaskState.DONE, task.error
    assert (await node.store.folders.read("web1")).ha == node.inventory.vm("web1").definition.ha == policy
    wrong = WISH.model_copy(update={"name": "web2", "ha": VmPolicy(preferred_hosts=("host9",))})
    with pytest.raises(NotFound, match="host9"):
        await node.operations.create_vm(wrong)


async def test_a_device_that_a_running_vm_lacks_is_told_to_wait_for_its_next_start(cluster: ClusterOfTwo) -> None:
    node, made = cluster.nodes["host1"], definition(name="web1")
    await cluster.add(made, observed=VmState.RUNNING, wanted="running", host="host1", epoch=1)
    for level in (Monitoring.GUEST, Monitoring.CRASH):
        await node.operations.change_vm("web1", ChangeVm(ha=ChangePolicy(monitoring=level)))
    first, second = [e.message for e in await node.events.list()]
    assert first == "web1 was changed; it gets its watchdog at its next start"
    assert second == "web1 was changed"


async def test_a_vm_is_made_with_a_display_unless_it_is_to_have_none(cluster: ClusterOfTwo) -> None:
    node = cluster.nodes["host1"]
    wishes = (WISH, WISH.model_copy(update={"name": "web2", "display": "none"}))
    for wish in wishes:
        await node.end_of(await node.operations.create_vm(wish))
    assert [(await node.store.folders.read(w.name)).display for w in wishes] == ["vga", "none"]


async def test_a_vm_toml_from_before_there_were_displays_gets_none_until_it_is_asked_for(
    cluster: ClusterOfTwo,
) -> None:
    node = cluster.nodes["host1"]
    await cluster.add(definition(nics=()))
    file = cluster.path / "web1/vm.toml"
    file.write_text(file.read_text().replace('display = "none"\n', ""))
    assert "display" not in file.read_text()
    await node.operations.change_vm("web1", ChangeVm(cpus=4))
    assert (await node.store.folders.read("web1")).display == "none"
    await node.operations.change_vm("web1", ChangeVm(display="vga"))
    assert (await node.store.folders.read("web1")).display == "vga"
    assert node.inventory.vm("web1").definition.display == "vga"


# a user's stop outlives its host --------------------------------------------------------------------------


class Ending:
    """web1 runs on host1; `during` is what happens while it is stopped."""

    def __init__(self, cluster: ClusterOfTwo) -> None:
        self.node = cluster.nodes["host1"]
        self.is_alive = True
        self.during: Callable[[], object] = lambda: None
        self.seen: list[str] = []

    async def begin(self, cluster: ClusterOfTwo) -> None:
        made = definition(name="web1", nics=())
        await cluster.add(made, observed=VmState.RUNNING, host="host1", epoch=1, wanted="running")
        await self.node.store.leases.claim(lease_rules.start(None, "web1", self.node.me, has_qemu=False, why=""))
        self.node.vms.guests["web1"] = Guest(cast(Machine, self), made, "nfs1", 1)

    async def powerdown(self) -> None:
        record = await self.node.inventory._registry.get("vms/web1")
        assert record is not None
        self.seen.append(VmRecord.model_validate_json(record.value).wanted)
        self.during()

    async def stop(self) -> TaskState:
        answer = await self.node.world.handlers["vm.stop"]({"vm": "web1", "timeout_s": 0.01})
        return (await self.node.end_of(Task.model_validate(answer))).state


async def test_a_users_stop_is_written_before_it_is_done(cluster: ClusterOfTwo) -> None:
    ending = Ending(cluster)
    await ending.begin(cluster)
    guest = ending.node.vms.guests["web1"]

    def powers_off() -> None:
        del ending.node.vms.guests["web1"]
        guest.ended.set()

    ending.during = powers_off
    assert await ending.stop() is TaskState.DONE
    assert ending.seen == ["stopped"]
    assert ending.node.inventory.vm("web1").wanted == "stopped"  # though nobody has released its lease


async def test_one_that_runs_on_after_all_is_wanted_again(cluster: ClusterOfTwo) -> None:
    ending = Ending(cluster)
    await ending.begin(cluster)
    assert await ending.stop() is TaskState.FAILED
    assert (ending.seen[0], ending.node.inventory.vm("web1").wanted) == ("stopped", "running")


async def test_a_stop_does_not_wait_for_a_registry_without_a_majority(cluster: ClusterOfTwo) -> None:
    ending = Ending(cluster)
    await ending.begin(cluster)
    guest = ending.node.vms.guests["web1"]
    pressed: list[str] = []

    async def powerdown() -> None:
        pressed.append("power button")
        guest.ended.set()

    ending.powerdown = powerdown  # type: ignore[method-assign]
    cluster.registry.is_reachable = False
    await ending.node.operations._ended("web1", lambda: ending.node.vms.stop("web1", 1.0, asyncio.Event()))
    assert pressed == ["power button"]


async def test_a_vm_that_did_not_change_is_the_same_view_and_one_that_did_is_not(cluster: ClusterOfTwo) -> None:
    node = cluster.nodes["host1"]
    for number in range(2 * PORTION + 1):
        await node.inventory.put(
            f"vms/web{number}", VmRecord(definition=definition(name=f"web{number}"), datastore="nfs1")
        )
    first = await node.operations.vms()
    assert len(first) == 2 * PORTION + 1
    assert all(one is other for one, other in zip(first, await node.operations.vms(), strict=True))
    record = node.inventory.vm("web7")
    await node.inventory.put("vms/web7", record)  # written again, and nothing is new
    assert all(one is other for one, other in zip(first, await node.operations.vms(), strict=True))
    await node.inventory.put("vms/web7", record.model_copy(update={"why": "somebody wanted it so"}))
    await node.inventory.delete("vms/web8")
    now = {vm.name: vm for vm in await node.operations.vms()}
    assert now["web7"].why == "somebody wanted it so"
    assert {vm.name for vm in first} - set(now) == {"web8"}
    assert [vm.name for vm in first if vm.name in now and now[vm.name] is not vm] == ["web7"]


async def test_a_view_follows_what_hosts_report(cluster: ClusterOfTwo) -> None:
    node = cluster.nodes["host1"]
    await cluster.add(definition())
    assert [vm.state for vm in await node.operations.vms()] == [VmState.STOPPED]
    seen, statuses = (
        VmReport(name="web1", state=VmState.RUNNING, epoch=1, memory_bytes=1, cpus=1),
        cluster.statuses(),
    )
    report = statuses[1].report
    assert report is not None
    statuses[1] = statuses[1].model_copy(update={"report": report.model_copy(update={"vms": (seen,)})})
    cluster.statuses = lambda: statuses  # type: ignore[method-assign]
    assert [(vm.state, vm.host) for vm in await node.operations.vms()] == [(VmState.RUNNING, "host2")]
    statuses[1] = statuses[1].model_copy(update={"verdict": Verdict.FAILED})
    assert [vm.state for vm in await node.operations.vms()] == [VmState.UNKNOWN]
