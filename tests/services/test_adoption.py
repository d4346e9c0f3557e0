"""zugvogel.services.adoption: QEMUs that outlived an earlier agent, above all those that the guard has frozen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.core.facts import definition
from tests.services.ha.held_world import ME, OTHER, FakeMachine, HeldHost, settle
from zugvogel.domain.lease import Holder, LeaseState
from zugvogel.domain.vm import VmRecord
from zugvogel.errors import NotFound, Refused, Unreachable
from zugvogel.ports.hypervisor import Machine, MachineStatus
from zugvogel.services.adoption import Adoption
from zugvogel.services.local_vms import Guest


class AgentStart:
    """A QEMU of web is there, its lease at epoch 1 is this host's; `machine` is what `Hypervisor.adopt` found."""

    def __init__(self, *, is_frozen: bool) -> None:
        self.host = HeldHost()
        self.host.leases["ds"].link("web")
        self.machine = FakeMachine("web", self.host.leases["ds"])
        self.machine.is_frozen = is_frozen
        none = cast(Any, None)
        self.adoption = Adoption(self.host.vms, none, none, self.host.thawing)

    async def begin(self) -> None:
        await self.host.load()
        self.host.vms.expect(["web"])

    async def take_over(self) -> Guest | None:
        guest = await self.adoption.take_over(cast(Machine, self.machine))
        await self.host.close()
        return guest


async def test_one_that_runs_goes_on_under_its_lease() -> None:
    start = AgentStart(is_frozen=False)
    await start.begin()
    guest = await start.take_over()
    assert guest is not None
    assert (guest.epoch, start.machine.done, start.host.vms.unclaimed) == (1, [], {})
    assert start.host.leases["ds"].now("web").epoch == 1


async def test_a_frozen_one_goes_on_only_by_a_new_epoch() -> None:
    start = AgentStart(is_frozen=True)
    await start.begin()
    await start.host.seconds(1)
    guest = await start.take_over()
    assert guest is not None
    assert (guest.epoch, start.machine.let_go_at, start.machine.tags["epoch"]) == (2, [2], 2)
    assert start.host.kinds() == ["vm.thawed"]


async def test_a_frozen_one_waits_for_this_hosts_beat() -> None:
    start = AgentStart(is_frozen=True)
    await start.begin()
    slept = 0

    async def sleep(seconds: float) -> None:
        nonlocal slept
        slept += 1
        assert start.machine.let_go_at == []
        if slept == 3:
            start.host.clock.now += seconds
            await start.host.beats.tick()
            await settle()

    start.host.clock.sleep = sleep  # type: ignore[method-assign]
    assert await start.take_over() is not None
    assert (slept, start.machine.let_go_at) == (3, [2])


async def test_while_it_waits_the_guard_knows_of_it() -> None:
    start = AgentStart(is_frozen=True)
    await start.begin()
    told: list[list[str]] = []

    async def sleep(seconds: float) -> None:
        told.append([vm.vm for vm in start.host.orders.vms])
        await start.machine.kill()

    start.host.clock.sleep = sleep  # type: ignore[method-assign]
    assert await start.take_over() is None
    assert told == [["web"]]
    assert start.host.told == []  # it died, nobody fenced it: its lease is settled as any


@pytest.mark.parametrize("is_frozen", [True, False])
async def test_one_whose_lease_went_elsewhere_is_ended(is_frozen: bool) -> None:
    start = AgentStart(is_frozen=is_frozen)
    start.host.leases["ds"].link("web", OTHER)
    await start.begin()
    await start.host.seconds(1)
    assert await start.take_over() is None
    assert (start.machine.done, start.host.told) == (["kill"], [("vm.fenced", "web")])
    assert not start.host.vms.is_in_care("web")


@pytest.mark.parametrize("is_frozen", [True, False])
async def test_a_listing_older_than_what_was_noted_with_its_qemu_is_waited_out(is_frozen: bool) -> None:
    start = AgentStart(is_frozen=is_frozen)
    leases = start.host.leases["ds"]
    lease = leases.link("web")
    start.machine.tags["epoch"] = 2
    leases.chains["web"] = [leases.chains["web"][0].model_copy(update={"holder": OTHER})]
    await start.begin()
    await start.host.seconds(1)
    slept = 0

    async def sleep(seconds: float) -> None:
        nonlocal slept
        slept += 1
        assert start.machine.done == []
        if slept == 3:
            leases.chains["web"].append(lease)

    start.host.clock.sleep = sleep  # type: ignore[method-assign]
    guest = await start.take_over()
    assert guest is not None
    assert "kill" not in start.machine.done
    assert guest.epoch == (3 if is_frozen else 2)


async def test_one_that_the_guard_freezes_in_the_middle_is_asked_again() -> None:
    start = AgentStart(is_frozen=False)
    await start.begin()
    start.machine.state = MachineStatus.PRELAUNCH
    await start.host.seconds(1)
    start.host.guard.on_tell = lambda: setattr(start.machine, "is_frozen", "web" in start.host.vms.guests)

    async def sleep(seconds: float) -> None:
        start.host.guard.on_tell = lambda: None
        start.machine.is_frozen = False  # Holding

    start.host.clock.sleep = sleep  # type: ignore[method-assign]
    assert await start.take_over() is not None
    assert start.machine.done == ["cont"]
    assert start.host.leases["ds"].now("web").epoch == 2  # an earlier agent's claim: linked anew before it runs


async def test_one_on_a_datastore_that_is_not_known_is_left_alone() -> None:
    start = AgentStart(is_frozen=False)
    await start.begin()

    def mounted(_name: str) -> Any:
        raise NotFound("there is no datastore ds")

    start.host.vms.mounted = mounted
    with pytest.raises(NotFound):
        await start.take_over()
    assert (start.machine.done, start.host.vms.unclaimed) == ([], {})


# leases without a QEMU ----------------------------------------------------------------------------


class Left:
    """An agent's start, with the lease of web this host's and no QEMU; the registry names h2."""

    def __init__(self) -> None:
        self.host = HeldHost(datastores=("ds", "other"))
        self.tidied: list[str] = []

        async def tidy(record: VmRecord) -> None:
            self.tidied.append(record.definition.name)

        async def forget_left(_record: VmRecord) -> None: ...

        moves, suspends = SimpleNamespace(forget_left=forget_left), SimpleNamespace(tidy=tidy)
        self.adoption = Adoption(self.host.vms, cast(Any, moves), cast(Any, suspends))

    async def begin(self) -> None:
        await self.host.load()
        for name, datastore in (("web", "ds"), ("db", "other")):
            self.host.leases[datastore].link(name)
            made = VmRecord(definition=definition(name=name), datastore=datastore, wanted="running", host="h2")
            await self.host.inventory.put(f"vms/{name}", made)

    async def settle(self) -> None:
        self.adoption.settle_leases()
        await self.adoption.looks.over()

    def epochs(self) -> dict[str, int]:
        return {"web": self.host.leases["ds"].now("web").epoch, "db": self.host.leases["other"].now("db").epoch}


async def test_what_could_not_be_read_at_the_start_is_settled_when_it_can() -> None:
    left = Left()
    await left.begin()
    left.host.leases["ds"].is_broken = True
    await left.adoption.tidy()
    assert (left.epochs(), left.tidied) == ({"web": 1, "db": 2}, ["db"])
    await left.settle()
    assert left.epochs()["web"] == 1
    left.host.leases["ds"].is_broken = False
    for _ in range(3):
        await left.settle()
    assert (left.epochs(), left.tidied) == ({"web": 2, "db": 2}, ["db", "web"])
    assert left.host.leases["ds"].now("web").is_failure


async def test_a_machine_that_may_run_unclaimed_keeps_its_lease() -> None:
    """An heir whose claim was linked late: the lease is this host's already, and it is no guest yet."""
    left = Left()
    await left.begin()
    machine = FakeMachine("web", left.host.leases["ds"])
    left.host.vms.run_unclaimed(cast(Machine, machine), "ds")
    settle = left.adoption.handlers()["ha.settle"]
    await left.adoption.tidy()
    with pytest.raises(Refused):
        await settle({"vm": "web", "epoch": 1, "judge": "h2"})
    assert left.epochs()["web"] == 1
    await machine.kill()
    assert await settle({"vm": "web", "epoch": 1, "judge": "h2"}) == {"epoch": 2}


@pytest.mark.parametrize(
    ("wanted", "known_epoch", "is_failure"),
    [("running", 1, True), ("stopped", 1, False), ("stopped", 0, True)],
    ids=["nobody asked for it", "a user stopped it", "the registry never heard of its start"],
)
async def test_an_end_that_no_agent_watched_is_a_failure_unless_a_user_wanted_it(
    wanted: str, known_epoch: int, is_failure: bool
) -> None:
    left = Left()
    await left.begin()
    record = left.host.inventory.vm("web").model_copy(update={"wanted": wanted, "epoch": known_epoch})
    await left.host.inventory.put("vms/web", record)
    await left.adoption.tidy()
    lease = left.host.leases["ds"].now("web")
    assert (lease.epoch, lease.state, lease.is_failure) == (2, LeaseState.RELEASED, is_failure)


async def test_leases_of_another_boot_wait_until_it_is_known_that_nobody_beats_under_this_name() -> None:
    left = Left()
    await left.begin()
    known: set[str] = {"other"}
    left.host.vms.ends.is_alone_on = lambda datastore: datastore in known
    left.host.leases["ds"].link("web", Holder(host=ME.host, boot_id="of another boot"))
    await left.adoption.tidy()
    await left.settle()
    with pytest.raises(Unreachable, match="still beats on datastore ds"):
        await left.adoption.handlers()["ha.settle"]({"vm": "web", "epoch": 2, "judge": "h2"})
    left.adoption.known_alone("other")
    await left.adoption.looks.over()
    assert (left.epochs(), left.tidied) == ({"web": 2, "db": 2}, ["db"])
    known.add("ds")
    left.adoption.known_alone("ds")
    await left.adoption.looks.over()
    assert (left.epochs(), left.tidied) == ({"web": 3, "db": 2}, ["db", "web"])


async def test_nothing_is_settled_before_the_qemus_that_are_here_were_found() -> None:
    left = Left()
    await left.begin()
    left.adoption.known_alone("ds")
    await left.adoption.looks.over()
    assert left.epochs() == {"web": 1, "db": 1}
