"""zugvogel.services.ha.holding"""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.services.ha.held_world import ME, OTHER, FakeMachine, HeldHost
from zugvogel.domain.host import VmReport
from zugvogel.domain.lease import Lease, LeaseState
from zugvogel.domain.vm import VmState
from zugvogel.ports.hypervisor import Machine
from zugvogel.services.ha.holding import WHY
from zugvogel.services.local_vms import LOOKING, MIGRATING, SAVING


async def running(datastores: tuple[str, ...] = ("ds",)) -> tuple[HeldHost, Any, FakeMachine]:
    host = HeldHost(datastores=datastores)
    await host.load()
    host.vms.network = cast(Any, NoAddresses())
    guest, machine = host.admit("web")
    await host.seconds(2)
    assert machine.done == []
    return host, guest, machine


class NoAddresses:
    @staticmethod
    def learned_addresses(_mac: str) -> tuple[str, ...]:
        return ()


def report(host: HeldHost) -> VmReport:
    return host.vms.reports()[0]


def show_another_holder_once(host: HeldHost) -> None:
    """At the next look at the lease, which is wrong."""
    leases, real = host.leases["ds"], host.leases["ds"].read
    elsewhere = Lease(vm="web", epoch=9, state=LeaseState.RUNNING, holder=OTHER)
    looks = 0

    async def read(vm: str) -> Any:
        nonlocal looks
        looks += 1
        return elsewhere if looks == 1 else await real(vm)

    leases.read = read  # type: ignore[method-assign]


# vms that run -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"holder": OTHER},
        {"holder": OTHER, "migration_id": "m1"},
        {"holder": None},
        {"holder": None, "state": LeaseState.SUSPENDED},
        {"holder": ME, "state": LeaseState.RESUMING},
    ],
)
async def test_a_vm_whose_lease_went_elsewhere_is_frozen_then_ended(fields: dict[str, Any]) -> None:
    host, guest, machine = await running()
    host.leases["ds"].link("web", **fields)
    epoch = host.leases["ds"].now("web").epoch
    await host.seconds(1)
    assert machine.done == ["freeze", "kill"]
    assert host.told == [("vm.fenced", "web")]
    assert (host.vms.guests, guest.is_handed_over) == ({}, True)
    assert host.leases["ds"].now("web").epoch == epoch  # nothing of it was this host's to release


async def test_a_vm_whose_lease_is_gone_is_ended_and_told_as_failed() -> None:
    host, _, machine = await running()
    host.leases["ds"].chains.clear()
    host.folders.gone.add("web")
    await host.seconds(1)
    assert machine.done == ["freeze", "kill"]
    assert host.inventory._pending["web"].observed is VmState.FAILED


async def test_an_own_newer_epoch_is_no_loss() -> None:
    host, _, machine = await running()
    host.leases["ds"].link("web")
    host.leases["ds"].link("web", heir="h2", migration_id="m1")
    await host.seconds(2)
    assert (machine.done, host.told) == ([], [])
    await host.close()


@pytest.mark.parametrize("busy", [MIGRATING, SAVING, LOOKING])
async def test_a_vm_in_a_move_is_left_to_the_move(busy: str) -> None:
    host, guest, machine = await running()
    guest.busy = busy
    host.leases["ds"].link("web", OTHER)
    await host.seconds(2)
    assert (machine.done, host.told) == ([], [])
    await host.close()


async def test_one_look_that_shows_another_holder_is_not_believed() -> None:
    host, _, machine = await running()
    show_another_holder_once(host)
    await host.seconds(1)
    assert machine.done == ["freeze"]
    await host.seconds(1)
    assert machine.done == ["freeze", "thaw", "announce"]
    assert machine.let_go_at == [2]
    assert host.kinds() == ["vm.frozen", "vm.thawed"]
    await host.close()


async def test_a_lease_that_cannot_be_read_ends_nothing_and_holds_up_nobody() -> None:
    host, _, machine = await running(("ds", "broken", "hung"))
    others = [host.admit(f"on-{name}", name)[1] for name in ("broken", "hung")]
    await host.seconds(1)
    host.leases["broken"].is_broken = True
    host.mounts["hung"].fault = "hang"
    host.leases["ds"].link("web", OTHER)
    for name in ("broken", "hung"):
        host.leases[name].link(f"on-{name}", OTHER)
    await host.seconds(2)
    assert machine.done == ["freeze", "kill"]
    assert [m.done for m in others] == [[], []]
    host.leases["broken"].is_broken = False
    await host.seconds(1)
    assert others[0].done == ["freeze", "kill"]
    await host.close()


async def test_a_damaged_lease_holds_up_no_other_vm_of_its_datastore() -> None:
    host, _, machine = await running()
    leases, real = host.leases["ds"], host.leases["ds"].read
    _, other = host.admit("other", pid=101)

    async def read(vm: str) -> Any:
        leases.is_broken = vm == "web"
        return await real(vm)

    leases.read = read  # type: ignore[method-assign]
    leases.link("other", OTHER)
    await host.seconds(1)
    assert (machine.done, other.done) == ([], ["freeze", "kill"])
    await host.close()


@pytest.mark.parametrize("is_enabled", [True, False])
async def test_where_another_machine_has_this_name_vms_are_frozen_and_ended_once_their_lease_is_gone(
    is_enabled: bool,
) -> None:
    host, _, machine = await running()
    await host.set("das.enabled", is_enabled)
    host.vms.ends.namesakes.other_writes("ds", "boot of another machine")
    await host.seconds(8)
    assert machine.done == ["freeze"]
    assert ("vm.frozen", "web") in host.told
    host.leases["ds"].link("web", None)
    await host.seconds(8)
    assert machine.done == ["freeze", "kill"]
    assert host.vms.guests == {}
    await host.close()


async def test_without_high_availability_what_was_stopped_by_hand_stays_so() -> None:
    host, _, machine = await running()
    await host.set("das.enabled", False)
    await host.seconds(4)  # what is stopped just then may be the guard's
    machine.is_frozen = True
    await host.seconds(12)
    assert (machine.done, host.told) == ([], [])
    await host.close()


async def test_without_high_availability_a_lease_that_went_elsewhere_is_still_seen_though_later() -> None:
    """Its host was confirmed dead, and was not."""
    host, _, machine = await running()
    await host.set("das.enabled", False)
    await host.seconds(6)
    leases, reads = host.leases["ds"], list[str]()
    real = leases.read

    async def read(vm: str) -> Any:
        reads.append(vm)
        return await real(vm)

    leases.read = read  # type: ignore[method-assign]
    await host.seconds(10)
    assert len(reads) == 2
    leases.link("web", None)
    await host.seconds(5)
    assert machine.done == ["freeze", "kill"]
    assert host.told == [("vm.fenced", "web")]


async def test_without_high_availability_a_look_that_was_wrong_lets_it_go_on() -> None:
    host, guest, machine = await running()
    await host.set("das.enabled", False)
    await host.seconds(3)
    show_another_holder_once(host)
    await host.seconds(6)
    assert machine.done == ["freeze", "thaw", "announce"]
    assert (machine.is_frozen, guest.frozen_why) == (False, "")
    await host.close()


# vms that are frozen -----------------------------------------------------------------------------------------


async def test_a_short_outage_costs_no_state() -> None:
    host, guest, machine = await running()
    host.mounts["ds"].fault = "error"
    await host.seconds(8)
    machine.is_frozen = True  # the guard
    await host.seconds(3)
    assert (guest.frozen_why, report(host).state) == (WHY, VmState.FROZEN)
    assert host.told == [("vm.frozen", "web")]
    assert machine.done == []
    host.mounts["ds"].fault = ""
    await host.seconds(1)
    assert machine.done == ["thaw", "announce"]
    assert machine.let_go_at == [2]
    assert host.told == [("vm.frozen", "web"), ("vm.thawed", "web")]
    assert (guest.epoch, machine.tags["epoch"], guest.frozen_why) == (2, 2, "")
    assert host.inventory._pending["web"].epoch == 2
    await host.seconds(3)
    assert host.leases["ds"].now("web").epoch == 2
    await host.close()


async def test_an_outage_in_which_others_took_over_ends_it() -> None:
    host, guest, machine = await running()
    host.mounts["ds"].fault = "error"
    machine.is_frozen = True
    await host.seconds(20)
    host.leases["ds"].link("web", None)
    host.leases["ds"].link("web", OTHER)
    host.mounts["ds"].fault = ""
    await host.seconds(1)
    assert machine.done == ["kill"]
    assert machine.let_go_at == []
    assert host.kinds() == ["vm.frozen", "vm.fenced"]
    assert guest.is_handed_over
    assert host.leases["ds"].now("web").holder == OTHER


async def test_the_agent_freezes_what_a_guard_that_is_gone_does_not() -> None:
    host, _, machine = await running()
    heir = FakeMachine("heir", host.leases["ds"], pid=101)
    host.vms.run_unclaimed(cast(Machine, heir), "ds")
    host.guard.is_running = False
    await host.seconds(8)
    assert machine.done == []
    await host.seconds(1)
    assert (machine.done, heir.done) == (["freeze"], ["freeze"])
    host.guard.is_running = True
    await host.seconds(1)
    assert machine.done == ["freeze", "thaw", "announce"]
    await host.close()


async def test_a_vm_frozen_in_a_move_goes_on_with_its_heir() -> None:
    host, guest, machine = await running()
    guest.busy = MIGRATING
    host.leases["ds"].link("web", heir="h2", migration_id="m1")
    machine.is_frozen = True
    await host.seconds(1)
    assert machine.let_go_at == [3]
    lease = host.leases["ds"].now("web")
    assert (lease.heir, lease.migration_id, guest.epoch) == ("h2", "m1", 3)
    await host.close()


async def test_a_frozen_source_whose_heir_claimed_is_ended_and_the_move_tells_of_it() -> None:
    host, guest, machine = await running()
    guest.busy = MIGRATING
    host.leases["ds"].link("web", OTHER, migration_id="m1")
    machine.is_frozen = True
    await host.seconds(1)
    assert machine.done == ["kill"]
    assert "vm.fenced" not in host.kinds()
    assert host.vms.guests == {"web": guest}  # the move settles it


async def test_after_high_availability_was_turned_off_what_is_frozen_goes_on() -> None:
    host, _, machine = await running()
    host.mounts["ds"].fault = "error"
    machine.is_frozen = True
    await host.seconds(1)
    await host.set("das.enabled", False)
    host.mounts["ds"].fault = ""
    await host.seconds(1)
    assert machine.let_go_at == [2]
    await host.close()


async def test_what_the_guard_froze_just_before_high_availability_was_turned_off_goes_on() -> None:
    host, guest, machine = await running()
    host.mounts["ds"].fault = "error"
    await host.seconds(8)
    await host.set("das.enabled", False)
    machine.is_frozen = True  # no tick in between
    host.mounts["ds"].fault = ""
    await host.seconds(2)
    assert machine.let_go_at == [2]
    assert (guest.frozen_why, host.kinds()) == ("", ["vm.frozen", "vm.thawed"])
    await host.close()


async def test_a_guard_that_died_with_its_report_does_not_keep_it_once_high_availability_is_off() -> None:
    host, _, machine = await running()
    host.mounts["ds"].fault = "error"
    await host.seconds(10)
    machine.is_frozen, host.guard.keeps = True, {"web"}
    await host.seconds(1)
    report = host.guard.report()
    host.guard.report = lambda: report  # type: ignore[method-assign]
    await host.set("das.enabled", False)
    await host.seconds(3)
    host.mounts["ds"].fault = ""
    await host.seconds(2)
    assert machine.let_go_at == [2]
    await host.close()


async def test_one_that_was_let_go_and_did_not_answer_at_once_is_told_as_running() -> None:
    host, guest, machine = await running()
    host.mounts["ds"].fault = "error"
    await host.seconds(8)
    machine.is_frozen = machine.is_mute = True
    await host.seconds(1)
    host.mounts["ds"].fault = ""
    await host.seconds(1)
    assert (guest.epoch, report(host).state) == (2, VmState.FROZEN)
    await host.seconds(1)
    assert (guest.epoch, guest.frozen_why, report(host).state) == (2, "", VmState.RUNNING)
    assert host.kinds() == ["vm.frozen", "vm.thawed"]
    assert (machine.tags["epoch"], host.inventory._pending["web"].epoch) == (2, 2)
    assert host.leases["ds"].now("web").epoch == 2
    await host.close()


@pytest.mark.parametrize("is_frozen", [True, False])
@pytest.mark.parametrize("shown", ["nothing", "an epoch before"])
async def test_an_old_listing_ends_nothing_however_often_it_is_shown(shown: str, is_frozen: bool) -> None:
    host, guest, machine = await running()
    host.leases["ds"].link("web")
    guest.epoch = 2
    leases, real = host.leases["ds"], host.leases["ds"].read

    async def read(vm: str) -> Any:
        return None if shown == "nothing" else Lease(vm=vm, epoch=1, state=LeaseState.RELEASED, holder=None)

    leases.read = read  # type: ignore[method-assign]
    machine.is_frozen = is_frozen
    await host.seconds(5)
    assert machine.done == []
    assert machine.is_frozen is is_frozen
    leases.read = real  # type: ignore[method-assign]
    await host.seconds(1)
    assert machine.let_go_at == ([3] if is_frozen else [])
    leases.link("web", OTHER)
    await host.seconds(1)
    assert machine.done[-1] == "kill"


async def test_what_is_being_killed_is_not_let_go_on() -> None:
    host, guest, machine = await running()
    guest.busy = "killing"
    machine.is_frozen = True
    await host.seconds(1)
    assert machine.done == []
    await host.close()


async def test_each_datastore_lets_its_own_go_on() -> None:
    host, _, machine = await running(("ds", "hung"))
    _, other = host.admit("other", "hung")
    await host.seconds(1)
    for mount in host.mounts.values():
        mount.fault = "error"
    machine.is_frozen = other.is_frozen = True
    await host.seconds(2)
    host.mounts["ds"].fault, host.mounts["hung"].fault = "", "hang"
    await host.seconds(1)
    assert (machine.let_go_at, other.let_go_at) == ([2], [])
    await host.close()
